"""Make shards: read and encode the videos that are new, and take over the rows of the others."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from vidprompt.data.probe.result import Limits
from vidprompt.data.workers.isolated import TaskResult
from vidprompt.index.plan import KnownVideo, ShardTask, known_videos
from vidprompt.index.reading import Decoder, ReadJob, ReadVideo, read_videos
from vidprompt.index.scan import VideoFile
from vidprompt.index.store import IndexInfo, Row, write_shard
from vidprompt.inference.encoding import map_ahead, single_threaded
from vidprompt.prediction.results import video_feature
from vidprompt.system.errors import DataError, UserError

GROUP = 128  # shards whose videos pass through one set of decoding processes
CPU_CLIPS, GPU_CLIPS = 8, 64  # encoded at once (by each thread of a CPU), as in the features stage


class Encoder(Protocol):
    """What an index needs of a model: `prediction.model.Model`."""

    @property
    def name(self) -> str: ...
    @property
    def identity(self) -> str: ...
    @property
    def width(self) -> int: ...
    @property
    def device(self) -> torch.device: ...
    @property
    def input(self) -> Decoder: ...
    def cut(self, decoded: Any, video: str | Path) -> Any:
        """The clips of a decoded video: `.clips` (views, T, 3, S, S), `.duration` in seconds."""

    def encode(self, clips: torch.Tensor) -> NDArray[np.float32]:
        """(n, T, 3, S, S) → (n, E)."""

    def windows(
        self, video: str | Path, window: float, stride: float, *, isolated: bool, limits: Limits
    ) -> Iterator[Any]:
        """The windows of a video with `.start`, `.end` and `.feature`, in order."""


@dataclass(frozen=True)
class EncodeSettings:
    """How videos are read. `workers`: processes that decode; 0 decodes here, without `limits`."""

    workers: int = 2
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True)
class _Encoded:
    """A video's rows: (start, end) in seconds of each, features (n, E); or the reason it has none."""

    sha256: str
    spans: Sequence[tuple[float, float]] = ()
    features: NDArray[np.float32] | None = None
    reason: str = ""


def make_shards(
    tasks: Sequence[ShardTask],
    model: Encoder,
    index: Path,
    folder: Path,
    info: IndexInfo,
    settings: EncodeSettings,
    advance: Callable[[int], None],
) -> int:
    """Make each task's shard; returns how many videos were encoded.

    `advance` is called with the number of videos that are done.

    No batch has videos of two shards, so that a shard does not depend on what else is made. Raises
    DataError for a model of another identity, DiskFullError.
    """
    if (model.identity, model.width) != (info.identity, info.width):
        raise DataError(
            f"{model.name} is another model here ({model.identity}) than where the index was begun "
            f"({info.identity})"
        )
    remaining, encoded = iter(tasks), 0
    with single_threaded(model.device) as threads:
        while group := list(islice(remaining, GROUP)):
            encoded += _make_group(group, model, index, folder, info, settings, advance, threads)
    return encoded


def _make_group(
    tasks: Sequence[ShardTask],
    model: Encoder,
    index: Path,
    folder: Path,
    info: IndexInfo,
    settings: EncodeSettings,
    advance: Callable[[int], None],
    threads: int,
) -> int:
    known = [known_videos(index, task, info) for task in tasks]
    jobs = [
        [
            _job(folder, file, videos.get(file.path), model, info, settings)
            for file in task.plan.files
            if not _is_same(file, videos.get(file.path))
        ]
        for task, videos in zip(tasks, known, strict=True)
    ]
    results = read_videos([job for own in jobs for job in own], settings.workers, settings.limits)
    with closing(results):
        if info.window is None:
            encoded = _encode_whole(model, jobs, results, threads)
        else:
            encoded = _encode_windows(model, jobs, results, info, settings)
        encoded_count = 0
        with closing(encoded):
            for task, videos, own in zip(tasks, known, jobs, strict=True):
                new = {}
                advance(len(task.plan.files) - len(own))
                for job in own:
                    new[job.file.path] = next(encoded)
                    advance(1)
                _write(index, task, info, videos, new)
                encoded_count += sum(one.features is not None for one in new.values())
    return encoded_count


def _is_same(file: VideoFile, known: KnownVideo | None) -> bool:
    return known is not None and known.file == file


def _job(
    folder: Path,
    file: VideoFile,
    known: KnownVideo | None,
    model: Encoder,
    info: IndexInfo,
    settings: EncodeSettings,
) -> ReadJob:
    same_size = known is not None and known.file.size == file.size
    return ReadJob(
        folder=folder,
        file=file,
        known_sha256=known.sha256 if known is not None and same_size else "",
        decoder=model.input if info.window is None else None,
        max_pixels=settings.limits.max_pixels,
    )


