"""Checks that the DVC remote inside this repository (`sample`) holds the demo and nothing else.

Its content is published with the code: licensed videos, and frames made of them, must not be there.
"""

from __future__ import annotations

import configparser
import json
import os
from collections.abc import Iterator, Set
from pathlib import Path
from shlex import quote

from vidprompt.provenance.dvc_project import has_md5
from vidprompt.provenance.revision import Revision
from vidprompt.reporting.markdown import count_of, first_of
from vidprompt.system.errors import DataError, UserError

REMOTE = "sample"
LIMIT = 20_000_000  # bytes, counted as `du -sb` does
DATA = "data/demo"  # tracked by data.dvc
MODELS = "models/demo/"  # of the declared models, those below here may be in the store
SHOWN = 3  # files that a sentence names


def check_store(root: Path = Path(), limit: int = LIMIT) -> str:
    """Check that the store holds the whole demo, nothing else, in `limit` bytes; a sentence on its content.

    UserError names foreign, damaged and missing files, too many bytes, and a `.dvc/config` that makes the
    store the default remote, with what to do about each.
    """
    store = _folder(root)
    wanted, there = _allowed(root, store), _files(store)
    foreign = there - wanted.keys()
    ours = {name: wanted[name] for name in sorted(there & wanted.keys())}
    size = _size(store, ours.keys())
    problems = []
    if _config(root).get("core", "remote", fallback="") == REMOTE:
        problems.append(
            f"{root / '.dvc/config'} makes {REMOTE} the default, so that `dvc push` would publish every "
            "dataset: `dvc remote default --unset`"
        )
    if foreign:
        problems.append(_foreign(root, store, foreign))
    if damaged := [what for name, what in ours.items() if not _is_undamaged(store / name)]:
        problems.append(
            f"{store} has other bytes than its names say for {first_of(damaged, SHOWN)}: "
            f"`git checkout -- {quote(str(store))}`"
        )
    if size > limit:
        problems.append(_too_much(store, ours, size, limit))
    if problems:
        raise UserError("; ".join(problems))
    missing = [what for name, what in wanted.items() if what.startswith(DATA) and name not in there]
    if missing:
        raise DataError(
            f"{store} lacks {count_of(len(missing), 'file')} of the demo "
            f"({first_of(missing, SHOWN)}), which no clone would get: `dvc push data.dvc` where they are"
        )
    return f"{store}: the demo in {count_of(len(there), 'file')}, {size:,} of {limit:,} bytes"


def remove_foreign(root: Path = Path()) -> list[str]:
    """Delete foreign files from the store; their names, sorted by their place in it."""
    store = _folder(root)
    foreign = sorted(_files(store) - _allowed(root, store).keys())
    known = _known(root, store)
    for name in foreign:
        (store / name).unlink()
    for folder in sorted((p for p in store.rglob("*") if p.is_dir()), reverse=True):
        if not any(folder.iterdir()):
            folder.rmdir()
    return [f"{known[name]} as {name}" if name in known else name for name in foreign]


def _folder(root: Path) -> Path:
    """The store's folder. UserError where `.dvc/config` does not name it, or it is absent."""
    url = _config(root).get(f"'remote \"{REMOTE}\"'", "url", fallback="")
    if not url:
        raise UserError(
            f"{root / '.dvc/config'} has no remote {REMOTE!r}: run in the project's folder"
        )
    store = Path(os.path.normpath(root / ".dvc" / url))
    if not store.is_dir():
        raise UserError(
            f"{store}, the remote {REMOTE!r}, is not there: `git checkout -- {quote(str(store))}`"
        )
    return store


def _config(root: Path) -> configparser.ConfigParser:
    config = configparser.ConfigParser(interpolation=None)
    try:
        config.read(root / ".dvc/config", encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError) as error:
        raise UserError(f"{root / '.dvc/config'} cannot be read: {error}") from error
    return config


def _allowed(root: Path, store: Path) -> dict[str, str]:
    """The files that may be in the store: path in it → path in the project."""
    outs = Revision(root).yaml("data.dvc").get("outs") or []
    demo = [out for out in outs if out.get("path") == DATA]
    if not demo:  # and all would be foreign
        raise UserError(f"data.dvc does not track {DATA}: `git checkout -- data.dvc`")
    listing = store / _object_path(demo[0]["md5"])
    if not _is_undamaged(listing):
        raise DataError(
            f"{listing}, the listing of {DATA}, is not in the store or damaged: `dvc push data.dvc` "
            f"where the demo is, or `git checkout -- {quote(str(store))}`"
        )
    return _contents(store, DATA, demo[0]["md5"]) | {
        _object_path(md5): f"{path} ({name})" for name, path, md5 in _weights(root)
    }


