"""One kept result, its metrics and what every video got: of the workspace or of a git revision."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from vidprompt.comparison.per_video import measured, read_per_video
from vidprompt.config import paths
from vidprompt.provenance.dvc_project import DvcProject, first_line
from vidprompt.provenance.revision import Revision, find_commit, try_git
from vidprompt.system.errors import DataError, UserError
from vidprompt.system.suggestions import suggestion

_NAME = re.compile(
    r"(?:(?P<root>(?:.*/)?)results/)?"
    r"(?P<dataset>[^/@]+)/(?P<method>[^/@]+)/(?P<protocol>[^/@]+?)"
    r"(?:@(?P<revision>.+))?"
)
_DECIMALS = 2e-6  # of metrics.json, and a little


@dataclass(frozen=True)
class Address:
    """Where a result lies: a project's folder, what it is of, and a git revision (empty: as on disk)."""

    root: Path
    dataset: str
    method: str
    protocol: str
    revision: str

    @property
    def metrics(self) -> Path:
        """metrics.json, relative to the root."""
        return paths.results(self.dataset, self.method, self.protocol) / "metrics.json"

    @property
    def predictions(self) -> Path:
        """The predictions, relative to the root."""
        return paths.predictions(self.dataset, self.method, self.protocol)


@dataclass(frozen=True)
class Result:
    """A result: `metrics` as in metrics.json; `videos` as `read_per_video` gives them.

    `videos` is None where the predictions are not to be had, and `missing` a sentence that says why
    and what to do. `commit` is the revision's full name (empty: as on disk).
    """

    name: str
    metrics: Mapping[str, Any]
    videos: pd.DataFrame | None
    missing: str = ""
    commit: str = ""


def parse_address(text: str) -> Address:
    """`<dataset>/<method>/<protocol>` or a path of such a results folder, with or without `@<revision>`.

    UserError when it is neither.
    """
    match = _NAME.fullmatch(text.removesuffix("/").removesuffix("/metrics.json"))
    if match is None:
        raise UserError(
            f"{text!r} names no result: write DATASET/METHOD/PROTOCOL (with @REVISION for one of "
            "another git revision) or the path of a folder …/results/DATASET/METHOD/PROTOCOL"
        )
    parts = {key: value or "" for key, value in match.groupdict().items()}
    return Address(Path(parts.pop("root")), **parts)


def without_revision(text: str) -> str:
    """The result of the same name as it lies on disk. UserError when `text` has no revision."""
    revision = parse_address(text).revision
    if not revision:
        raise UserError(f"Compare {text} with what? Name a second result, or give it an @REVISION")
    return text.removesuffix(f"@{revision}")


def find_result(text: str) -> Result:
    """The result that `text` names (`parse_address`).

    On disk it is read as it lies there; of a revision, metrics.json comes from git and the predictions
    from DVC's cache or a remote. UserError when there is no such revision or no metrics.json in it;
    DataError when metrics and predictions are not of one evaluation.
    """
    address = parse_address(text)
    if address.revision:
        result = _of_revision(text, address)
    else:
        result = _on_disk(text, address)
    _check_belonging(result, address)
    return result


def _on_disk(text: str, address: Address) -> Result:
    path = address.root / address.metrics
    if not path.is_file():
        raise UserError(f"{path} is not there: run `dvc repro` ({_similar(address)})")
    metrics = _parsed(path.read_bytes(), str(path))
    predictions = address.root / address.predictions
    if not predictions.is_file():
        command = f"`dvc pull {address.predictions}` or `dvc repro`"
        return Result(text, metrics, None, f"{predictions} is not there: run {command}")
    videos = read_per_video(str(predictions), address.protocol, str(predictions))
    return Result(text, metrics, videos)


def _similar(address: Address) -> str:
    """`did you mean demo/ez_clip/few_shot? valid: …`: the results that are there."""
    folder = address.root / "results"
    there = [path.parent.relative_to(folder) for path in folder.glob("*/*/*/metrics.json")]
    asked = f"{address.dataset}/{address.method}/{address.protocol}"
    return suggestion(asked, sorted(path.as_posix() for path in there))


def _of_revision(text: str, address: Address) -> Result:
    name = address.revision
    commit = find_commit(address.root, name)
    if commit is None:
        root = address.root.absolute()
        if try_git(root, "rev-parse", "--git-dir") is None:
            raise UserError(
                f"{text}: {root} is no git repository, so it has no revisions: leave @{name} out, or run "
                "this in a clone"
            )
        raise UserError(f"{text}: git knows no revision {name!r} in {root}")
    revision = Revision(address.root, commit)
    content = revision.read(address.metrics.as_posix())
    if content is None:
        raise UserError(f"Revision {name} ({revision.shown}) has no {address.metrics}")
    metrics = _parsed(content, f"{address.metrics} of {name}")
    predictions, errors = _predictions(revision, address)
    if predictions is None:
        missing = (
            f"The predictions of {text} are neither in DVC's cache nor in a remote that is configured "
            f"here{errors}: check {name} out where they were made and `dvc push`, or `git worktree add "
            f"FOLDER {name}`, `dvc repro` there and compare with FOLDER/{address.metrics.parent}"
        )
        return Result(text, metrics, None, missing, commit)
    source = pa.BufferReader(predictions)
    videos = read_per_video(source, address.protocol, f"{address.predictions} of {name}")
    return Result(text, metrics, videos, commit=commit)


def _predictions(revision: Revision, address: Address) -> tuple[bytes | None, str]:
    """The bytes of a revision's predictions, or None and why stores could not be read."""
    path = address.predictions.as_posix()
    try:
        with DvcProject(revision) as project:
            md5 = project.tracked_md5(path)
            if md5 is None:
                return revision.read(path), ""
            file = project.find(md5)
            if file is not None:
                return file.read_bytes(), ""
            errors = [f"{name}: {first_line(error)}" for name, error in project.errors.items()]
            return None, f" ({'; '.join(errors)})" if errors else ""
    except UserError as error:  # no DVC project
        return None, f" ({error})"


def _parsed(content: bytes, name: str) -> dict[str, Any]:
    try:
        metrics = json.loads(content)
        if not isinstance(metrics["summary"], dict) or not isinstance(metrics["splits"], dict):
            raise TypeError("summary or splits is not a mapping")
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{name} cannot be read ({error!r}): run `dvc repro`") from error
    return dict(metrics)


def _check_belonging(result: Result, address: Address) -> None:
    """DataError when metrics.json and predictions are of two evaluations (a checkout without DVC's)."""
    if result.videos is None:
        return
    measure = measured(address.protocol)[0]
    for (split, test), videos in result.videos.groupby(["split", "test"]):
        try:
            if address.protocol == "reid":
                said = result.metrics["summary"][test]
            else:
                said = result.metrics["splits"][split]["tests"][test]
            wanted, count = float(said[measure]["value"]), int(said["n"])
        except (KeyError, TypeError):
            wanted, count = -1.0, 0
        value = float(videos[measure].mean())
        if count != len(videos) or abs(value - wanted) > _DECIMALS:
            raise DataError(
                f"{result.name}: metrics.json and {address.predictions} are of two evaluations "
                f"({split}/{test}, {measure}); run `dvc checkout` after `git checkout`, or `dvc repro`"
            )
