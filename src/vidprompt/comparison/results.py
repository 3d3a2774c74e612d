"""One kept result, its metrics and what every video got: of the workspace or of a git revision."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from vidprompt.comparison.per_video import measured, read_per_video
from vidprompt.config import paths
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
    revision = address.revision
    names = ("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    found = _git(address.root, *names)
    if found is None:
        if _git(address.root, "rev-parse", "--git-dir") is None:
            raise UserError(
                f"{text}: {address.root.absolute()} is no git repository, so it has no revisions: leave "
                f"@{revision} out, or run this in a clone"
            )
        raise UserError(f"{text}: git knows no revision {revision!r} in {address.root.absolute()}")
    commit = found.decode().strip()
    content = _git(address.root, "show", f"{commit}:./{address.metrics.as_posix()}")
    if content is None:
        raise UserError(f"Revision {revision} ({commit[:7]}) has no {address.metrics}")
    metrics = _parsed(content, f"{address.metrics} of {revision}")
    tracked, failed = _tracked(address, commit)
    if tracked is None:
        missing = (
            f"The predictions of {text} are neither in DVC's cache nor in a remote that is configured "
            f"here: check {revision} out where they were made and `dvc push`, or `git worktree add "
            f"FOLDER {revision}`, `dvc repro` there and compare with FOLDER/{address.metrics.parent}"
            + (f" ({'; '.join(failed)})" if failed else "")
        )
        return Result(text, metrics, None, missing, commit)
    name = f"{address.predictions} of {revision}"
    videos = read_per_video(pa.BufferReader(tracked), address.protocol, name)
    return Result(text, metrics, videos, commit=commit)


def _git(root: Path, *arguments: str) -> bytes | None:
    """What git prints, None when it fails. UserError without git."""
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True)
    except FileNotFoundError as error:
        raise UserError("git is not installed: a revision cannot be read without it") from error
    return done.stdout if done.returncode == 0 else None


def _tracked(address: Address, commit: str) -> tuple[bytes | None, list[str]]:
    """The predictions as that revision's dvc.lock names them, or None; and which remotes failed, how."""
    import dvc.api
    from dvc.exceptions import PathMissingError

    failed = []
    for remote, settings in _stores(address.root):
        try:
            content: bytes = dvc.api.read(
                address.predictions.as_posix(),
                repo=str(address.root),
                rev=commit,
                remote=remote,
                mode="rb",
                config=settings,
            )
        except PathMissingError:
            continue
        except Exception as error:  # each kind of storage has its own: the next one may have them
            failed.append(f"{remote or 'the default remote'}: {error}".splitlines()[0])
            continue
        return content, []
    return None, failed


def _stores(root: Path) -> Iterator[tuple[str | None, dict[str, Any]]]:
    """Where DVC may have them: its cache and the default remote (None), then every other remote.

    With the settings of today, `.dvc/config.local` too: DVC would take those of the revision.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(str(root)) as repo:
            cache, remotes = dict(repo.config["cache"]), dict(repo.config["remote"])
    except DvcException:  # no project of DVC's
        return
    yield None, {"cache": cache}
    for name in sorted(remotes):
        yield name, {"cache": cache, "remote": {name: dict(remotes[name])}}


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
