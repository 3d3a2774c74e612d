"""Which source files a stage of the pipeline runs, and a hash of them.

A stage's code is the closure of its imports inside the package, read from the syntax trees: imports inside
functions and under `TYPE_CHECKING` count. This is the one definition: dvc.yaml's dependencies, checkpoints,
stored features, sweeps, reviews and the registry use it. `system/` (errors, progress, logging, locks,
processes) and `tracking/` are left out, because nothing of them enters a file that a stage writes.

The code of a plug-in is all files of its package. For DVC it is `plugins/<package>` in the project, a link to
the package (`project/code_link.py`).
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePosixPath

import vidprompt
from vidprompt.config.plugins import Plugin
from vidprompt.files.hashes import digest
from vidprompt.system.errors import UserError
from vidprompt.system.suggestions import suggestion

PACKAGE = "vidprompt"
SOURCE_FOLDER = f"src/{PACKAGE}"  # of the package in a repository of ours
LEFT_OUT = ("system", "tracking")  # folders
STAGE_FOLDER = "pipeline/stages"
ROOT_MODULE = "__init__.py"
COMPOSITION = "config/compose.py"  # every stage's configuration comes from there


@dataclass(frozen=True)
class SourceTree:
    """The package's files, on disk or in a commit: `files` relative to the package, and how to read one."""

    files: frozenset[str]
    read: Callable[[str], bytes]
    _imports: dict[str, frozenset[str]] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of_folder(cls, folder: Path) -> SourceTree:
        """The sources in `folder` (`src/vidprompt`, or where the package is installed)."""
        files = frozenset(
            path.relative_to(folder).as_posix()
            for path in folder.rglob("*")
            if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith(".")
        )
        return cls(files, lambda name: (folder / name).read_bytes())

    def stages(self) -> list[str]:
        """Names of the stages, sorted: a module each."""
        folder = PurePosixPath(STAGE_FOLDER)
        paths = (PurePosixPath(name) for name in self.files)
        return sorted(p.stem for p in paths if p.parent == folder and p.name != "__init__.py")

    def stage_files(self, stage: str) -> frozenset[str]:
        """The files that `vidprompt <stage>` runs. UserError for an unknown stage."""
        if stage not in self.stages():
            raise UserError(f"there is no stage {stage!r}: {suggestion(stage, self.stages())}")
        return self.closure([f"{STAGE_FOLDER}/{stage}.py", COMPOSITION])

    def closure(self, files: Iterable[str]) -> frozenset[str]:
        """`files` and all that they import, directly or not, but for `system/` and `tracking/`.

        Files beside a module that are not Python (templates) belong to it; `__init__.py` files without
        code are left out.
        """
        reached: set[str] = set()
        waiting = list(files)
        while waiting:
            file = waiting.pop()
            if file not in reached and file.split("/")[0] not in LEFT_OUT:
                reached.add(file)
                waiting += self.imported_by(file)
        folders = {PurePosixPath(file).parent for file in reached}
        beside = {
            name
            for name in self.files
            if not name.endswith(".py") and PurePosixPath(name).parent in folders
        }
        return frozenset(name for name in reached | beside if not self._is_empty(name))

    def imported_by(self, file: str) -> frozenset[str]:
        """The files of the package that one file imports, those of the packages around them too."""
        if file not in self._imports:
            self._imports[file] = frozenset(self._read_imports(file))
        return self._imports[file]

    def _read_imports(self, file: str) -> Iterator[str]:
        names = set()
        package = [PACKAGE, *PurePosixPath(file).parent.parts]
        tree = ast.parse(self.read(file), file)
        if file == ROOT_MODULE:
            tree.body = [node for node in tree.body if not _gives_attributes(node)]
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                above = package[: len(package) - node.level + 1] if node.level else []
                module = ".".join([*above, *([node.module] if node.module else [])])
                names |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
        for name in names:
            parts = name.split(".")
            if parts[0] == PACKAGE:
                for count in range(1, len(parts) + 1):
                    yield from self._module_file(parts[1:count])

    def _module_file(self, parts: list[str]) -> Iterator[str]:
        for name in ("/".join(parts) + ".py", "/".join([*parts, "__init__.py"])):
            if name in self.files:
                yield name

    def _is_empty(self, name: str) -> bool:
        """Is it an `__init__.py` that does nothing (a docstring at most)?"""
        if PurePosixPath(name).name != "__init__.py":
            return False
        body = ast.parse(self.read(name), name).body
        return all(isinstance(node, ast.Expr) for node in body)

    def code_hash(self, stage: str) -> str:
        """Short hash (12 hex digits) of the names and bytes of a stage's files."""
        return self.hash_of(self.stage_files(stage))

    def hash_of(self, files: Iterable[str]) -> str:
        """Short hash (12 hex digits) of the names and bytes of some files."""
        whole = hashlib.sha256()
        for name in sorted(files):
            content = self.read(name)
            whole.update(f"{name}\0{len(content)}\0".encode())
            whole.update(content)
        return whole.hexdigest()[:12]

    def dependencies(self, stage: str) -> list[str]:
        """A stage's files as paths of the repository, sorted: a folder where all of it is the stage's."""
        return [f"{SOURCE_FOLDER}/{name}" for name in sorted(self._cover(self.stage_files(stage)))]

    def _cover(self, wanted: frozenset[str]) -> set[str]:
        """The fewest folders and files that hold `wanted` and no other file with code."""
        counted = {name for name in self.files if not self._is_empty(name)}
        outside = counted - wanted
        mixed = {parent for name in outside for parent in PurePosixPath(name).parents}
        cover = set()
        for name in wanted:
            parents = [p for p in PurePosixPath(name).parents if p not in mixed]
            cover.add(parents[-1].as_posix() if parents else name)
        return cover


