"""Probe one video file: decode it once in order, because headers lie about counts and only a decode
shows what is broken. On the way a few frames are kept as references, against which random access is
compared (`exact`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from vidprompt.data.decode.decoder_log import Complaints
from vidprompt.data.decode.orientation import UPRIGHT, orientation
from vidprompt.data.decode.reader import decoded, open_container, picture_stream
from vidprompt.data.probe.container import DeclaredShape, declared_shape
from vidprompt.data.probe.health import Health, Probe
from vidprompt.data.probe.on_disk import not_there, obstacle
from vidprompt.data.probe.random_access import References, random_access_agrees
from vidprompt.files.hashes import sha256

# Containers whose header declares the length (FFmpeg guesses others, sometimes wildly)
_DECLARING = ("avi", "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "asf")
_NO_VIDEOS = ("tty", "image2", "hls", "dash", "concat", "sdp", "imf")  # text, images, playlists
_LOST_SHARE, _LOST_FRAMES = 0.2, 5  # a shortfall below both is a header's usual lie
_REFUSED_SHARE = 0.05  # more packets than this refused by the decoder: undecodable
_DROPPED_SHARE = 0.1  # more packets than this without a frame, where it complained: undecodable
_DAMAGED_SHARE = 0.25  # more frames than this marked as corrupt: undecodable
_INT32 = 2**31 - 1

Samples = dict[int, bytes]  # frame number → hash of its pixels


def probe_file(path: Path, max_pixels: int) -> Iterator[Probe]:
    """A probe, then the same with `exact` settled: if decord hangs or crashes, the first stands.

    Never raises for a bad file, except MemoryError.
    """
    hindered = obstacle(path, "video")
    if hindered is not None:
        yield hindered
        return
    size = path.stat().st_size
    try:
        digest = sha256(path)
        probe, samples = _decode(path, declared_shape(path), max_pixels)
    except OSError as error:
        yield replace(not_there(path, "file", error), size=size)
        return
    probe = replace(probe, size=size, hash=digest)
    yield probe
    if samples and probe.n_frames:
        frame_bytes = probe.width * probe.height * 3
        exact = random_access_agrees(path, probe.n_frames, samples, frame_bytes)
        yield replace(probe, exact=exact)


def _decode(path: Path, shape: DeclaredShape, max_pixels: int) -> tuple[Probe, Samples]:
    import av

    with Complaints() as complaints:
        try:
            with open_container(path, max_pixels) as container:
                complaints.listen(0)
                return _look_inside(container, complaints, shape.missing, max_pixels)
        except MemoryError:
            raise
        except (av.FFmpegError, ValueError) as error:
            complaints.listen(0)
            if complaints.too_large:
                return Probe(Health.OK).too_large(*complaints.too_large, max_pixels), {}
            reason = getattr(error, "strerror", None) or str(error)
    if shape.missing or shape.headless:
        return Probe(Health.TRUNCATED, f"{shape.detail}: {reason}."), {}
    return Probe(Health.NOT_A_VIDEO, f"FFmpeg: {reason}."), {}


def _look_inside(
    container: Any, complaints: Complaints, missing: int, max_pixels: int
) -> tuple[Probe, Samples]:
    name = container.format.name
    if name in _NO_VIDEOS or name.endswith("_pipe"):
        return Probe(Health.NOT_A_VIDEO, f"Its content is {name}."), {}
    stream = picture_stream(container, max_pixels)
    if stream is None:
        if any(other.codec_context is None for other in container.streams.video):
            detail = "Undecodable at frame 0: FFmpeg has no decoder for its pictures."
            return Probe(Health.UNDECODABLE, detail, container=name), {}
        detail = f"The container ({name}) has no video stream."
        return Probe(Health.NO_VIDEO_STREAM, detail, container=name), {}
    known = Probe(
        Health.OK,
        container=name,
        codec=stream.codec_context.codec.canonical_name,
        header_frames=min(max(0, stream.frames), _INT32),
    )
    if stream.width * stream.height > max_pixels:
        return known.too_large(stream.width, stream.height, max_pixels), {}
    seen = _Seen()
    for frame in decoded(container, stream, complaints):
        seen.add(frame)
    if seen.count == 0 and complaints.too_large:
        return known.too_large(*complaints.too_large, max_pixels), {}
    probe = _judge(known, seen, complaints, missing, _Declared(container, stream))
    if probe.health is not Health.OK:
        return probe, {}
    return probe, seen.references.hashes(name, known.codec)


class _Declared:
    """What the header says: frames a second, and for how many seconds there are pictures."""

    def __init__(self, container: Any, stream: Any) -> None:
        self.rate = float(stream.average_rate or stream.guessed_rate or 0)
        self.seconds = _declared_seconds(container, stream, self.rate)


def _declared_seconds(container: Any, stream: Any, rate: float) -> float:
    """0 where the header does not say.

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


