"""Reads the project's files, as they lie on disk or as a commit of git has them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from vidprompt.config.names import METHODS, PROTOCOLS
from vidprompt.metrics.result import ProtocolResult, load_result
from vidprompt.provenance.git import try_git
from vidprompt.system.errors import DataError, UserError, first_line

Result = tuple[str, str, str]  # dataset, method, protocol
METRICS_PATH = re.compile(r"results/([^/]+)/([^/]+)/([^/]+)/metrics\.json")


@dataclass(frozen=True)
class Revision:
    """The project in `root` at `commit` (full name); without a commit, as it lies on disk.

    Paths are relative to `root`, with slashes. What was read once (files, stages, results) is kept.
    """

    root: Path
    commit: str = ""

    @property
    def label(self) -> str:
        """The short commit, or `the workspace`."""
        return self.commit[:7] or "the workspace"

    def read(self, path: str) -> bytes | None:
        """A file's bytes; None where there is no such file."""
        if self.commit:
            return try_git(self.root, "show", f"{self.commit}:./{path}")
        file = self.root / path
        return file.read_bytes() if file.is_file() else None

    def yaml(self, path: str) -> dict[str, Any]:
        """A YAML file's mapping, empty where there is no file. UserError for other content."""
        try:
            content = yaml.safe_load(self.read(path) or b"")
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            first = first_line(error)
            raise UserError(f"{path} of {self.label} is not YAML: {first}") from error
        if content is not None and not isinstance(content, dict):
            raise UserError(f"{path} of {self.label} is not a mapping")
        return content or {}

    def json(self, path: str) -> dict[str, Any] | None:
        """A JSON file's mapping, None where there is no file. DataError for other content."""
        content = self.read(path)
        if content is None:
            return None
        try:
            value = json.loads(content)
            if not isinstance(value, dict):
                raise TypeError("it is not a mapping")
        except (ValueError, TypeError) as error:
            raise DataError(
                f"{path} of {self.label} cannot be read ({error}): run `dvc repro`"
            ) from error
        return value

    def try_json(self, path: str) -> Any:
        """A JSON file's content; None where there is no file, or it is not JSON."""
        try:
            return json.loads(self.read(path) or b"null")
        except ValueError:
            return None

    @cached_property
    def files(self) -> tuple[str, ...]:
        """All files that git tracks or, on disk, does not ignore; sorted. On disk without git: all files."""
        listed = self._listed_by_git()
        if listed is None:
            paths = [p for p in self.root.rglob("*") if p.is_file()]
            return tuple(sorted(path.relative_to(self.root).as_posix() for path in paths))
        names = {name.decode("utf-8", "surrogateescape") for name in listed.split(b"\0")} - {""}
        return tuple(sorted(n for n in names if self.commit or (self.root / n).is_file()))

    def _listed_by_git(self) -> bytes | None:
        if self.commit:
            return try_git(self.root, "ls-tree", "-z", "-r", "--name-only", self.commit)
        try:
            return try_git(self.root, "ls-files", "-z", "-co", "--exclude-standard")
        except (
            UserError
        ):  # git is not installed, or does not read the repository: the disk has the files
            return None

    @cached_property
    def stages(self) -> dict[str, dict[str, Any]]:
        """dvc.lock's stages by name; empty where there is no such file, or it cannot be read."""
        try:
            content = yaml.safe_load(self.read("dvc.lock") or b"") or {}
        except (yaml.YAMLError, UnicodeDecodeError):
            return {}
        stages = content.get("stages") if isinstance(content, dict) else None
        return {
            str(name): entry
            for name, entry in (stages if isinstance(stages, dict) else {}).items()
            if isinstance(entry, dict) and all(_has_paths(entry.get(k)) for k in ("deps", "outs"))
        }

    @cached_property
    def output_md5s(self) -> dict[str, str]:
        """Path → MD5 of every output in dvc.lock; a folder's ends in `.dir`."""
        return {
            out["path"]: str(out.get("md5", ""))
            for entry in self.stages.values()
            for out in entry.get("outs") or ()
        }

    @cached_property
    def _metrics(self) -> tuple[dict[Result, ProtocolResult], dict[str, str]]:
        """`results` and `malformed_results`."""
        results: dict[Result, ProtocolResult] = {}
        malformed = {}
        for path in self.files:
            if match := METRICS_PATH.fullmatch(path):
                try:
                    results[match[1], match[2], match[3]] = load_result(
                        self.read(path) or b"", path
                    )
                except DataError as error:
                    malformed[path] = str(error)
        return {key: results[key] for key in sorted(results, key=report_order)}, malformed

    @property
    def results(self) -> dict[Result, ProtocolResult]:
        """Every valid metrics.json by its result, in the order of a report."""
        return self._metrics[0]

    @property
    def malformed_results(self) -> dict[str, str]:
        """Path of every metrics.json that `results` leaves out → what is wrong with it."""
        return self._metrics[1]

    @cached_property
    def datasets(self) -> tuple[str, ...]:
        """Datasets with results or with a JSON file on their data, sorted."""
        named = {p.split("/")[1] for p in self.files if re.fullmatch(r"results/[^/]+/\w+\.json", p)}
        return tuple(sorted(named | {dataset for dataset, _, _ in self.results}))


def _has_paths(entries: Any) -> bool:
    """Whether dependencies or outputs have the form that dvc.lock gives them."""
    return entries is None or (
        isinstance(entries, list)
        and all(isinstance(one, dict) and isinstance(one.get("path"), str) for one in entries)
    )


def report_order(result: Result) -> tuple[Any, ...]:
    """Sort key: by dataset, then protocol and method in their usual order, unknown ones last."""
    dataset, method, protocol = result
    return dataset, *_rank(PROTOCOLS, protocol), *_rank(METHODS, method)


def _rank(known: Sequence[str], name: str) -> tuple[int, str]:
    return (known.index(name) if name in known else len(known)), name


def parents(path: str) -> Iterator[str]:
    """The folders that a path lies in, the nearest first: `a/b/c` → `a/b`, `a`."""
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path
