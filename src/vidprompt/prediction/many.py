"""Predict the videos of a command's arguments, some at a time, in order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from vidprompt.data.probe.result import Limits
from vidprompt.metrics.unknown import UnknownThreshold
from vidprompt.prediction.classes import ClassTexts
from vidprompt.prediction.clip_input import ClipInput
from vidprompt.prediction.decode_ahead import DecodeAhead
from vidprompt.prediction.download import MAX_MB, downloaded
from vidprompt.prediction.inputs import InputKind, VideoInput
from vidprompt.prediction.results import Failure, Prediction
from vidprompt.system.cores import available_cores
from vidprompt.system.errors import DataError

_MAX_WORKERS = 4
_LOCAL, _REMOTE = 4096, 8  # videos at a time: what is downloaded takes room on the disk
_BASE_S, _PER_MB_S, _MOST_S = (
    300.0,
    10.0,
    6 * 3600.0,
)  # to decode a video from its beginning to its end


class Predictor(Protocol):
    """What predicts: `Model`, or an exported one. What `features` gives goes to `score`."""

    input: ClipInput

    def features(
        self,
        videos: Sequence[str | Path],
        *,
        workers: int = ...,
        limits: Limits | None = ...,
        **more: Any,
    ) -> Iterator[Any]: ...

    def score(
        self,
        video: str | Path,
        clips: Any,
        features: Any,
        texts: ClassTexts,
        threshold: UnknownThreshold | None = ...,
        /,
    ) -> Prediction: ...


@dataclass(frozen=True)
class DownloadLimits:
    """What may be fetched: `max_mb` megabytes an address; redirects to `private` addresses."""

    max_mb: int = MAX_MB
    private: bool = False


def predict_inputs(
    model: Predictor,
    videos: Sequence[VideoInput],
    texts: ClassTexts,
    *,
    threshold: UnknownThreshold | None = None,
    workers: int = 0,
    download: DownloadLimits | None = None,
    ahead: DecodeAhead | None = None,
) -> Iterator[Prediction | Failure]:
    """The prediction of each video, or why there is none, in order; no more than some are held.

    `ahead`: what decodes the first of them already (`decode_first`).
    """
    rest = iter(videos)
    remote = any(one.kind is InputKind.REMOTE for one in videos)
    while part := list(islice(rest, _REMOTE if remote else _LOCAL)):
        with ExitStack() as files:
            opened = [open_input(one, files, download or DownloadLimits()) for one in part]
            paths = [one for one in opened if isinstance(one, Path)]
            more = {"decoded": ahead.results(model.input)} if ahead is not None else {}
            ahead = None
            results: Any = model.features(
                paths, workers=min(workers, len(paths)), limits=_limits(paths), **more
            )
            files.enter_context(closing(results))
            for one, path in zip(part, opened, strict=True):
                result = path if isinstance(path, Failure) else next(results)
                if isinstance(result, Failure):
                    yield Failure(one.name, named(result.reason, path, one.name))
                else:
                    clips, features = result
                    yield model.score(one.name, clips, features, texts, threshold)


def decoding_workers(wanted: int | None, videos: int) -> int:
    """Processes that decode so many videos: as wanted (None: one a core, at most 4)."""
    if wanted is not None:
        return wanted
    return max(1, min(_MAX_WORKERS, available_cores(), videos))


def decode_first(videos: Sequence[VideoInput], workers: int) -> DecodeAhead | None:
    """Begin to decode the videos that `predict_inputs` takes first; None where these are fetched before."""
    part = videos[:_LOCAL]
    if not workers or any(one.kind is InputKind.REMOTE for one in videos):
        return None
    paths = [Path(one.name) for one in part if one.kind is InputKind.LOCAL]
    return DecodeAhead(paths, min(workers, len(paths)), _limits(paths)) if paths else None


def open_input(video: VideoInput, files: ExitStack, limits: DownloadLimits) -> Path | Failure:
    """The file of an input, downloaded where it is an address; `files` removes it at its end."""
    if video.kind is InputKind.FAILED:
        return Failure(video.name, video.reason)
    if video.kind is InputKind.STREAM:
        return Failure(video.name, "it is a stream without an end: give --window")
    if video.kind is InputKind.LOCAL:
        return Path(video.name)
    try:
        return files.enter_context(
            downloaded(video.name, max_mb=limits.max_mb, private=limits.private)
        )
    except DataError as error:
        return Failure(video.name, str(error).removeprefix(f"{video.name}: "))


def named(reason: str, path: Path | Failure, name: str) -> str:
    """A reason without the file's path at its beginning, which stands beside it."""
    for prefix in (str(path), name):
        reason = reason.removeprefix(f"{prefix}: ")
    return reason


def _limits(paths: Sequence[Path]) -> Limits:
    """Limits that a video of hours keeps: it is decoded from its beginning to its end."""
    largest = 0
    for path in paths:
        try:
            largest = max(largest, path.stat().st_size)
        except OSError:
            continue
    return Limits(timeout_s=min(_BASE_S + _PER_MB_S * largest / 2**20, _MOST_S))
