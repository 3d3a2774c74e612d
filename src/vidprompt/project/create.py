"""`vidprompt init`: writes a new project's files into an empty folder."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import chdir, suppress
from importlib.util import find_spec
from pathlib import Path

from vidprompt.files.atomic import naming_full_disk
from vidprompt.pipeline import matrix
from vidprompt.project.code_link import renew_code_link
from vidprompt.project.skeleton import CHECKOUT, content_hash, package_version, skeleton
from vidprompt.provenance.git import is_repository
from vidprompt.provenance.project_record import Record
from vidprompt.system.errors import UserError

KEPT = frozenset({".git", ".venv", ".DS_Store"})  # may be there already
DEMO_PACKAGE = "vidprompt_demo"
DEMO_FILES = ("data.dvc", ".dvcstore")
_ACTIVE = re.compile(rb"^active: *\[[^\]]*\]", re.MULTILINE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def create_project(place: Path | str, *, demo: bool) -> int:
    """Write a project into the folder `place`, which is made; returns how many files it has.

    With `demo` the demo's data and small CLIP are there, and its dataset is active; else no dataset is. The
    folder becomes a git repository where it is in none. Raises UserError for a folder that is not empty or
    cannot be, without the demo's data, and without git.
    """
    folder = _checked(place)
    source = demo_source() if demo else None
    files = skeleton(folder.name)
    record = Record(
        folder.name,
        package_version(),
        {path: content_hash(path, content) for path, content in files.items()},
    )
    if not demo:
        file = "params/pipeline.yaml"
        files[file] = _ACTIVE.sub(b"active: []", files[file])
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with naming_full_disk(folder), tempfile.TemporaryDirectory(dir=folder) as draft:
            _write(Path(draft), files, source)
            record.write(Path(draft))
            renew_code_link(Path(draft))
            with chdir(draft):
                matrix.activate([])
            for entry in Path(draft).iterdir():
                entry.rename(folder / entry.name)
    except BaseException:
        with suppress(OSError):  # not empty: it was there before
            folder.rmdir()
        raise
    _start_repository(folder)
    if demo:
        _check_out_demo(folder)
    return len(files)


def _checked(place: Path | str) -> Path:
    """The folder's absolute path. Raises UserError where no project can be written there."""
    folder = Path(place)
    if not str(place).strip() or _CONTROL.search(str(place)):
        raise UserError(
            f"{str(place)!r} is no name of a folder: give one, as in `vidprompt init my-project`"
        )
    absolute = Path(os.path.abspath(folder.expanduser()))  # noqa: PTH100 (a link stays one)
    try:
        if absolute.is_dir():
            there = sorted(entry.name for entry in absolute.iterdir() if entry.name not in KEPT)
        elif absolute.exists() or absolute.is_symlink():
            raise UserError(f"{folder} is a file: choose another name")
        else:
            there = []
            above = next(parent for parent in absolute.parents if parent.exists())
            if not above.is_dir():
                raise UserError(f"{folder}: {above} is a file, no folder: choose another name")
    except OSError as error:  # a name that is too long, a folder of somebody else's
        raise UserError(f"{folder}: {error.strerror}: choose another folder") from error
    if there:
        more = f" and {len(there) - 1} more" if len(there) > 1 else ""
        raise UserError(
            f"{folder} is not empty (it has {there[0]}{more}): `vidprompt init` writes into an empty folder"
        )
    if not absolute.name:
        raise UserError(f"{folder} has no name: choose a folder below it")
    return absolute


def demo_source() -> Path:
    """The folder with data.dvc and its objects (DEMO_FILES). UserError where they are not installed."""
    spec = find_spec(DEMO_PACKAGE)
    folders = [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []
    for folder in (*folders, CHECKOUT):
        if all((folder / name).exists() for name in DEMO_FILES):
            return folder
    raise UserError("--demo needs the demo's data (13 MB): pip install 'vidprompt[demo]'")


def _write(folder: Path, files: Mapping[str, bytes], demo: Path | None) -> None:
    for path, content in files.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    for name in DEMO_FILES if demo else ():
        source = Path(str(demo), name)
        if source.is_dir():
            shutil.copytree(source, folder / name, copy_function=shutil.copyfile)
        else:
            shutil.copyfile(source, folder / name)


def _start_repository(folder: Path) -> None:
    try:
        if not is_repository(folder):
            command = ["git", "-c", "init.defaultBranch=main", "init", "--quiet"]
            subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise UserError(
            f"{folder} is written, but git, which DVC needs, is not installed"
        ) from None
    except subprocess.CalledProcessError as error:
        raise UserError(
            f"{folder} is written, but `git init` failed: {error.stderr.strip()}"
        ) from error


def _check_out_demo(folder: Path) -> None:
    """Write data/demo by DVC, from the objects beside it."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with chdir(folder), Repo() as repo:
            repo.pull(targets=["data.dvc"])
    except DvcException as error:
        raise UserError(f"{folder} is written, but `dvc pull data.dvc` failed: {error}") from error
