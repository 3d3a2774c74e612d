"""Probe videos: whether each can be used, how many frames it has, and how to read them.

`video_file` probes a file and `frame_folder` a folder of images; `probe_many` runs them in isolated
worker processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

from vidprompt.data.manifest.health import Health
from vidprompt.data.probe.file_state import check_openable
from vidprompt.data.probe.frame_folder import probe_folder
from vidprompt.data.probe.result import Limits, ProbeResult
from vidprompt.data.probe.video_file import probe_file
from vidprompt.data.workers.isolated import Progress, TaskResult, isolated_map_unordered

ProbeFunction = Callable[[Path, str, int], Iterator[ProbeResult]]  # (path, kind, max_pixels)


def probe_video(
    path: Path | str, min_frames: int, kind: str = "video", max_pixels: int = Limits.max_pixels
) -> ProbeResult:
    """Decode a video once in order and check whether it can be used. Never raises for a bad file.

    `min_frames` is the number of frames the model takes: an intact video with fewer is
    `too_few_frames`. This runs in the calling process; `probe_many` isolates decoders that hang or
    crash.
    """
    *_, result = probe_progressively(Path(path), kind, max_pixels)
    return result.for_frames(min_frames)


def probe_by_stat(path: Path, kind: str) -> ProbeResult:
    """Check that a video exists and has bytes, without opening it: a second for 100,000 videos."""
    failure = check_openable(path, kind)
    if failure is not None:
        return failure
    return ProbeResult(Health.UNOPENED, size=0 if kind == "frames" else path.stat().st_size)


def probe_progressively(path: Path, kind: str, max_pixels: int) -> Iterator[ProbeResult]:
    """Yield improving results for one video; `too_few_frames` is not judged yet."""
    if kind == "frames":
        yield probe_folder(path, max_pixels)
    else:
        yield from probe_file(path, max_pixels)


def _probe_item(item: tuple[ProbeFunction, Path, str, int]) -> Iterator[ProbeResult]:
    function, path, kind, max_pixels = item
    yield from function(path, kind, max_pixels)


def probe_many(
    items: Sequence[tuple[Path, str]],
    min_frames: int,
    workers: int,
    limits: Limits | None = None,
    progress: Progress | None = None,
    function: ProbeFunction = probe_progressively,
    on_result: Callable[[int, ProbeResult], None] | None = None,
) -> list[ProbeResult]:
    """Probe (path, kind) pairs in worker processes; the results in the order of the items.

    A file whose decoder exceeds a limit or dies costs that file only, as `timed_out`, `out_of_memory`
    or `crashed`. Where only decord does so, the file is usable and not `exact`. `progress` is called
    with (done, total) as each ends. `on_result` is called with the item's number and its result, not
    judged by `min_frames`, unless its process was killed from outside: another run may give another
    result. `function` must be importable by name.
    """
    limits = limits or Limits()
    work = [(function, Path(path), kind, limits.max_pixels) for path, kind in items]
    outcomes = isolated_map_unordered(
        _probe_item,
        work,
        workers,
        limits.timeout_s,
        ahead=len(work),
        memory_mb=limits.memory_mb,
    )
    results: dict[int, ProbeResult] = {}
    with closing(outcomes):
        for done, (index, outcome) in enumerate(outcomes, start=1):
            results[index] = _probe_result(outcome, work[index][1])
            if on_result is not None and not outcome.killed:
                on_result(index, results[index])
            if progress is not None:
                progress(done, len(work))
    return [results[index].for_frames(min_frames) for index in range(len(work))]


def _probe_result(outcome: TaskResult[ProbeResult], path: Path) -> ProbeResult:
    """The last result that a process gave, or a failed one with the reason."""
    if outcome.value is not None:
        return outcome.value
    size = path.stat().st_size if path.is_file() else 0
    health = Health.UNDECODABLE if outcome.failure == "raised" else Health(str(outcome.failure))
    return ProbeResult(health, outcome.detail, size=size)
