"""Configuration: Hydra chooses the files of `params/`, which are merged once, each value with its source.

A file of a group is chosen by, the first that does: the command line, the experiment, the dataset's
`pipeline`, for persons the views `tracklets`, the method's `pipeline` (its own texts and views), config.yaml.

Files are the project's, and those that plug-ins' packages bring (`config/plugins.py`): of one name, the
project's counts.

Later layers win: the chosen files in the order of Hydra's defaults list (config.yaml's groups, the recipe,
the experiment), then a dataset's own numbers of its protocol (`dataset.protocols`) and the trainer's
(`by_protocol`), except for keys that the experiment or the command line sets, and the command line.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vidprompt.config.file_names import (
    NAMED_GROUPS,
    check_distinct,
    check_name,
    check_unpacked_root,
)
from vidprompt.config.layers import OPEN, Composition, Layers, check_key, leaves
from vidprompt.config.names import PROTOCOLS
from vidprompt.config.overrides import override_of, split_override, with_home
from vidprompt.config.params_files import (
    find_params,
    params_file,
    params_folder,
    params_names,
    read_yaml,
)
from vidprompt.config.plugins import package_params
from vidprompt.config.schema import (
    Config,
    DatasetConfig,
    ProtocolConfig,
    Protocols,
    protocol_config,
)
from vidprompt.files.hashes import digest, sha256
from vidprompt.system.errors import UserError, first_line
from vidprompt.system.suggestions import check_choice, suggestion

RECIPE = "recipe"  # a group that follows the trainer and the method, never chosen by itself
NO_GROUPS = (RECIPE, "published", "tune")  # folders of params/ whose files are not chosen
# in a dataset's `pipeline`, each a file or a file a method
STAGE_GROUPS = ("backbone", "frames", "prompts", "trainer", "views")
METHOD_GROUPS = ("prompts", "views")  # in a method's `pipeline`
TRACKLETS = "tracklets"  # the views of re-identification, whichever method

Override = tuple[str, str]  # key, value


def compose(overrides: Sequence[str] = ()) -> Config:
    """The configuration of a command with `key=value` overrides.

    Raises UserError, one line, for an unknown key, an unknown file of a group, or a wrong value.
    """
    return Config.of(compose_values(overrides).values)


def compose_values(overrides: Sequence[str] = ()) -> Composition:
    """As `compose`, before types are checked, with the source of every value."""
    folder = params_folder()
    groups = {
        path.name: params_names(path.name)
        for path in sorted(folder.iterdir())
        if path.is_dir() and path.name not in NO_GROUPS
    }
    given = [split_override(override) for override in overrides]
    _check_choices(given, groups)
    experiment = _Experiment.read(dict(given).get("experiment"))
    chosen = _chosen_files(folder, groups, given, experiment)
    assigned = [(key, value) for key, value in given if key not in groups]
    return _merge(folder, chosen, assigned, experiment.keys)


def config_hash(config: Config, *groups: str) -> str:
    """Short hash of the named groups of a configuration: what a result was made with."""
    return digest({group: config.values[group] for group in groups})


def protocols_of(config: Config) -> Protocols:
    """Each protocol's parameters: `config.protocol` as it is, others from params/protocol with the
    dataset's own numbers. A dataset leaves a protocol out by `protocols: {NAME: null}`.

    Raises UserError for an unknown protocol or key in `dataset.protocols`.
    """
    own = config.dataset.protocols
    if unknown := sorted(set(own) - set(PROTOCOLS)):
        raise UserError(
            f"dataset.protocols: unknown {unknown[0]!r}: {suggestion(unknown[0], PROTOCOLS)}"
        )
    found: dict[str, ProtocolConfig] = {}
    for name in PROTOCOLS:
        if name == config.protocol.name:
            if own.get(name, {}) is not None:
                found[name] = config.protocol
        elif (numbers := own.get(name, {})) is not None:
            usual = read_yaml(params_folder() / "protocol" / f"{name}.yaml")
            for key in numbers:
                if key not in usual:
                    where = f"dataset.protocols.{name}"
                    raise UserError(f"{where}: unknown {key!r}: {suggestion(key, sorted(usual))}")
            found[name] = protocol_config({**usual, **numbers}, f"dataset.protocols.{name}")
    return Protocols(**found)  # type: ignore[arg-type]


# -- which files ----------------------------------------------------------------------------------


def _chosen_files(
    folder: Path,
    groups: Mapping[str, Sequence[str]],
    given: Sequence[Override],
    experiment: _Experiment,
) -> list[Override]:
    """Group → file, where it is not config.yaml's: of the command line, else of the experiment, else the
    protocol that the split's name begins with, else of the dataset's `pipeline`, else of the method's."""
    chosen = experiment.choices | dict(given)
    if "protocol" not in chosen:
        split = chosen.get("split", experiment.split)
        names = [name for name in groups.get("protocol", []) if split.startswith(name)]
        chosen |= {"protocol": names[-1]} if names else {}
    usual = _defaults(read_yaml(folder / "config.yaml"))
    dataset, method, protocol = (
        chosen.get(group, usual[group]) for group in ("dataset", "method", "protocol")
    )
    own = _pipeline(params_file(f"dataset/{dataset}"))
    pipeline = _method_choices(method, protocol) | _of_method(own, method)
    for group in {**experiment.choices, **pipeline}:
        if group not in groups:
            raise UserError(f"unknown key {group!r}: {suggestion(group, sorted(groups))}")
    pairs = [(key, value) for key, value in (pipeline | chosen).items() if key in groups]
    _check_choices(pairs, groups)
    return pairs