def _judge(
    known: Probe, seen: _Seen, complaints: Complaints, missing: int, declared: _Declared
) -> Probe:
    """Weigh what came against what the header declares and what FFmpeg complained about."""
    n, rate = seen.count, declared.rate
    covered = max(n / rate if rate else 0.0, seen.end - seen.start)
    lost_s = max(0.0, declared.seconds - covered)
    not_there = round(lost_s * rate)  # frames; in part a header's usual lie
    much = not_there >= _LOST_FRAMES and lost_s > _LOST_SHARE * (lost_s + covered)
    # packets without a frame are normal at the start of a clip that was cut out, and in some codecs
    criticised = complaints.refused + complaints.criticised
    dropped = max(complaints.refused, min(criticised, complaints.packets - n))
    lost = max(not_there, dropped)
    said = [complaints.sentence] if complaints else []
    if (lost > 1 or complaints.refused) and (complaints or missing or much):
        said.insert(0, f"{n:,} of about {n + lost:,} frames could be decoded.")
    came_whole = complaints.packets >= (1 - _LOST_SHARE) * known.header_frames > 0
    if missing and (not_there > 1 or complaints.refused or n == 0):
        said.insert(1, f"{missing:,} bytes are missing at its end.")
        return replace(known, health=Health.TRUNCATED, detail=" ".join(said))
    if n and much and not came_whole:
        return replace(known, health=Health.TRUNCATED, detail=" ".join(said))
    refused = complaints.refused > _REFUSED_SHARE * (n + complaints.refused)
    damaged = complaints.damaged > _DAMAGED_SHARE * n
    if n == 0 or much or refused or damaged or dropped > _DROPPED_SHARE * (n + dropped):
        if not complaints and n == 0:
            said.append("Undecodable at frame 0: no packet gave a picture.")
        return replace(known, health=Health.UNDECODABLE, detail=" ".join(said))
    return replace(
        known,
        detail=" ".join(said) if complaints else "",
        n_frames=n,
        width=seen.width,
        height=seen.height,
        rotation=seen.rotation,
        fps=rate or n / max(covered, 1e-3),
        duration=covered,
    )


class _Seen:
    """What a decode in order has shown: count, upright size, times in seconds, references."""

    def __init__(self) -> None:
        self.count = self.width = self.height = 0
        self.rotation = UPRIGHT.rotation
        self.start = self.end = 0.0
        self.references = References()

    def add(self, frame: Any) -> None:
        if self.count == 0:
            upright = orientation(frame)
            size = frame.width, frame.height
            self.width, self.height = size[::-1] if upright.sideways else size
            self.rotation = upright.rotation
        self.references.add(self.count, frame)
        stamp = frame.pts if frame.pts is not None else frame.dts
        if stamp is not None and frame.time_base:
            begin = float(stamp * frame.time_base)
            end = begin + float((frame.duration or 0) * frame.time_base)
            self.start = begin if self.count == 0 else min(self.start, begin)
            self.end = end if self.count == 0 else max(self.end, end)
        self.count += 1
