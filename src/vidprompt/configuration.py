"""Configuration: Hydra composes `params/`, and a typo is an error that lists the valid choices."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from vidprompt.atomic import digest
from vidprompt.errors import UserError

PARAMS = "params"
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

    Raises UserError for an unknown key, an unknown choice of a group, or a value of the wrong form.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    folder = params_folder()
    groups = {
        path.name: sorted(file.stem for file in path.glob("*.yaml"))
        for path in sorted(folder.iterdir())
        if path.is_dir()
    }
    overrides = [*_implied_protocol(overrides, groups.get("protocol", [])), *overrides]
    pairs = [_split(override) for override in overrides]
    _check_choices(pairs, groups)
    chosen = dict(pairs)
    implied = [
        (group, choice)
        for group, choice in _dataset_choices(folder, chosen.get("dataset")).items()
        if group not in chosen
    ]
    _check_choices(implied, groups)
    overrides = [*(f"{group}={choice}" for group, choice in implied), *overrides]
    pairs = [*implied, *pairs]
    choices = [f"{key}={value}" for key, value in pairs if key in groups]
    with initialize_config_dir(version_base="1.3", config_dir=str(folder)):
        try:
            shape = hydra_compose("config", overrides=choices)
            for key, _ in pairs:
                if key not in groups:
                    _check_key(key, shape)
            config = hydra_compose("config", overrides=list(overrides))
        except (HydraException, OmegaConfBaseException) as error:
            first = str(error).strip().splitlines()[0]
            raise UserError(f"configuration: {first}") from error
    given = {key.removeprefix("protocol.") for key, _ in pairs if key.startswith("protocol.")}
    config.protocol = with_own_numbers(config.protocol, config.dataset, given)
    return config


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
            raise UserError(f"{where}: unknown {key!r}: {_choices(key, valid)}")
        if key not in given:
            merged[key] = value
    return merged


def _check_choices(pairs: Sequence[tuple[str, str]], groups: Mapping[str, Sequence[str]]) -> None:
    for key, value in pairs:
        if key in groups and value not in groups[key]:
            raise UserError(f"{key}={value}: {_choices(value, groups[key])}")


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


def _implied_protocol(overrides: Sequence[str], protocols: Sequence[str]) -> list[str]:
    """`split=few_shot_2shot_seed1` implies `protocol=few_shot`: split files are named after theirs."""
    given = dict(_split(override) for override in overrides)
    if "protocol" in given or "split" not in given:
        return []
    return [f"protocol={name}" for name in protocols if given["split"].startswith(name)]


def _split(override: str) -> tuple[str, str]:
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise UserError(f"{override!r} is not of the form key=value")
    return key, value


def _check_key(key: str, shape: Any) -> None:
    from omegaconf import DictConfig

    node, walked = shape, ""
    for part in key.split("."):
        if not isinstance(node, DictConfig):
            raise UserError(f"{key}: {walked} is a value, it has no {part!r} in it")
        if part not in node:
            inside = f"{walked}." if walked else ""
            valid = [f"{inside}{name}" for name in sorted(str(name) for name in node)]
            raise UserError(f"unknown key {key!r}: {_choices(f'{inside}{part}', valid)}")
        node, walked = node._get_node(part), f"{walked}.{part}".lstrip(".")


def _choices(wrong: str, valid: Sequence[str]) -> str:
    near = difflib.get_close_matches(wrong, valid, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"{hint}valid: {', '.join(valid)}"


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
