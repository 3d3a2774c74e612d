"""Loads a result with its predictions, from the workspace or from a git revision."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

import pandas as pd
import pyarrow as pa

from vidprompt.comparison.per_video import measured, read_per_video
from vidprompt.config import paths
from vidprompt.metrics.result import ProtocolResult, load_result, measures
from vidprompt.provenance.dvc_project import DvcProject
from vidprompt.provenance.git import find_commit, is_repository, shallow_note
from vidprompt.provenance.revision import Revision
from vidprompt.system.errors import DataError, UserError, first_line
from vidprompt.system.suggestions import suggestion

_ADDRESS = re.compile(
    r"(?:(?P<root>(?:.*/)?)results/)?"
    r"(?P<dataset>[^/@]+)/(?P<method>[^/@]+)/(?P<protocol>[^/@]+?)"
    r"(?:@(?P<revision>.+))?"
)
_TOLERANCE = 2e-6  # metrics.json has six decimals


@dataclass(frozen=True)
class ResultAddress:
    """A result's place: the project's folder and, unless it is empty for the workspace, a git revision."""

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
class LoadedResult:
    """A result and its predictions, `videos` as `read_per_video` gives them.

    Without predictions `videos` is None, and `missing` a sentence that says why and what to do.
    `commit` is the revision's full hash (empty: the workspace).
    """

    name: str
    result: ProtocolResult
    videos: pd.DataFrame | None
    missing: str = ""
    commit: str = ""


def parse_address(text: str) -> ResultAddress:
    """`<dataset>/<method>/<protocol>` or a path of such a results folder, with or without `@<revision>`.

    UserError when it is neither.
    """
    match = _ADDRESS.fullmatch(text.removesuffix("/").removesuffix("/metrics.json"))
    if match is None:
        raise UserError(
            f"{text!r} names no result: write DATASET/METHOD/PROTOCOL (with @REVISION for one of "
            "another git revision) or the path of a folder …/results/DATASET/METHOD/PROTOCOL"
        )
    parts = {key: value or "" for key, value in match.groupdict().items()}
    return ResultAddress(Path(parts.pop("root")), **parts)


def without_revision(text: str) -> str:
    """The address of the same result in the workspace. UserError when `text` has no revision."""
    revision = parse_address(text).revision
    if not revision:
        raise UserError(f"Compare {text} with what? Name a second result, or give it an @REVISION")
    return text.removesuffix(f"@{revision}")


def find_result(text: str) -> LoadedResult:
    """The result that `text` names (`parse_address`).

    In the workspace both files are read from disk; of a revision, metrics.json comes from git and the
    predictions from DVC's cache or a remote. UserError when there is no such revision or no metrics.json
    in it; DataError when metrics and predictions are not of one evaluation.
    """
    address = parse_address(text)
    loaded = _of_revision(text, address) if address.revision else _of_workspace(text, address)
    _check_one_evaluation(loaded, address)
    return loaded


def _of_workspace(text: str, address: ResultAddress) -> LoadedResult:
    path, predictions = address.root / address.metrics, address.root / address.predictions
    if not path.is_file():
        raise UserError(f"{path} is not there: run `dvc repro` ({_nearest(address)})")
    result = load_result(path.read_bytes(), str(path))
    if not predictions.is_file():
        command = f"`dvc pull {quote(str(address.predictions))}` or `dvc repro`"
        return LoadedResult(text, result, None, f"{predictions} is not there: run {command}")
    videos = read_per_video(str(predictions), address.protocol, str(predictions))
    return LoadedResult(text, result, videos)


def _nearest(address: ResultAddress) -> str:
    """`did you mean demo/ez_clip/few_shot? valid: …`, from the results on disk."""
    folder = address.root / "results"
    names = [path.parent.relative_to(folder) for path in folder.glob("*/*/*/metrics.json")]
    wanted = f"{address.dataset}/{address.method}/{address.protocol}"
    return suggestion(wanted, sorted(path.as_posix() for path in names))


def _of_revision(text: str, address: ResultAddress) -> LoadedResult:
    root, name = address.root, address.revision
    commit = find_commit(root, name)
    if commit is None:
        if not is_repository(root):
            raise UserError(
                f"{text}: {root.absolute()} is no git repository, so it has no revisions: leave "
                f"@{name} out, or run this in a clone"
            )
        raise UserError(
            f"{text}: git knows no revision {name!r} in {root.absolute()}{shallow_note(root)}"
        )
    revision = Revision(root, commit)
    content = revision.read(address.metrics.as_posix())
    if content is None:
        raise UserError(f"Revision {name} ({commit[:7]}) has no {address.metrics}")
    result = load_result(content, f"{address.metrics} of {name}")
    predictions, errors = _predictions(revision, address)
    if predictions is None:
        missing = (
            f"The predictions of {text} are neither in DVC's cache nor in a remote that is configured "
            f"here{errors}: check {name} out where they were made and `dvc push`, or `git worktree add "
            f"FOLDER {quote(name)}`, `dvc repro` there and compare with FOLDER/{address.metrics.parent}"
        )
        return LoadedResult(text, result, None, missing, commit)
    source = pa.BufferReader(predictions)
    videos = read_per_video(source, address.protocol, f"{address.predictions} of {name}")
    return LoadedResult(text, result, videos, commit=commit)


def _predictions(revision: Revision, address: ResultAddress) -> tuple[bytes | None, str]:
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


def _check_one_evaluation(loaded: LoadedResult, address: ResultAddress) -> None:
    """DataError when metrics.json and predictions differ (a git checkout without DVC's)."""
    if loaded.videos is None:
        return
    metric = measured(address.protocol)[0]
    known = {(m.split, m.test): m for m in measures(loaded.result) if m.measure == metric}
    for (split, test), videos in loaded.videos.groupby(["split", "test"]):
        one = known.get(("" if address.protocol == "reid" else str(split), str(test)))
        value = float(videos[metric].mean())
        if one is None or one.n != len(videos) or abs(value - one.value) > _TOLERANCE:
            raise DataError(
                f"{loaded.name}: metrics.json and {address.predictions} are of two evaluations "
                f"({split}/{test}, {metric}); run `dvc checkout` after `git checkout`, or `dvc repro`"
            )
