"""The files that a new project begins with: the package's own repository is such a project.

Most are the repository's files as they are: the wheel has copies of them (pyproject.toml lists which), a
checkout has the files themselves. Those that name the project are the templates beside this module.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from string import Template

import vidprompt
from vidprompt.provenance.code import SOURCE_FOLDER
from vidprompt.system.errors import UserError

HERE = Path(__file__).parent
COPIES = HERE / "skeleton"  # in a wheel
CHECKOUT = HERE.parents[2]
GENERATED = ("params/stages.yaml",)  # by `vidprompt activate`
TEMPLATES = {  # file beside this module → file of the project
    "README.md": "README.md",
    "ci.yml": ".github/workflows/ci.yml",
    "project.toml": "pyproject.toml",
}
_CODE_DEPENDENCY = re.compile(rb"^ +- %b(?:/\S*)?\s*\n" % SOURCE_FOLDER.encode(), re.MULTILINE)


def skeleton(name: str) -> dict[str, bytes]:
    """Path → content of the files of a project called `name`. UserError where the package lacks them."""
    files = {path: file.read_bytes() for path, file in _repository_files()}
    for template, path in TEMPLATES.items():
        text = (HERE / "templates" / template).read_text("utf-8")
        values = {"name": name, "package": distribution_name(name), "version": lowest_version()}
        files[path] = Template(text).substitute(values).encode()
    return dict(sorted(files.items()))


def _repository_files() -> Iterator[tuple[str, Path]]:
    """The files that are the same in every project and in the repository."""
    root, names = (COPIES, _top(COPIES)) if COPIES.is_dir() else (CHECKOUT, _listed())
    for name in names:
        top = root / name
        for file in sorted(top.rglob("*")) if top.is_dir() else [top]:
            path = file.relative_to(root).as_posix()
            if file.is_file() and "__pycache__" not in file.parts and path not in GENERATED:
                yield path, file


def _top(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _listed() -> list[str]:
    """pyproject.toml's list of files and folders that go into the wheel."""
    file = CHECKOUT / "pyproject.toml"
    if not file.is_file():
        raise UserError(f"this vidprompt ({HERE.parent}) has no project files: install its wheel")
    hooks = tomllib.loads(file.read_text("utf-8"))["tool"]["hatch"]["build"]["targets"]["wheel"]
    return [str(name) for name in hooks["hooks"]["custom"]["skeleton"]]


def content_hash(path: str, content: bytes) -> str:
    """SHA-256 of a skeleton file: whatever its line ends are, and without dvc.yaml's code dependencies,
    which `vidprompt activate` writes."""
    text = content.replace(b"\r\n", b"\n")
    if path == "dvc.yaml":
        text = _CODE_DEPENDENCY.sub(b"", text)
    return hashlib.sha256(text).hexdigest()


def distribution_name(name: str) -> str:
    """A project's name as pyproject.toml may have it: ASCII letters, digits, `-`."""
    kept = "".join(c if c.isascii() and c.isalnum() else "-" for c in name.lower())
    return "-".join(part for part in kept.split("-") if part) or "project"


def package_version() -> str:
    """Of the installed distribution, which has it from the git tag."""
    return str(vidprompt.__version__)


def lowest_version() -> str:
    """The lowest version that a project asks for: this one, without what pip does not compare."""
    return package_version().partition("+")[0]
