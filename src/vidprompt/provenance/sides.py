"""The two sides of a review: a commit of git, and the project as it lies on disk."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from vidprompt.reporting.measures import METHODS, PROTOCOLS
from vidprompt.system.errors import UserError

_RESULT = re.compile(r"results/([^/]+)/([^/]+)/([^/]+)/metrics\.json")
Result = tuple[str, str, str]  # dataset, method, protocol


@dataclass(frozen=True)
class Side:
    """Files of a commit, or of the disk where `on_disk`; paths are relative to `root`, with slashes.

    `changed`: on disk there is something that `commit` has not.
    """

    root: Path
    commit: str
    subject: str
    on_disk: bool = False
    changed: bool = False

    @property
    def name(self) -> str:
        return self.commit[:10]

    def read(self, path: str) -> bytes | None:
        """A file's bytes, None where there is none."""
        if self.on_disk:
            file = self.root / path
            return file.read_bytes() if file.is_file() else None
        return _git(self.root, "show", f"{self.commit}:./{path}")

    @cached_property
    def files(self) -> tuple[str, ...]:
        """All files that git keeps or would keep, sorted."""
        if self.on_disk:
            listed = _git(self.root, "ls-files", "-z", "-co", "--exclude-standard") or b""
        else:
            listed = _git(self.root, "ls-tree", "-z", "-r", "--name-only", self.commit) or b""
        names = {name.decode("utf-8", "surrogateescape") for name in listed.split(b"\0")} - {""}
        return tuple(sorted(n for n in names if not self.on_disk or (self.root / n).is_file()))

    def json(self, path: str) -> Any:
        """A JSON file's content, None where there is none that can be read."""
        try:
            return json.loads(self.read(path) or b"null")
        except ValueError:
            return None

    @cached_property
    def stages(self) -> dict[str, dict[str, Any]]:
        """dvc.lock's stages; empty where there is no such file, or none that can be read."""
        try:
            found = yaml.safe_load(self.read("dvc.lock") or b"") or {}
        except yaml.YAMLError:
            return {}
        stages = found.get("stages") if isinstance(found, dict) else None
        return {
            str(name): entry
            for name, entry in (stages if isinstance(stages, dict) else {}).items()
            if isinstance(entry, dict) and all(_entries(entry.get(k)) for k in ("deps", "outs"))
        }

    @cached_property
    def recorded(self) -> dict[str, str]:
        """Path → MD5 of every output that dvc.lock records (`….dir`: of a folder's listing)."""
        return {
            out["path"]: str(out.get("md5", ""))
            for entry in self.stages.values()
            for out in entry.get("outs") or ()
        }

    @cached_property
    def _metrics(self) -> dict[str, tuple[Result, Any]]:
        """Every metrics.json: path → result and content, None where it has not the form of one."""
        found: dict[str, tuple[Result, Any]] = {}
        for path in self.files:
            if match := _RESULT.fullmatch(path):
                metrics = self.json(path)
                result = match[1], match[2], match[3]
                found[path] = result, metrics if _formed(metrics) else None
        return found

    @cached_property
    def malformed(self) -> tuple[str, ...]:
        """Paths of every metrics.json that is left out of `results`, sorted."""
        return tuple(path for path, (_, metrics) in self._metrics.items() if metrics is None)

    @cached_property
    def results(self) -> dict[Result, dict[str, Any]]:
        """Every metrics.json that has the form of one, in the order of a report."""
        found = {key: metrics for key, metrics in self._metrics.values() if metrics is not None}
        return {key: found[key] for key in sorted(found, key=place)}

    @cached_property
    def datasets(self) -> tuple[str, ...]:
        """Those with results or with a file of their health."""
        named = {p.split("/")[1] for p in self.files if re.fullmatch(r"results/[^/]+/\w+\.json", p)}
        return tuple(sorted(named | {dataset for dataset, _, _ in self.results}))


def _formed(metrics: Any) -> bool:
    """`summary` (measure → numbers) and, if there are, `splits` → `tests` → numbers."""
    if not isinstance(metrics, dict) or not _mappings(metrics.get("summary")):
        return False
    splits = metrics.get("splits", {})
    return _mappings(splits) and all(_mappings(one.get("tests", {})) for one in splits.values())


def _mappings(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(inner, dict) for inner in value.values())


def _entries(value: Any) -> bool:
    """Dependencies or outputs, as dvc.lock has them."""
    if value is None:
        return True
    return isinstance(value, list) and all(
        isinstance(one, dict) and isinstance(one.get("path"), str) for one in value
    )


def place(result: Result) -> tuple[Any, ...]:
    """Where a result stands: by dataset, then protocols and methods as everywhere, others by name."""
    dataset, method, protocol = result
    return dataset, *_rank(PROTOCOLS, protocol), *_rank(METHODS, method)


def _rank(known: Sequence[str], name: str) -> tuple[int, str]:
    return (known.index(name) if name in known else len(known)), name


def sides(root: Path, base: str = "", out: Path | None = None) -> tuple[Side, Side]:
    """Base and head. `base`: a revision; what is compared with is where HEAD left it (the merge base).

    Without one that of origin/main, else of main. What lies in `out` is no change. Raises UserError without
    git, without a commit, and for a revision that git does not know.
    """
    if not (root / "dvc.yaml").is_file():
        raise UserError("There is no dvc.yaml here: run this in the project's folder")
    head = _commit(root, "HEAD")
    if head is None:
        raise UserError("git has no commit here: a review compares with one")
    if base:
        found = _commit(root, base)
        if found is None:
            raise UserError(f"git knows no revision {base!r} here: `git fetch`, or name another")
    else:
        mains = (_commit(root, name) for name in ("origin/main", "main"))
        found = next((commit for commit in mains if commit), None)
        if found is None:
            raise UserError(
                "There is neither origin/main nor main: name the revision to compare with"
            )
    left = (_git(root, "merge-base", found, head) or b"").decode().strip() or found
    among = ["."]
    if out is not None and out.resolve().is_relative_to(root.resolve()):
        among.append(f":(exclude,top,literal){_from_top(root, out)}")
    dirty = bool((_git(root, "status", "--porcelain", "-uall", "--", *among) or b"").strip())
    return (
        Side(root, left, _subject(root, left)),
        Side(root, head, _subject(root, head), on_disk=True, changed=dirty),
    )


def _from_top(root: Path, path: Path) -> str:
    """A path below `root` as git's whole working tree has it."""
    top = (_git(root, "rev-parse", "--show-toplevel") or b"").decode().strip()
    return path.resolve().relative_to(Path(top).resolve()).as_posix()


def _commit(root: Path, revision: str) -> str | None:
    options = ("--verify", "--quiet", "--end-of-options")
    found = _git(root, "rev-parse", *options, f"{revision}^{{commit}}")
    return found.decode().strip() if found else None


def _subject(root: Path, commit: str) -> str:
    found = _git(root, "show", "--no-patch", "--format=%s", commit) or b""
    return found.decode("utf-8", "replace").strip()


def _git(root: Path, *arguments: str) -> bytes | None:
    """What git prints, None when it fails. UserError without git."""
    command = ["git", "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, capture_output=True)
    except FileNotFoundError as error:
        raise UserError("git is not installed: a review reads revisions with it") from error
    return done.stdout if done.returncode == 0 else None
