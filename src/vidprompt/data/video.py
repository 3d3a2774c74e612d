"""Probe videos: can each be used, how many frames does it really have, how may it be read.

Every file is decoded once in order, because headers lie about counts and only a decode shows what
is broken. On the way a few frames are kept as references, against which random access is compared
(`exact`). Reading itself is `vidprompt.data.decoding`; `read_frames` is offered here too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any

from vidprompt.data.container import declared_shape
from vidprompt.data.decoding import (
    decoded,
    image_names,
    open_container,
    picture_stream,
    quarter_turns,
    read_frames,
)
from vidprompt.data.guarded import Outcome, Progress, guarded_map
from vidprompt.data.random_access import References, random_access_agrees

__all__ = [
    "HEALTH_SENTENCES",
    "Health",
    "Probe",
    "probe_frames_folder",
    "probe_many",
    "probe_presence",
    "probe_steps",
    "probe_video",
    "read_frames",
]

# Containers whose header declares the length (FFmpeg guesses others, sometimes wildly)
_DECLARING = ("avi", "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "asf")
_LOST_SHARE, _LOST_FRAMES = 0.2, 5  # a shortfall below both is a header's usual lie
_BAD_SHARE = 0.05  # more packets than this refused by the decoder: undecodable


class Health(StrEnum):
    """Why a video can or cannot be used; `sentence` explains the word to a person."""

    OK = "ok"
    MISSING = "missing"
    EMPTY = "empty"
    NOT_A_VIDEO = "not_a_video"
    NO_VIDEO_STREAM = "no_video_stream"
    TRUNCATED = "truncated"
    UNDECODABLE = "undecodable"
    TOO_FEW_FRAMES = "too_few_frames"
    TIMED_OUT = "timed_out"
    CRASHED = "crashed"
    UNOPENED = "unopened"

    @property
    def sentence(self) -> str:
        return HEALTH_SENTENCES[self]


HEALTH_SENTENCES: dict[Health, str] = {
    Health.OK: "It decodes to its end and is long enough.",
    Health.MISSING: "It is annotated, but there is no such file or folder.",
    Health.EMPTY: "The file has no bytes, or the folder no images.",
    Health.NOT_A_VIDEO: "Its bytes are not a video in any known format.",
    Health.NO_VIDEO_STREAM: "It is a media file without pictures, for example sound alone.",
    Health.TRUNCATED: "It ends before its header says it should: copied or downloaded in part.",
    Health.UNDECODABLE: "It looks like a video, but its pictures cannot be decoded.",
    Health.TOO_FEW_FRAMES: "It is intact, but has fewer frames than the model takes.",
    Health.TIMED_OUT: "Decoding did not finish within the time limit.",
    Health.CRASHED: "The decoder crashed on it.",
    Health.UNOPENED: "It is there; what is in it was not looked at (dataset.probe=stat).",
}


@dataclass(frozen=True)
class Probe:
    """What was found out about one video: the manifest's measured columns.

    Sizes in pixels after rotation, `duration` in seconds, `size` in bytes. The numbers are 0 and
    `codec` may be empty when the video is broken; a video that is intact but too short keeps them.
    `detail` is empty when `health` is ok. `exact`: decord's random access gives the frames of a
    decode in order.
    """

    health: Health
    detail: str = ""
    n_frames: int = 0
    width: int = 0
    height: int = 0
    fps: float = 0.0
    duration: float = 0.0
    codec: str = ""
    size: int = 0
    exact: bool = False


def probe_video(path: Path | str, min_frames: int) -> Probe:
    """Decode a file once in order and say whether it can be used. Never raises for a bad file.

    `min_frames` is the number of frames the model takes: an intact file with fewer is
    `too_few_frames`. This runs in the calling process; `probe_many` guards against decoders that
    hang or crash.
    """
    *_, probe = probe_steps(Path(path), "video", min_frames)
    return probe


def probe_presence(path: Path, kind: str) -> Probe:
    """Whether it is there and has bytes, without opening it: a second for 100,000 videos."""
    try:
        about = path.stat()
    except OSError:
        return Probe(Health.MISSING, f"There is no {kind} {path.name}.")
    if kind == "frames":
        return Probe(Health.UNOPENED, codec="jpeg")
    if about.st_size == 0:
        return Probe(Health.EMPTY, "The file has 0 bytes.")
    return Probe(Health.UNOPENED, size=about.st_size)


def probe_steps(path: Path, kind: str, min_frames: int) -> Iterator[Probe]:
    """A probe, then the same with `exact` settled: if decord hangs or crashes, the first stands."""
    if kind == "frames":
        yield probe_frames_folder(path, min_frames)
        return
    if not path.is_file():
        yield Probe(Health.MISSING, f"There is no file {path.name}.")
        return
    probe, samples = _probe_in_order(path, path.stat().st_size, min_frames)
    yield probe
    if samples and probe.n_frames:
        yield replace(probe, exact=random_access_agrees(path, probe.n_frames, samples))


def _probe_in_order(path: Path, size: int, min_frames: int) -> tuple[Probe, dict[int, bytes]]:
    import av

    if size == 0:
        return Probe(Health.EMPTY, "The file has 0 bytes."), {}
    shape = declared_shape(path)
    try:
        with open_container(path) as container:
            name = container.format.name
            if name == "tty" or name == "image2" or name.endswith("_pipe"):
                return Probe(Health.NOT_A_VIDEO, f"Its content is {name}.", size=size), {}
            stream = picture_stream(container)
            if stream is None:
                detail = f"The container ({name}) has no video stream."
                return Probe(Health.NO_VIDEO_STREAM, detail, size=size), {}
            return _judge(container, stream, _Seen(), size, shape.missing, min_frames)
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        if shape.missing or shape.headless:
            detail = f"{shape.detail}: {reason}."
            return Probe(Health.TRUNCATED, detail, size=size), {}
        return Probe(Health.NOT_A_VIDEO, f"FFmpeg: {reason}.", size=size), {}


def _judge(
    container: Any, stream: Any, seen: _Seen, size: int, missing: int, min_frames: int
) -> tuple[Probe, dict[int, bytes]]:
    """Decode everything and weigh what came against what the header declares."""
    errors: list[str] = []
    for frame in decoded(container, stream, errors):
        seen.add(frame)
    codec = stream.codec_context.codec.canonical_name
    rate = float(stream.average_rate or stream.guessed_rate or 0)
    n = seen.count
    covered = max(n / rate if rate else 0.0, seen.end - seen.start)
    lost = max(0.0, _declared_seconds(container, stream, rate) - covered)
    lost_frames = round(lost * rate)
    broken = partial(Probe, codec=codec, size=size)
    much = lost_frames >= _LOST_FRAMES and lost > _LOST_SHARE * (lost + covered)
    if (missing and (lost_frames > 1 or errors or n == 0)) or (n and much):
        bytes_ = f", and {missing} bytes are missing at its end" if missing else ""
        detail = f"{n} of about {n + lost_frames} frames could be decoded{bytes_}."
        return broken(Health.TRUNCATED, detail), {}
    if n == 0:
        why = f" (FFmpeg: {errors[0]})" if errors else ""
        return broken(Health.UNDECODABLE, f"No frame could be decoded{why}."), {}
    if len(errors) > _BAD_SHARE * (n + len(errors)):
        detail = f"The decoder refused {len(errors)} packets beside {n} frames: {errors[0]}."
        return broken(Health.UNDECODABLE, detail), {}
    probe = broken(
        Health.OK,
        n_frames=n,
        width=seen.width,
        height=seen.height,
        fps=rate or n / max(covered, 1e-3),
        duration=covered,
    )
    hashes = seen.references.hashes(container.format.name, codec)
    return _long_enough(probe, min_frames), hashes


def _long_enough(probe: Probe, min_frames: int) -> Probe:
    if probe.n_frames >= min_frames:
        return probe
    count = "1 frame" if probe.n_frames == 1 else f"{probe.n_frames} frames"
    detail = f"It is intact and has {count}; {min_frames} are needed."
    return replace(probe, health=Health.TOO_FEW_FRAMES, detail=detail)


def _declared_seconds(container: Any, stream: Any, rate: float) -> float:
    """How long the header says the pictures last; 0 where it does not say.

    AVI: its frame count (FFmpeg shortens the duration of a truncated file). Matroska: the file's
    duration, unless other streams might be the longer ones.
    """
    if container.format.name not in _DECLARING:
        return 0.0
    if container.format.name == "avi":
        return stream.frames / rate if rate else 0.0
    if stream.duration is not None and stream.time_base:
        return float(stream.duration * stream.time_base)
    if container.duration is not None and len(container.streams) == 1:
        return container.duration / 1e6
    return 0.0


class _Seen:
    """What a decode in order has shown: count, upright size, times in seconds, references."""

    def __init__(self) -> None:
        self.count = self.width = self.height = 0
        self.start = self.end = 0.0
        self.references = References()

    def add(self, frame: Any) -> None:
        if self.count == 0:
            turned = quarter_turns(frame) % 2
            size = (frame.height, frame.width) if turned else (frame.width, frame.height)
            self.width, self.height = size
        self.references.add(self.count, frame)
        stamp = frame.pts if frame.pts is not None else frame.dts
        if stamp is not None and frame.time_base:
            begin = float(stamp * frame.time_base)
            end = begin + float((frame.duration or 0) * frame.time_base)
            self.start = begin if self.count == 0 else min(self.start, begin)
            self.end = end if self.count == 0 else max(self.end, end)
        self.count += 1


def probe_frames_folder(path: Path | str, min_frames: int) -> Probe:
    """Probe a tracklet: a folder of images, one a frame. Never raises for a bad folder.

    The first image is decoded for its size, every file is checked for having bytes. `size` is the
    sum in bytes; there is no time base, so `fps` and `duration` are 0.
    """
    from PIL import Image

    path = Path(path)
    if not path.is_dir():
        return Probe(Health.MISSING, f"There is no folder {path.name}.", codec="jpeg")
    names = image_names(path)
    if not names:
        return Probe(Health.EMPTY, "The folder has no images.", codec="jpeg")
    sizes = [(path / name).stat().st_size for name in names]
    broken = partial(Probe, codec="jpeg", size=sum(sizes))
    if 0 in sizes:
        detail = f"{sizes.count(0)} of {len(names)} images have 0 bytes: {names[sizes.index(0)]}."
        return broken(Health.UNDECODABLE, detail)
    try:
        with Image.open(path / names[0]) as image:
            image.load()
            width, height = image.size
    except (OSError, ValueError, SyntaxError) as error:
        return broken(Health.UNDECODABLE, f"{names[0]} cannot be decoded: {error}.")
    probe = broken(Health.OK, n_frames=len(names), width=width, height=height, exact=True)
    return _long_enough(probe, min_frames)


ProbeFunction = Callable[[Path, str, int], Iterator[Probe]]


def _probe_item(item: tuple[ProbeFunction, Path, str, int]) -> Iterator[Probe]:
    function, path, kind, min_frames = item
    yield from function(path, kind, min_frames)


def probe_many(
    items: Sequence[tuple[Path, str]],
    min_frames: int,
    workers: int,
    timeout_s: float = 120.0,
    progress: Progress | None = None,
    function: ProbeFunction = probe_steps,
) -> Iterator[Probe]:
    """Probe (path, kind) pairs in worker processes; probes come in the order of the items.

    A file whose decoder takes over `timeout_s` seconds or dies costs that file only, as
    `timed_out` or `crashed`. Where decord alone does so, the file is fine and merely not `exact`.
    `progress` is called with (done, total) after each. `function` must be importable by name.
    """
    work = [(function, Path(path), kind, min_frames) for path, kind in items]
    for done, outcome in enumerate(guarded_map(_probe_item, work, workers, timeout_s), start=1):
        yield _settle(outcome, work[done - 1][1])
        if progress is not None:
            progress(done, len(work))


def _settle(outcome: Outcome[Probe], path: Path) -> Probe:
    if outcome.value is not None:
        return outcome.value
    size = path.stat().st_size if path.is_file() else 0
    health = Health.UNDECODABLE if outcome.failure == "raised" else Health(str(outcome.failure))
    return Probe(health, outcome.detail, size=size)
