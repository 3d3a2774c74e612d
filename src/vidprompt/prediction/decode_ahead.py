"""Decode the first videos while the model loads; without torch."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Sequence
from concurrent.futures import Future
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from vidprompt.data.probe.result import Limits
from vidprompt.data.workers.isolated import TaskResult, isolated_map
from vidprompt.prediction.clip_input import ClipInput, decode_item
from vidprompt.prediction.decoding import DecodedVideo
from vidprompt.prediction.results import Failure

Result = tuple[Path, DecodedVideo | Failure]
_POLL_S = 0.2
_CLOSE_S = 3.0  # a process that starts is waited for


class DecodeAhead:
    """Decodes videos in processes that start at once, before it is known how frames are prepared.

    A process takes as long to start as a short video to decode, and torch takes longer to import: `results`
    gets what the model's input is when that is known. `close` ends everything.
    """

    def __init__(self, videos: Sequence[Path], workers: int, limits: Limits) -> None:
        self._videos, self._workers, self._limits = videos, workers, limits
        self._settings: Future[ClipInput] = Future()
        self._results: queue.Queue[TaskResult[DecodedVideo] | BaseException] = queue.Queue(
            2 * workers
        )
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def results(self, settings: ClipInput) -> Generator[Result, None, None]:
        """Each video with its decoded frames or the failure, in order."""
        self._settings.set_result(settings)
        try:
            for video in self._videos:
                result = self._results.get()
                if isinstance(result, BaseException):
                    raise result
                if result.failure is None and result.value is not None:
                    yield video, result.value
                else:
                    yield video, Failure(str(video), result.detail)
        finally:
            self.close()

    def close(self) -> None:
        """End the processes; one that decodes for long ends with this process."""
        self._closed.set()
        self._settings.cancel()
        self._thread.join(_CLOSE_S)

    def _run(self) -> None:
        items = [_Item(self._settings, video, self._limits.max_pixels) for video in self._videos]
        results = isolated_map(
            decode_item,  # type: ignore[arg-type]  # the items arrive as what they are pickled as
            items,
            self._workers,
            self._limits.timeout_s,
            2 * self._workers,
            memory_mb=self._limits.memory_mb,
        )
        try:
            with closing(results):
                for result in results:
                    self._put(result)
                    if self._closed.is_set():
                        return
        except BaseException as error:  # for who reads; none does after `close`
            self._put(error)

    def _put(self, result: TaskResult[DecodedVideo] | BaseException) -> None:
        while not self._closed.is_set():
            with suppress(queue.Full):
                self._results.put(result, timeout=_POLL_S)
                return


class _Item:
    """A video to decode. It is pickled as `decode_item` takes it, which waits for the settings."""

    def __init__(self, settings: Future[ClipInput], video: Path, max_pixels: int) -> None:
        self._settings, self._video, self._max_pixels = settings, video, max_pixels

    def __reduce__(self) -> tuple[Any, ...]:
        return tuple, ((self._settings.result(), self._video, self._max_pixels),)
