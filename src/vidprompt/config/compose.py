"""Configuration: Hydra composes `params/`, and a typo is an error that lists the valid choices."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vidprompt.files.hashes import digest
from vidprompt.system.errors import UserError
from vidprompt.system.suggestions import check_choice, suggestion

PARAMS = "params"
RECIPE = "recipe"  # a group that follows the trainer and the method, never chosen by itself
OPEN = (
    "trainer.lr_scale",
)  # mappings that take names of the user's (a part of the model), checked later
STAGE_GROUPS = ("backbone", "frames", "prompts", "trainer", "views")  # that a dataset goes with


def params_folder() -> Path:
    """`params/` of the project stood in. Raises UserError elsewhere."""
    folder = Path.cwd() / PARAMS
    if not (folder / "config.yaml").is_file():
        raise UserError(
            f"no {PARAMS}/config.yaml in {Path.cwd()}: run vidprompt in a project's root"
        )
    return folder


def compose(overrides: Sequence[str] = ()) -> Any:
    """The configuration (an OmegaConf DictConfig, struct mode) with `key=value` overrides.

    Of the trainer's and the protocol's numbers, the command line has the last word, before it the
    experiment, before that the protocol's own numbers in the trainer (`by_protocol`) and the dataset's
    own numbers of the protocol. Raises UserError for an unknown key, an unknown choice of a group, or
    a value of the wrong form.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    folder = params_folder()
    groups = {
        path.name: sorted(file.stem for file in path.glob("*.yaml"))
        for path in sorted(folder.iterdir())
        if path.is_dir() and path.name != RECIPE
    }
    given = [_split(override) for override in overrides]
    _check_choices(given, groups)
    experiment = _Experiment.read(folder, dict(given).get("experiment"))
    chosen = experiment.choices | dict(given)
    if "protocol" not in chosen:
        chosen |= _implied_protocol(
            chosen.get("split", experiment.split), groups.get("protocol", [])
        )
    implied = {
        group: choice
        for group, choice in _dataset_choices(folder, chosen.get("dataset")).items()
        if group not in chosen
    }
    for group in {**experiment.choices, **implied}:
        if group not in groups:
            raise UserError(f"unknown key {group!r}: {suggestion(group, sorted(groups))}")
    chosen |= implied
    pairs = [(key, value) for key, value in chosen.items() if key in groups]
    _check_choices(pairs, groups)
    choices = [f"{key}={value}" for key, value in pairs]
    with initialize_config_dir(version_base="1.3", config_dir=str(folder)):
        try:
            shape = hydra_compose("config", overrides=choices)
            values = [(key, value) for key, value in given if key not in groups]
            for key, _ in values:
                if key.rpartition(".")[0] not in OPEN:
                    _check_key(key, shape)
            config = hydra_compose(
                "config", overrides=[*choices, *(_assigned(key, value) for key, value in values)]
            )
        except (HydraException, OmegaConfBaseException) as error:
            first = str(error).strip().splitlines()[0]
            raise UserError(f"configuration: {first}") from error
    set_here = {key for key, _ in values} | experiment.keys
    config.protocol = with_own_numbers(
        config.protocol, config.dataset, _below("protocol", set_here)
    )
    config.trainer = for_protocol(
        config.trainer, str(config.protocol.name), _below("trainer", set_here)
    )
    return config


@dataclass(frozen=True)
class _Experiment:
    """What a file of params/experiment says: choices of groups, and which keys it sets."""

    choices: dict[str, str] = field(default_factory=dict)
    keys: frozenset[str] = frozenset()
    split: str = ""

    @classmethod
    def read(cls, folder: Path, name: str | None) -> _Experiment:
        """Raises UserError when the file is not a mapping."""
        import yaml

        if name in (None, "null"):
            return cls()
        file = folder / "experiment" / f"{name}.yaml"
        content = yaml.safe_load(file.read_text()) or {}
        if not isinstance(content, dict):
            raise UserError(f"{file} is not a mapping")
        choices = {
            str(group).removeprefix("override ").lstrip("/"): str(choice)
            for one in content.pop("defaults", [])
            if isinstance(one, dict)
            for group, choice in one.items()
        }
        keys = frozenset(_leaves(content))
        return cls({"experiment": str(name)} | choices, keys, str(content.get("split", "")))


def _leaves(node: Mapping[str, Any], inside: str = "") -> Iterator[str]:
    """Dotted names of all values of a mapping."""
    for key, value in node.items():
        name = f"{inside}{key}"
        if isinstance(value, dict):
            yield from _leaves(value, f"{name}.")
        else:
            yield name


def _below(part: str, keys: Collection[str]) -> set[str]:
    """Of dotted keys, those in a part, without its name."""
    return {key.removeprefix(f"{part}.") for key in keys if key.startswith(f"{part}.")}


