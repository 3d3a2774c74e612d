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

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidprompt.config.file_names import (
    NAMED_GROUPS,
    check_distinct,
    check_name,
    check_unpacked_root,
)
from vidprompt.config.names import PROTOCOLS
from vidprompt.config.overrides import override_of, parse_value, split_override, with_home
from vidprompt.config.plugins import package_params
from vidprompt.config.schema import (
    Config,
    DatasetConfig,
    ProtocolConfig,
    Protocols,
    protocol_config,
)
from vidprompt.files.hashes import digest, sha256
from vidprompt.files.text import read_text
from vidprompt.system.errors import UserError
from vidprompt.system.suggestions import check_choice, suggestion

if TYPE_CHECKING:
    from omegaconf import DictConfig

PARAMS = "params"
RECIPE = "recipe"  # a group that follows the trainer and the method, never chosen by itself
NO_GROUPS = (RECIPE, "published", "tune")  # folders of params/ whose files are not chosen
OPEN = (
    "trainer.lr_scale",
)  # mappings with keys of the user's (a part of the model), checked later
# keys that no file sets, as only one choice of another key knows them: mapping → keys
OPTIONAL = {"method.objective_options": ("bias",)}
# in a dataset's `pipeline`, each a file or a file a method
STAGE_GROUPS = ("backbone", "frames", "prompts", "trainer", "views")
METHOD_GROUPS = ("prompts", "views")  # in a method's `pipeline`
TRACKLETS = "tracklets"  # the views of re-identification, whichever method
COMMAND_LINE = "command line"

Override = tuple[str, str]  # key, value


def compose(overrides: Sequence[str] = ()) -> Config:
    """The configuration of a command with `key=value` overrides.

    Raises UserError, one line, for an unknown key, an unknown file of a group, or a wrong value.
    """
    return Config.of(compose_values(overrides).values)


@dataclass(frozen=True)
class Composition:
    """Resolved values, and the source of each: dotted name → a file of params/, or the command line."""

    values: dict[str, Any]
    sources: dict[str, str]


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


def params_folder() -> Path:
    """`params/` of the current directory, which has to be a project's root. Raises UserError."""
    folder = Path.cwd() / PARAMS
    if not (folder / "config.yaml").is_file():
        raise UserError(
            f"no {PARAMS}/config.yaml in {Path.cwd()}: run vidprompt in a project's root"
        )
    return folder


def params_file(name: str) -> Path:
    """The file `params/<name>.yaml` (`method/ez_clip`): the project's, else that of a plug-in's package.

    The project's, where there is none of that name. Raises UserError where two packages have one.
    """
    file, _ = _find_params(name)
    return file


def params_names(group: str) -> list[str]:
    """The files of a group by name, the project's and those of plug-ins' packages; sorted."""
    folders = [params_folder(), *(one.folder for one in package_params())]
    return sorted({file.stem for folder in folders for file in (folder / group).glob("*.yaml")})


def _find_params(name: str) -> tuple[Path, str]:
    """`params_file`, and its name in messages."""
    own = params_folder() / f"{name}.yaml"
    if not own.is_file():
        found = [one for one in package_params() if (one.folder / f"{name}.yaml").is_file()]
        if len(found) > 1:
            origins = " and ".join(one.origin for one in found)
            raise UserError(
                f"{PARAMS}/{name}.yaml is in {origins}: uninstall one, or write the project's own"
            )
        if found:
            return found[0].folder / f"{name}.yaml", found[0].label(name)
    return own, f"{PARAMS}/{name}.yaml"


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
        keys = frozenset(_leaves(content))
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