def _gives_attributes(node: ast.stmt) -> bool:
    """Is it the package's `__getattr__`? It imports for users of the package what no stage uses."""
    return isinstance(node, ast.FunctionDef) and node.name == "__getattr__"


@cache
def running_sources() -> SourceTree:
    """The sources of the package that is running."""
    return SourceTree.of_folder(Path(vidprompt.__file__).parent)


@cache
def code_hash(stage: str, used: tuple[Plugin, ...] = ()) -> str:
    """Hash of the code that a stage of the running package runs, and of the plug-ins that it uses."""
    own = running_sources().code_hash(stage)
    if not used:
        return own
    return digest([own, {one.package: plugin_hash(one) for one in used}])


@cache
def plugin_hash(plugin: Plugin) -> str:
    """Short hash of all files of a plug-in's package (of a single module: of its file)."""
    tree = plugin_sources(plugin)
    return tree.hash_of(tree.files)


def plugin_sources(plugin: Plugin) -> SourceTree:
    """The files of a plug-in's package. Raises UserError where it is not found."""
    path = plugin.path
    if path is None:
        raise UserError(
            f"{plugin.title}: no package {plugin.package} is installed: install it again"
        )
    if path.is_dir():
        return SourceTree.of_folder(path)
    return SourceTree(frozenset({path.name}), lambda _: path.read_bytes())


def code_version(stage: str = "train", used: tuple[Plugin, ...] = ()) -> str:
    """The hash of a stage's code: what a checkpoint was made with.

    A hash, and no commit or version, which come from git: what is equal gives equal bytes, in a clone without
    git or tags as well.
    """
    return code_hash(stage, used)


# -- dvc.yaml ---------------------------------------------------------------------------------------

_STAGE = re.compile(r"^  (?P<name>\w+):")
_COMMAND = re.compile(r"^ +cmd: vidprompt (?P<stage>[\w-]+)")
_DEPENDENCY = re.compile(rf"^(?P<indent> +)- {SOURCE_FOLDER}(?:/\S*)?\s*$")


def with_code_dependencies(text: str, tree: SourceTree) -> str:
    """dvc.yaml's text with the code of every stage as its last dependencies; all else as it is.

    A stage is one whose command is `vidprompt <stage> …`, with a block list `deps:`.
    """
    known, stage = tree.stages(), ""
    lines: list[str] = []
    inside = False  # a list of dependencies, of a stage of ours
    indent = ""
    for line in [*text.splitlines(), ""]:
        if found := _STAGE.match(line):
            stage = ""
        if (found := _COMMAND.match(line)) and found["stage"] in known:
            stage = found["stage"]
        if inside and not line.startswith(f"{indent}  - ") and not line.lstrip().startswith("#"):
            lines += [f"{indent}  - {path}" for path in tree.dependencies(stage)]
            inside = False
        if not (inside and _DEPENDENCY.match(line)):
            lines.append(line)
        if stage and line.strip() == "deps:":
            inside, indent = True, line[: line.index("deps:")]
    return "\n".join(lines).rstrip("\n") + "\n"
