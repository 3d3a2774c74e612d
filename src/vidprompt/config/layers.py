"""Merge the layers of a configuration: files one after another, each value with its source."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidprompt.config.overrides import parse_value
from vidprompt.config.params_files import find_params
from vidprompt.system.errors import UserError, first_line
from vidprompt.system.suggestions import suggestion

if TYPE_CHECKING:
    from omegaconf import DictConfig

OPEN = (
    "trainer.lr_scale",
)  # mappings with keys of the user's (a part of the model), checked later
# keys that no file sets, as only one choice of another key knows them: mapping → keys
OPTIONAL = {"method.objective_options": ("bias",)}
COMMAND_LINE = "command line"


@dataclass(frozen=True)
class Composition:
    """Resolved values, and the source of each: dotted name → a file of params/, or the command line."""

    values: dict[str, Any]
    sources: dict[str, str]


class Layers:
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
            self._note_leaf(f"{group}.name", find_params(f"{group}/{stem}")[1])

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
            raise UserError(f"{key}={value}: {first_line(error)}") from error
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
            for leaf in leaves(value, f"{name}.") if isinstance(value, dict) else [name]:
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
        return Composition(values, {name: self.source(name) for name in leaves(values)})

    def _note(self, value: Any, key: str, source: str) -> None:
        """Write down that `value`, merged in at `key`, comes from `source`."""
        if not isinstance(value, dict):
            self._note_leaf(key, source)
            return
        prefix = f"{key}." if key else ""
        for leaf in leaves(value, prefix):
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


def leaves(node: Mapping[str, Any], inside: str = "") -> Iterator[str]:
    """Dotted names of all values of a mapping; an empty mapping is a value."""
    for key, value in node.items():
        name = f"{inside}{key}"
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{name}.")
        else:
            yield name


def check_key(key: str, tree: DictConfig) -> None:
    """Raises UserError, with the valid names, for a dotted key that the tree does not have."""
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