def read_yaml(file: Path) -> dict[str, Any]:
    """A file of params/. Raises UserError, naming the line, for one that is not YAML, or no mapping."""
    import yaml

    try:
        content = yaml.safe_load(read_text(file, only_utf8=True)) or {}
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise UserError(f"{file}{line} is not YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:  # a character that YAML does not allow
        raise UserError(f"{file} is not YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(content, dict):
        raise UserError(f"{file} is not a mapping")
    return content


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

    layers = _Layers()
    files: dict[str, str] = {}  # group → the file chosen
    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(folder)):
            loader = GlobalHydra.instance().config_loader()
            choices = [override_of(key, value) for key, value in chosen if value != "null"]
            choices += _search_path()
            for one in loader.compute_defaults_list("config", choices, RunMode.RUN).defaults:
                path = str(one.config_path)
                if not path.startswith("hydra/"):
                    layers.add_file(*_find_params(path), one.package)
                    group, _, stem = path.partition("/")
                    files |= {group: stem} if stem else {}
        if "dataset" in files:
            layers.name_by_file("dataset", files["dataset"])
        layers.remove("method.pipeline")  # followed already
        for key, _ in assigned:
            if key.rpartition(".")[0] not in OPEN:
                _check_key(key, layers.tree)
        OmegaConf.set_struct(layers.tree, True)
        for key, value in assigned:
            layers.assign(key, value)
    except (UnicodeDecodeError, YAMLError):
        for place in (folder, *(one.folder for one in package_params())):
            for file in sorted(place.rglob("*.yaml")):
                read_yaml(file)  # the one that cannot be read, by name and line
        raise
    except (HydraException, OmegaConfBaseException) as error:
        first = str(error).strip().splitlines()[0]
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


class _Layers:
    """The tree under construction, and the source of each of its leaves by dotted name."""

    def __init__(self) -> None:
        from omegaconf import OmegaConf

        self.tree: DictConfig = OmegaConf.create()
        self.sources: dict[str, str] = {}

    def add_file(self, file: Path, name: str, package: str | None) -> None:
        """Merge a file of params/ into the part of the tree that `package` names ("": all of it)."""
        from omegaconf import DictConfig, OmegaConf

        content = OmegaConf.load(file)
        if not isinstance(content, DictConfig):
            raise UserError(f"{file} is not a mapping")
        content.pop("defaults", None)
        self.tree.merge_with(OmegaConf.create({package: content}) if package else content)
        self._note(OmegaConf.to_container(content), package or "", name)

    def name_by_file(self, group: str, stem: str) -> None:
        """Set a group's `name` to its file's, where the file leaves it out."""
        from omegaconf import OmegaConf

        if OmegaConf.select(self.tree, f"{group}.name") is None:
            OmegaConf.update(self.tree, f"{group}.name", stem, force_add=True)
            self._note_leaf(f"{group}.name", _find_params(f"{group}/{stem}")[1])

    def assign(self, key: str, value: str) -> None:
        """Set a key as the command line does, in Hydra's grammar of values."""
        from omegaconf import OmegaConf
        from omegaconf.errors import OmegaConfBaseException

        parsed = parse_value(key, value)
        mapping, _, last = key.rpartition(".")
        force = mapping in OPEN or last in OPTIONAL.get(mapping, ())
        try:
            OmegaConf.update(self.tree, key, parsed, merge=True, force_add=force)
        except OmegaConfBaseException as error:  # no such key in a mapping, or no mapping
            raise UserError(f"{key}={value}: {str(error).splitlines()[0]}") from error
        self._note(parsed, key, COMMAND_LINE)

    def merge_own(self, part: str, own: str, label: str, kept: Collection[str]) -> None:
        """Merge the mapping at the key `own` into the tree's `part`, except for the keys in `kept`.

        Raises UserError for a key that the part does not have.
        """
        from omegaconf import OmegaConf

        values = OmegaConf.select(self.tree, own)
        for key, value in _plain(values).items() if values is not None else ():
            self._merge_one(part, str(key), value, own, label, kept)

    def _merge_one(
        self, parent: str, key: str, value: Any, own: str, label: str, kept: Collection[str]
    ) -> None:
        from omegaconf import DictConfig, OmegaConf

        node, name = OmegaConf.select(self.tree, parent), f"{parent}.{key}"
        inside = name.partition(".")[2]  # of the part
        if key not in node.keys() and parent not in OPEN:  # noqa: SIM118
            raise UserError(f"{own}: unknown {inside!r}: {suggestion(key, sorted(map(str, node)))}")
        if isinstance(value, dict) and isinstance(node.get(key), DictConfig):
            for below, deeper in value.items():
                self._merge_one(name, str(below), deeper, own, label, kept)
        elif not any(name == one or name.startswith(f"{one}.") for one in kept):
            OmegaConf.update(self.tree, name, value, merge=False, force_add=True)
            source = self.source(f"{own}.{inside}")
            for leaf in _leaves(value, f"{name}.") if isinstance(value, dict) else [name]:
                self._note_leaf(leaf, f"{source} ({label})")

    def remove(self, key: str) -> None:
        """Take a mapping out of the tree, where it is there."""
        from omegaconf import OmegaConf, open_dict

        parent, _, last = key.rpartition(".")
        with open_dict(self.tree):
            OmegaConf.select(self.tree, parent).pop(last, None)

    def source(self, name: str) -> str:
        """Of a leaf: its own, or that of the mapping or list it is in."""
        while name not in self.sources and "." in name:
            name = name.rpartition(".")[0]
        return self.sources.get(name, "")

    def composition(self) -> Composition:
        """Raises UserError for an interpolation that leads nowhere."""
        values = _plain(self.tree)
        return Composition(values, {name: self.source(name) for name in _leaves(values)})

    def _note(self, value: Any, key: str, source: str) -> None:
        """Write down that `value`, merged in at `key`, comes from `source`."""
        if not isinstance(value, dict):
            self._note_leaf(key, source)
            return
        prefix = f"{key}." if key else ""
        for leaf in _leaves(value, prefix):
            self._note_leaf(leaf, source)
        if not value and key and not any(name.startswith(prefix) for name in self.sources):
            self._note_leaf(key, source)

    def _note_leaf(self, name: str, source: str) -> None:
        parts = name.split(".")
        for count in range(1, len(parts)):  # a mapping takes the place of a value
            self.sources.pop(".".join(parts[:count]), None)
        self.sources[name] = source


def _plain(node: Any) -> dict[str, Any]:
    """A resolved mapping of OmegaConf's as plain dicts and lists."""
    from omegaconf import OmegaConf

    value = OmegaConf.to_container(node, resolve=True)
    if not isinstance(value, dict):
        raise UserError(f"the configuration has {value} where a mapping is needed")
    return {str(key): item for key, item in value.items()}


def _leaves(node: Mapping[str, Any], inside: str = "") -> Iterator[str]:
    """Dotted names of all values of a mapping; an empty mapping is a value."""
    for key, value in node.items():
        name = f"{inside}{key}"
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{name}.")
        else:
            yield name


def _check_key(key: str, tree: DictConfig) -> None:
    from omegaconf import DictConfig

    node: Any = tree
    walked = ""
    for part in key.split("."):
        if not isinstance(node, DictConfig):
            raise UserError(f"{key}: {walked} is a value, it has no {part!r} in it")
        # its keys are those without a value (???) too
        known = {*map(str, node.keys()), *OPTIONAL.get(walked, ())}
        if part not in known:
            inside = f"{walked}." if walked else ""
            names = [f"{inside}{name}" for name in sorted(known)]
            raise UserError(f"unknown key {key!r}: {suggestion(f'{inside}{part}', names)}")
        node, walked = node._get_node(part), f"{walked}.{part}".lstrip(".")
