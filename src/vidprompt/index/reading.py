"""Read a video for an index in a process of its own: its hash, and the frames of its clips."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Full, Queue
from threading import Event, Thread
from typing import Any, Protocol

from vidprompt.data.probe.result import Limits
from vidprompt.data.workers.isolated import TaskResult, isolated_map
from vidprompt.files.hashes import sha256
from vidprompt.index.scan import VideoFile
from vidprompt.system.errors import DataError, UserError

AHEAD = 16  # decoded videos that wait to be encoded
_JOIN_S = 1.0  # how long the thread that collects them is waited for


class Decoder(Protocol):
    """What decodes a video's clips and can be pickled: `prediction.clip_input.ClipInput`."""

    def decode(self, path: Path | str, max_pixels: int = ...) -> Any:
        """The frames of the clips of a video. Raises DataError."""


@dataclass(frozen=True)
class ReadJob:
    """A video to read.

    `known_sha256`: of the same path's file in an earlier shard, if it has the same size, or "": a file of
    that hash is not decoded. `decoder` is None where only the hash is wanted.
    """

    folder: Path
    file: VideoFile
    known_sha256: str
    decoder: Decoder | None
    max_pixels: int

    @property
    def path(self) -> Path:
        return self.folder / self.file.path


@dataclass(frozen=True)
class ReadVideo:
    """A file's hash, and its decoded video; None where the hash is the known one, or it failed."""

    sha256: str
    decoded: Any = None


def read_video(job: ReadJob) -> Iterator[ReadVideo]:
    """Yield the hash, and then the decoded video with it, where it is not known.

    Raises DataError where the file cannot be read, or was changed since the folder was looked at.
    """
    _check_unchanged(job)
    try:
        found = sha256(job.path)
    except OSError as error:
        raise DataError(f"it cannot be read: {error.strerror}") from error
    yield ReadVideo(found)
    if found != job.known_sha256 and job.decoder is not None:
        decoded = job.decoder.decode(job.path, job.max_pixels)
        _check_unchanged(job)
        yield ReadVideo(found, decoded)


def _check_unchanged(job: ReadJob) -> None:
    try:
        state = os.stat(job.path)  # noqa: PTH116
    except OSError as error:
        raise DataError(f"it cannot be read: {error.strerror}") from error
    if (state.st_size, state.st_mtime_ns) != job.file[1:]:
        raise DataError("it was changed while this ran: run the same again")


def read_videos(
    jobs: Sequence[ReadJob], workers: int, limits: Limits
) -> Generator[TaskResult[ReadVideo], None, None]:
    """The results of `read_video`, in order, from `workers` processes; 0 reads here, without limits."""
    if workers:
        results = isolated_map(
            read_video, jobs, workers, limits.timeout_s, 4 * workers, limits.memory_mb
        )
        with closing(_read_ahead(results, AHEAD)) as ahead:
            yield from ahead
        return
    for job in jobs:
        value: ReadVideo | None = None
        try:
            for step in read_video(job):
                value = step
        except UserError as error:
            yield TaskResult(value, "raised", str(error))
        else:
            yield TaskResult(value)


def _read_ahead(
    results: Generator[TaskResult[ReadVideo], None, None], size: int
) -> Generator[TaskResult[ReadVideo], None, None]:
    """The results, collected in a thread: the processes get their next videos while others are encoded."""
    items: Queue[tuple[str, Any]] = Queue(size)
    stopped = Event()

    def put(kind: str, value: Any = None) -> None:
        while not stopped.is_set():
            with suppress(Full):
                items.put((kind, value), timeout=0.2)
                return

    def collect() -> None:
        try:
            with closing(results):
                for result in results:
                    put("result", result)
                    if stopped.is_set():
                        return
        except BaseException as error:
            put("error", error)
        else:
            put("end")

    # a daemon: a decoder that hangs does not keep a command from ending
    thread = Thread(target=collect, daemon=True)
    thread.start()
    try:
        while True:
            kind, value = items.get()
            if kind == "end":
                return
            if kind == "error":
                raise value
            yield value
    finally:
        stopped.set()
        thread.join(_JOIN_S)
