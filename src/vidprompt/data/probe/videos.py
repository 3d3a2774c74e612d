"""Probe videos: can each be used, how many frames does it really have, how may it be read.

A file is probed by `video_file`, a folder of images by `frame_folder`, many of them here, each in a process
that can be lost. `read_frames` of `vidprompt.data.decode.reader` is offered here too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from vidprompt.data.decode.reader import read_frames
from vidprompt.data.probe.frame_folder import probe_folder
from vidprompt.data.probe.health import HEALTH_SENTENCES, Health, Limits, Probe
from vidprompt.data.probe.on_disk import obstacle
from vidprompt.data.probe.video_file import probe_file
from vidprompt.data.workers.isolated import Outcome, Progress, guarded_unordered

__all__ = [
    "HEALTH_SENTENCES",
    "Health",
    "Limits",
    "Probe",
    "probe_many",
    "probe_presence",
    "probe_steps",
    "probe_video",
    "read_frames",
]

ProbeFunction = Callable[[Path, str, int], Iterator[Probe]]
Found = Callable[[int, Probe], None]


def probe_video(
    path: Path | str, min_frames: int, kind: str = "video", max_pixels: int = Limits.max_pixels
) -> Probe:
    """Decode a video once in order and say whether it can be used. Never raises for a bad file.

    `min_frames` is the number of frames the model takes: an intact video with fewer is
    `too_few_frames`. This runs in the calling process; `probe_many` guards against decoders that
    hang or crash.
    """
    *_, probe = probe_steps(Path(path), kind, max_pixels)
    return probe.for_frames(min_frames)


def probe_presence(path: Path, kind: str) -> Probe:
    """Whether it is there and has bytes, without opening it: a second for 100,000 videos."""
    hindered = obstacle(path, kind)
    if hindered is not None:
        return hindered
    return Probe(Health.UNOPENED, size=0 if kind == "frames" else path.stat().st_size)


def probe_steps(path: Path, kind: str, max_pixels: int) -> Iterator[Probe]:
    """What is known of the video, better and better; `too_few_frames` is not judged yet."""
    if kind == "frames":
        yield probe_folder(path, max_pixels)
    else:
        yield from probe_file(path, max_pixels)


def _probe_item(item: tuple[ProbeFunction, Path, str, int]) -> Iterator[Probe]:
    function, path, kind, max_pixels = item
    yield from function(path, kind, max_pixels)


def probe_many(
    items: Sequence[tuple[Path, str]],
    min_frames: int,
    workers: int,
    limits: Limits | None = None,
    progress: Progress | None = None,
    function: ProbeFunction = probe_steps,
    found: Found | None = None,
) -> Iterator[Probe]:
    """Probe (path, kind) pairs in worker processes; probes come in the order of the items.

    A file whose decoder passes a limit or dies costs that file only, as `timed_out`,
    `out_of_memory` or `crashed`. Where decord alone does so, the file is fine and merely not
    `exact`. `progress` is called with (done, total) as each ends, `found` with its number and its
    probe, not judged by `min_frames`, unless its process was killed from outside: that may not
    happen again. `function` must be importable by name.
    """
    limits = limits or Limits()
    work = [(function, Path(path), kind, limits.max_pixels) for path, kind in items]
    outcomes = guarded_unordered(
        _probe_item,
        work,
        workers,
        limits.timeout_s,
        ahead=len(work),
        memory_mb=limits.memory_mb,
    )
    early: dict[int, Probe] = {}
    given = 0
    for done, (index, outcome) in enumerate(outcomes, start=1):
        early[index] = _settle(outcome, work[index][1])
        if found is not None and not outcome.killed:
            found(index, early[index])
        if progress is not None:
            progress(done, len(work))
        while given in early:
            yield early.pop(given).for_frames(min_frames)
            given += 1


def _settle(outcome: Outcome[Probe], path: Path) -> Probe:
    if outcome.value is not None:
        return outcome.value
    size = path.stat().st_size if path.is_file() else 0
    health = Health.UNDECODABLE if outcome.failure == "raised" else Health(str(outcome.failure))
    return Probe(health, outcome.detail, size=size)