def _pipeline(file: Path) -> dict[str, Any]:
    """The `pipeline` of a dataset's or a method's file."""
    return dict(read_yaml(file).get("pipeline") or {}) if file.is_file() else {}


def _of_method(pipeline: Mapping[str, Any], method: str) -> dict[str, str]:
    """Group → file of a dataset's `pipeline`, where a group may have a file a method: {vita_clip: centre}.

    Raises UserError for an unknown method.
    """
    choices = {}
    for group, name in pipeline.items():
        if isinstance(name, Mapping):
            for one in name:
                check_choice(f"pipeline.{group}", one, params_names("method"))
        chosen = name.get(method) if isinstance(name, Mapping) else name
        if chosen is not None:
            choices[str(group)] = str(chosen)
    return choices


def _method_choices(method: str, protocol: str) -> dict[str, str]:
    """Group → file that a method goes with, on a dataset that does not choose. Raises UserError.

    Persons are looked at alike by all methods, but for those of which nothing is trained: their one encoding
    serves every protocol.
    """
    file = params_file(f"method/{method}")
    content = read_yaml(file) if file.is_file() else {}
    choices = dict(content.get("pipeline") or {})
    for group in choices:
        check_choice(f"{file}: pipeline", group, METHOD_GROUPS)
    trained = content.get("objective") is not None
    tracklets = {"views": TRACKLETS} if protocol == "reid" and trained else {}
    return {str(group): str(name) for group, name in choices.items()} | tracklets


@dataclass(frozen=True)
class _Experiment:
    """A file of params/experiment: the files it chooses, the keys it sets, and its split."""

    choices: dict[str, str] = field(default_factory=dict)
    keys: frozenset[str] = frozenset()
    split: str = ""

    @classmethod
    def read(cls, name: str | None) -> _Experiment:
        """Raises UserError when the file is not a mapping."""
        if name in (None, "null"):
            return cls()
        content = read_yaml(params_file(f"experiment/{name}"))
        choices = _defaults(content)
        content.pop("defaults", None)
        keys = frozenset(leaves(content))
        return cls({"experiment": str(name)} | choices, keys, str(content.get("split", "")))


def stage_choices(dataset: DatasetConfig, method: str, protocol: str) -> dict[str, str]:
    """Group → file that a dataset's stages of a method and a protocol read: of the dataset's `pipeline`,
    else of the method's, else what config.yaml chooses."""
    usual = _defaults(read_yaml(params_folder() / "config.yaml"))
    own = _of_method(dataset.pipeline, method)
    chosen = usual | _method_choices(method, protocol) | own
    return {group: chosen[group] for group in STAGE_GROUPS}