def _weights(root: Path) -> Iterator[tuple[str, str, str]]:
    """Name, path and MD5 of the demo's declared models, on disk and of each registered version."""
    from vidprompt.registry.versions import histories

    # commit → names of its versions; "": on disk, all models
    named: dict[str, set[str]] = {"": set()}
    for name, history in histories(root).items():
        for version in history.versions:
            named.setdefault(version.commit, set()).add(name)
    for commit, names in named.items():
        revision = Revision(root, commit)
        artifacts = revision.yaml("dvc.yaml").get("artifacts") or {}
        paths = {name: str((entry or {}).get("path")) for name, entry in artifacts.items()}
        outs = _outs(revision) if any(path.startswith(MODELS) for path in paths.values()) else {}
        for name, path in sorted(paths.items()):
            if path.startswith(MODELS) and path in outs and (not commit or name in names):
                yield name, path, outs[path]


def _outs(revision: Revision) -> dict[str, str]:
    """Path → MD5 of the stages' outputs in dvc.lock."""
    stages = (revision.yaml("dvc.lock").get("stages") or {}).values()
    outs = (out for stage in stages for out in stage.get("outs") or [])
    return {out["path"]: out["md5"] for out in outs if "md5" in out}


def _contents(store: Path, path: str, md5: str) -> dict[str, str]:
    """The objects of a tracked file or folder, by the store's listing: path in it → path."""
    found = {_object_path(md5): path}
    listing = store / _object_path(md5)
    if md5.endswith(".dir") and listing.is_file():
        try:
            entries = json.loads(listing.read_bytes())
            found |= {_object_path(entry["md5"]): f"{path}/{entry['relpath']}" for entry in entries}
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(f"{listing}, the listing of {path}, cannot be read") from error
    return found


def _object_path(md5: str) -> str:
    return f"files/md5/{md5[:2]}/{md5[2:]}"


def _is_undamaged(file: Path) -> bool:
    """Whether an object's content has the MD5 of its name."""
    return has_md5(file, file.parent.name + file.name)


def _files(store: Path) -> set[str]:
    return {p.relative_to(store).as_posix() for p in store.rglob("*") if not p.is_dir()}


def _size(store: Path, files: Set[str]) -> int:
    """Bytes of the files and of their folders."""
    paths = {store, *(store / name for name in files)}
    paths |= {folder for path in paths for folder in path.parents if folder.is_relative_to(store)}
    return sum(path.lstat().st_size for path in paths)


def _too_much(store: Path, ours: dict[str, str], size: int, limit: int) -> str:
    weights = {what: (store / name).stat().st_size for name, what in ours.items()}
    models = [f"{what} {n:,}" for what, n in sorted(weights.items()) if what.startswith(MODELS)]
    among = f", {', '.join(models)} among them" if models else ""
    return (
        f"{store} has {size:,} bytes of at most {limit:,} of the demo's{among}: keep fewer models "
        "there, or make the demo smaller"
    )


def _foreign(root: Path, store: Path, names: Set[str]) -> str:
    known = _known(root, store)
    size = sum((store / name).lstat().st_size for name in names)
    listed = first_of(sorted(known.get(name, name) for name in names), SHOWN)
    return (
        f"{store} holds {count_of(len(names), 'file')} ({size:,} bytes) not of the demo ({listed}) "
        "that would be published with the code: `vidprompt check-store --remove` deletes them; a commit "
        "that has them must not be pushed (`git reset`); a registered model's weights belong there "
        "once its tag is here (`git fetch --tags`)"
    )


def _known(root: Path, store: Path) -> dict[str, str]:
    """Path in the store → path in the project, of all tracked files: a sentence can name them."""
    tracked: dict[str, str] = _outs(Revision(root))
    for file in sorted([*root.glob("*.dvc"), *(root / "data").glob("*.dvc")]):
        if not file.is_file():  # the folder .dvc
            continue
        path = file.relative_to(root)
        for out in Revision(root).yaml(path.as_posix()).get("outs") or []:
            tracked[(path.parent / str(out.get("path"))).as_posix()] = str(out.get("md5", ""))
    found: dict[str, str] = {}
    for name, md5 in tracked.items():
        found |= _contents(store, name, md5)
    return found