def _write(
    index: Path,
    task: ShardTask,
    info: IndexInfo,
    known: dict[str, KnownVideo],
    new: dict[str, _Encoded],
) -> None:
    """Write a shard of what is known and what is new."""
    rows: list[Row] = []
    features: list[NDArray[np.float32]] = [np.empty((0, info.width), np.float32)]
    for file in task.plan.files:
        video, before = new.get(file.path), known.get(file.path)
        if video is not None and video.reason:
            rows.append(Row(*file[:1], 0.0, 0.0, *file[1:], video.sha256, video.reason))
            continue
        if video is not None and video.features is not None:
            sha256, spans, values = video.sha256, video.spans, video.features
        elif before is not None:  # the same file, or one of the same content
            sha256, spans, values = before.sha256, before.spans, before.features
        else:
            raise RuntimeError(f"{file.path} was neither encoded nor known")
        rows += [Row(file.path, start, end, *file[1:], sha256) for start, end in spans]
        features.append(values)
    write_shard(index, task.plan.key, info, rows, np.concatenate(features))


# -- a row a video ----------------------------------------------------------------------------


def _encode_whole(
    model: Encoder,
    jobs: Sequence[Sequence[ReadJob]],
    results: Iterator[TaskResult[ReadVideo]],
    threads: int,
) -> Generator[_Encoded, None, None]:
    """Each job's video, encoded, in order."""
    batches = map_ahead(
        lambda batch: _encode_batch(model, batch), _batches(model, jobs, results), threads
    )
    with closing(batches):
        for batch in batches:
            yield from batch


def _batches(
    model: Encoder, jobs: Sequence[Sequence[ReadJob]], results: Iterator[TaskResult[ReadVideo]]
) -> Iterator[list[tuple[ReadJob, TaskResult[ReadVideo]]]]:
    """Videos to encode at once."""
    clips = CPU_CLIPS if model.device.type == "cpu" else GPU_CLIPS
    views = getattr(model.input, "views", None)
    size = max(1, clips // (views.clips * views.crops if views else 1))
    for own in jobs:
        remaining = iter(own)
        while batch := [(job, next(results)) for job in islice(remaining, size)]:
            yield batch


def _encode_batch(
    model: Encoder, batch: Sequence[tuple[ReadJob, TaskResult[ReadVideo]]]
) -> list[_Encoded]:
    cut = [_cut(model, job, result) for job, result in batch]
    clips = [video.clips for video in cut if not isinstance(video, _Encoded)]
    encoded: list[NDArray[np.float32]] = []
    if clips:
        together = model.encode(clips[0] if len(clips) == 1 else torch.cat(clips))
        encoded = np.split(together, np.cumsum([len(one) for one in clips])[:-1])
    features = iter(encoded)
    return [
        video
        if isinstance(video, _Encoded)
        else _finite(result.value, [(0.0, video.duration)], video_feature(next(features))[None])
        for video, (_, result) in zip(cut, batch, strict=True)
    ]


def _cut(model: Encoder, job: ReadJob, result: TaskResult[ReadVideo]) -> Any:
    """The clips of a video that was read; an _Encoded where there is nothing to encode."""
    if (nothing := _without_frames(job, result)) is not None:
        return nothing
    assert result.value is not None
    try:
        return model.cut(result.value.decoded, job.path)
    except UserError as error:
        return _Encoded(result.value.sha256, reason=_reason(job, str(error)))


def _without_frames(job: ReadJob, result: TaskResult[ReadVideo]) -> _Encoded | None:
    """What is known of a video that failed, or whose content is that of the known one."""
    sha256 = result.value.sha256 if result.value else ""
    if result.failure is not None or result.value is None:
        return _Encoded(sha256, reason=_reason(job, result.detail))
    if sha256 == job.known_sha256:
        return _Encoded(sha256)
    return None


def _finite(
    read: ReadVideo | None, spans: Sequence[tuple[float, float]], features: NDArray[np.float32]
) -> _Encoded:
    sha256 = read.sha256 if read else ""
    if not np.isfinite(features).all():
        return _Encoded(sha256, reason="its features are not finite numbers")
    return _Encoded(sha256, spans, features)


def _reason(job: ReadJob, detail: str) -> str:
    """A failure's sentence without the path, which the row has; the same on every machine."""
    text = detail.strip().removeprefix(f"{job.path}: ").replace(str(job.path), job.path.name)
    return text or "it failed without a reason"


# -- a row a window ---------------------------------------------------------------------------


def _encode_windows(
    model: Encoder,
    jobs: Sequence[Sequence[ReadJob]],
    results: Iterator[TaskResult[ReadVideo]],
    info: IndexInfo,
    settings: EncodeSettings,
) -> Generator[_Encoded, None, None]:
    """The windows of each job's video; decoded, in order, in a process of its own."""
    assert info.window is not None
    assert info.stride is not None
    for job in (job for own in jobs for job in own):
        result = next(results)
        if (nothing := _without_frames(job, result)) is not None:
            yield nothing
            continue
        spans: list[tuple[float, float]] = []
        features: list[NDArray[np.float32]] = []
        windows: Any = model.windows(
            job.path,
            info.window,
            info.stride,
            isolated=settings.workers > 0,
            limits=settings.limits,
        )
        try:
            with closing(windows):
                for window in windows:
                    spans.append((window.start, window.end))
                    features.append(window.feature)
        except UserError as error:
            sha256 = result.value.sha256 if result.value else ""
            yield _Encoded(sha256, reason=_reason(job, str(error)))
            continue
        yield _finite(result.value, spans, np.stack(features))