def _defaults(content: Mapping[str, Any]) -> dict[str, str]:
    """Group → file of the entries of a file's `defaults` that name a group."""
    return {
        str(group).removeprefix("override ").lstrip("/"): str(choice)
        for one in content.get("defaults", [])
        if isinstance(one, dict)
        for group, choice in one.items()
    }


def _check_choices(pairs: Sequence[Override], groups: Mapping[str, Sequence[str]]) -> None:
    for key, value in pairs:
        if key in groups:
            check_choice(key, value, groups[key])


# -- merging --------------------------------------------------------------------------------------


def _merge(
    folder: Path,
    chosen: Sequence[Override],
    assigned: Sequence[Override],
    experiment_keys: Collection[str],
) -> Composition:
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from hydra.types import RunMode
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    layers = Layers()
    files: dict[str, str] = {}  # group → the file chosen
    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(folder)):
            loader = GlobalHydra.instance().config_loader()
            choices = [override_of(key, value) for key, value in chosen if value != "null"]
            choices += _search_path()
            for one in loader.compute_defaults_list("config", choices, RunMode.RUN).defaults:
                path = str(one.config_path)
                if not path.startswith("hydra/"):
                    layers.add_file(*find_params(path), one.package)
                    group, _, stem = path.partition("/")
                    files |= {group: stem} if stem else {}
        if "dataset" in files:
            layers.name_by_file("dataset", files["dataset"])
        layers.remove("method.pipeline")  # followed already
        for key, _ in assigned:
            if key.rpartition(".")[0] not in OPEN:
                check_key(key, layers.tree)
        OmegaConf.set_struct(layers.tree, True)
        for key, value in assigned:
            layers.assign(key, value)
    except (UnicodeDecodeError, YAMLError):
        for place in (folder, *(one.folder for one in package_params())):
            for file in sorted(place.rglob("*.yaml")):
                read_yaml(file)  # the one that cannot be read, by name and line
        raise
    except (HydraException, OmegaConfBaseException) as error:
        first = first_line(error)
        raise UserError(f"configuration: {first}") from error
    kept = {key for key, _ in assigned} | set(experiment_keys)
    protocol = str(layers.tree.protocol.name)
    own = f"dataset.protocols.{protocol}"
    layers.merge_own("protocol", own, f"protocols.{protocol}", kept)
    own = f"trainer.by_protocol.{protocol}"
    layers.merge_own("trainer", own, f"by_protocol.{protocol}", kept)
    layers.remove("trainer.by_protocol")
    composition = layers.composition()
    composition = Composition(with_home(composition.values), composition.sources)
    _check_paths(files, composition)
    return _with_content(composition)


def _search_path() -> list[str]:
    """Where Hydra looks for files that the project has not, as overrides."""
    places = [override_of("", f"file://{one.folder}")[1:] for one in package_params()]
    return [f"hydra.searchpath=[{','.join(places)}]"] if places else []


def _check_paths(files: Mapping[str, str], composition: Composition) -> None:
    """Refuse a configuration that would write to the folders of another. Raises UserError."""
    for group in NAMED_GROUPS:
        if group in files:
            check_distinct(group, files[group], params_names(group))
            name = composition.values[group].get("name")
            check_name(group, files[group], name, composition.sources.get(f"{group}.name", ""))
    if composition.values.get("dataset", {}).get("archives"):
        others = {
            name: read_yaml(params_file(f"dataset/{name}"))
            for name in params_names("dataset")
            if name != files["dataset"]
        }
        check_unpacked_root(files["dataset"], composition.values["dataset"], others)


def _with_content(composition: Composition) -> Composition:
    """With the hash of the file of descriptions, so that all identities follow what is in it."""
    values, sources = composition.values, composition.sources
    file = values["prompts"].get("descriptions")
    if isinstance(file, str) and Path(file).is_file():
        prompts = values["prompts"] | {"descriptions_sha256": sha256(file)[:12]}
        key = "prompts.descriptions_sha256"
        return Composition(values | {"prompts": prompts}, sources | {key: file})
    return composition