def for_protocol(trainer: Any, protocol: str, given: Collection[str] = ()) -> Any:
    """A trainer's numbers for a protocol: its `by_protocol` merged in, the dotted keys `given` excepted.

    What comes back has no `by_protocol`. Raises UserError for a key that the trainer has not.
    """
    from omegaconf import OmegaConf

    merged = trainer.copy()
    OmegaConf.set_struct(merged, False)
    own = merged.pop("by_protocol", None) or {}
    OmegaConf.set_struct(merged, True)
    for key, value in plain(own.get(protocol) or OmegaConf.create()).items():
        _merge_in(merged, str(key), value, "", given, f"trainer.by_protocol.{protocol}")
    return merged


def _merge_in(
    node: Any, key: str, value: Any, inside: str, given: Collection[str], where: str
) -> None:
    """Set `node.key`, mappings key by key; what is `given` stays."""
    from omegaconf import open_dict

    name = f"{inside}{key}"
    if key not in node.keys() and inside != "lr_scale.":  # noqa: SIM118
        raise UserError(f"{where}: unknown {name!r}: {suggestion(key, sorted(map(str, node)))}")
    if isinstance(value, dict) and key in node and hasattr(node[key], "keys"):
        for below, deeper in value.items():
            _merge_in(node[key], str(below), deeper, f"{name}.", given, where)
    elif not any(name == one or name.startswith(f"{one}.") for one in given):
        with open_dict(node):
            node[key] = value


def usual_protocol(name: str) -> Any:
    """A protocol's parameters as params/protocol has them, whatever the dataset."""
    from omegaconf import OmegaConf

    return OmegaConf.load(params_folder() / "protocol" / f"{name}.yaml")


def with_own_numbers(protocol: Any, dataset: Any, given: Collection[str] = ()) -> Any:
    """A protocol's parameters with those that `dataset.protocols` sets, the keys `given` excepted.

    Raises UserError for a key that the protocol has not.
    """
    own = dataset.protocols.get(protocol.name) or {}
    merged = protocol.copy()
    for key, value in own.items():
        if key not in protocol:
            where = f"dataset.protocols.{protocol.name}"
            valid = sorted(str(name) for name in protocol)
            raise UserError(f"{where}: unknown {key!r}: {suggestion(key, valid)}")
        if key not in given:
            merged[key] = value
    return merged


def _check_choices(pairs: Sequence[tuple[str, str]], groups: Mapping[str, Sequence[str]]) -> None:
    for key, value in pairs:
        if key in groups:
            check_choice(key, value, groups[key])


def _dataset_choices(folder: Path, dataset: str | None) -> dict[str, str]:
    """Group → file that a dataset goes with, as its `pipeline` says; the default dataset's are those
    of config.yaml."""
    import yaml

    if dataset is None:
        return {}
    content = yaml.safe_load((folder / "dataset" / f"{dataset}.yaml").read_text())
    choices = content.get("pipeline") or {} if isinstance(content, dict) else {}
    return {str(group): str(choice) for group, choice in choices.items()}


def stage_choices(dataset: Any) -> dict[str, str]:
    """Group → file that a dataset's stages read: its `pipeline`, else what config.yaml chooses."""
    import yaml

    defaults = yaml.safe_load((params_folder() / "config.yaml").read_text())["defaults"]
    usual = {
        group: str(choice)
        for one in defaults
        if isinstance(one, dict)
        for group, choice in one.items()
    }
    own = plain(dataset.pipeline)
    return {group: str(own.get(group, usual[group])) for group in STAGE_GROUPS}


def _implied_protocol(split: str, protocols: Sequence[str]) -> dict[str, str]:
    """`split=few_shot_2shot_seed1` implies `protocol=few_shot`: split files are named after theirs."""
    found = [name for name in protocols if split.startswith(name)]
    return {"protocol": found[-1]} if found else {}


def _split(override: str) -> tuple[str, str]:
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise UserError(f"{override!r} is not of the form key=value")
    return key, value


def _assigned(key: str, value: str) -> str:
    """In Hydra's form; `++` also sets a key that is not there yet."""
    return f"{'++' if key.rpartition('.')[0] in OPEN else ''}{key}={value}"


def _check_key(key: str, shape: Any) -> None:
    from omegaconf import DictConfig

    node, walked = shape, ""
    for part in key.split("."):
        if not isinstance(node, DictConfig):
            raise UserError(f"{key}: {walked} is a value, it has no {part!r} in it")
        if part not in node.keys():  # which has those without a value (???) too  # noqa: SIM118
            inside = f"{walked}." if walked else ""
            valid = [f"{inside}{name}" for name in sorted(str(name) for name in node)]
            raise UserError(f"unknown key {key!r}: {suggestion(f'{inside}{part}', valid)}")
        node, walked = node._get_node(part), f"{walked}.{part}".lstrip(".")


def plain(config: Any) -> dict[str, Any]:
    """A resolved configuration as plain dicts and lists."""
    from omegaconf import OmegaConf

    value = OmegaConf.to_container(config, resolve=True)
    if not isinstance(value, dict):
        raise UserError("the configuration is not a mapping")
    return {str(key): item for key, item in value.items()}


def config_hash(config: Any, *parts: str) -> str:
    """Short hash of the named parts of a configuration: what a result was made with."""
    whole = plain(config)
    return digest({part: whole[part] for part in parts})
