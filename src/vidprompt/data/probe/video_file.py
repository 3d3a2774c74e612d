"""Probe one video file: decode it once in order, count its frames and judge its damage.

Headers are wrong about counts, and only a decode shows what is broken. During the decode a few frames are
hashed, to compare random access with them (`exact`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from vidprompt.data.decode.decoder_log import DecoderLog
from vidprompt.data.decode.reader import decoded, is_video_format, open_container, picture_stream
from vidprompt.data.decode.upright import UPRIGHT, ColourError, orientation
from vidprompt.data.manifest.health import Health
from vidprompt.data.probe.container import ContainerCheck, check_container
from vidprompt.data.probe.file_state import check_openable, missing_or_unreadable
from vidprompt.data.probe.pixel_notes import PixelNotes
from vidprompt.data.probe.random_access import References, random_access_agrees
from vidprompt.data.probe.result import ProbeResult
from vidprompt.files.hashes import sha256

# Containers whose header declares the length (FFmpeg guesses others, sometimes wildly)
_DECLARING = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "asf")
_LOST_SHARE, _LOST_FRAMES = 0.2, 5  # a shortfall below both is a header's usual error
_REFUSED_SHARE = 0.05  # more packets than this refused by the decoder: undecodable
_DROPPED_SHARE = (
    0.1  # more packets than this without a frame, where errors were logged: undecodable
)
_DAMAGED_SHARE = 0.25  # more frames than this marked as corrupt: undecodable
_NO_COUNT = (
    2**30
)  # frames: a header that counts so many does not know (FFmpeg's of an AVI to a pipe)
_MAX_RATE = 1000  # frames a second: above, it is the unit of the time stamps (raw DV)
_CUT_RECORDING = (
    "It ends within a picture or sound ({missing:,} bytes are missing) after {n:,} frames, and its header"
    " does not say how many there were. If it is a recording that was stopped, keep these with"
    " ffmpeg -i FILE -c copy NEW."
)

Samples = dict[int, bytes]  # frame number → hash of its pixels


def probe_file(path: Path, max_pixels: int) -> Iterator[ProbeResult]:
    """Yield a result, then the same with `exact` set: if decord hangs or crashes, the first stands.

    Never raises for a bad file, except MemoryError.
    """
    failure = check_openable(path, "video")
    if failure is not None:
        yield failure
        return
    size = path.stat().st_size
    try:
        digest = sha256(path)
        result, samples = _decode(path, check_container(path), max_pixels)
    except OSError as error:
        yield replace(missing_or_unreadable(path, "file", error), size=size)
        return
    result = replace(result, size=size, hash=digest)
    yield result
    if samples and result.n_frames:
        frame_bytes = result.width * result.height * 3
        exact = random_access_agrees(path, result.n_frames, samples, frame_bytes)
        yield replace(result, exact=exact)


def _decode(
    path: Path, container_check: ContainerCheck, max_pixels: int
) -> tuple[ProbeResult, Samples]:
    """Open and decode a file: its result (without size and hash) and the hashes of a few frames."""
    import av

    with DecoderLog() as log:
        try:
            with open_container(path, max_pixels) as container:
                log.collect(0)
                return _decode_stream(container, log, container_check, max_pixels)
        except MemoryError:
            raise
        except ColourError as error:
            return ProbeResult(Health.UNDECODABLE, f"{str(error)[0].upper()}{str(error)[1:]}."), {}
        except (av.FFmpegError, ValueError) as error:
            log.collect(0)
            if log.too_large:
                return ProbeResult(Health.OK).too_large(*log.too_large, max_pixels), {}
            reason = getattr(error, "strerror", None) or str(error)
    if container_check.missing or container_check.headless:
        return ProbeResult(Health.TRUNCATED, f"{container_check.detail}: {reason}."), {}
    return ProbeResult(Health.NOT_A_VIDEO, f"FFmpeg: {reason}."), {}


def _decode_stream(
    container: Any, log: DecoderLog, container_check: ContainerCheck, max_pixels: int
) -> tuple[ProbeResult, Samples]:
    """Decode an open container's pictures."""
    name = container.format.name
    if not is_video_format(name):
        return ProbeResult(Health.NOT_A_VIDEO, f"Its content is {name}."), {}
    stream = picture_stream(container, max_pixels)
    if stream is None:
        if any(other.codec_context is None for other in container.streams.video):
            detail = "Undecodable at frame 0: FFmpeg has no decoder for its pictures."
            return ProbeResult(Health.UNDECODABLE, detail, container=name), {}
        detail = f"The container ({name}) has no video stream."
        return ProbeResult(Health.NO_VIDEO_STREAM, detail, container=name), {}
    header = ProbeResult(
        Health.OK,
        container=name,
        codec=stream.codec_context.codec.canonical_name,
        header_frames=stream.frames if 0 < stream.frames < _NO_COUNT else 0,
    )
    if stream.width * stream.height > max_pixels:
        return header.too_large(stream.width, stream.height, max_pixels), {}
    pictures = _DecodedPictures()
    for frame in decoded(container, stream, log):
        pictures.add(frame)
    if pictures.count == 0 and log.too_large:
        return header.too_large(*log.too_large, max_pixels), {}
    rates = [float(rate or 0) for rate in (stream.average_rate, stream.guessed_rate)]
    rate = next((rate for rate in rates if 0 < rate <= _MAX_RATE), 0.0)
    declared_s = _declared_seconds(container, stream, header.header_frames, rate, container_check)
    result = _judge(header, pictures, log, container_check, rate, declared_s)
    if result.health is not Health.OK:
        return result, {}
    fingerprint = pictures.references.fingerprint(pictures.count)
    result = replace(result, fingerprint=fingerprint, notes=pictures.notes.sentences(stream))
    if max(stream.frames, (container.duration or 0) / 1e6 * rate) >= _NO_COUNT:
        return result, {}  # decord takes memory for as many, and dies
    return result, pictures.references.hashes(name, header.codec)


def _declared_seconds(
    container: Any, stream: Any, header_frames: int, rate: float, container_check: ContainerCheck
) -> float:
    """Duration of the pictures that the header declares, in seconds; 0 where it does not.

    AVI: its frame count (FFmpeg shortens the duration of a truncated file). Matroska: the file's
    duration; where other streams might be the longer ones, only if bytes are missing.
    """
    seconds = 0.0
    if container.format.name == "avi":
        seconds = header_frames / rate if rate else 0.0
    elif container.format.name in _DECLARING:
        if stream.duration is not None and stream.time_base:
            seconds = float(stream.duration * stream.time_base)
        elif len(container.streams) == 1 or container_check.missing:
            seconds = (container.duration or 0) / 1e6
    return seconds if seconds * rate < _NO_COUNT else 0.0


def _judge(
    header: ProbeResult,
    pictures: _DecodedPictures,
    log: DecoderLog,
    container_check: ContainerCheck,
    rate: float,
    declared_s: float,
) -> ProbeResult:
    """Compare the decoded frames with the header and the decoder's errors: ok, truncated or undecodable.

    `rate`: frames a second (0: unknown); `declared_s`: the header's duration in seconds (0: unknown).
    """
    n, missing = pictures.count, container_check.missing
    covered = max(n / rate if rate else 0.0, pictures.end - pictures.start)
    lost_s = max(0.0, declared_s - covered)
    absent = round(lost_s * rate)  # frames; in part a header's usual error
    much = absent >= _LOST_FRAMES and lost_s > _LOST_SHARE * (lost_s + covered)
    # packets without a frame are normal at the start of a clip that was cut out, and in some codecs
    errors = log.refused + log.criticised
    dropped = max(log.refused, min(errors, log.packets - n))
    lost = max(absent, dropped)
    sentences = [log.sentence] if log else []
    if container_check.in_pictures and not declared_s:
        sentences = [_CUT_RECORDING.format(missing=missing, n=n), *sentences]
        return replace(header, health=Health.TRUNCATED, detail=" ".join(sentences))
    if (lost > 1 or log.refused) and (log or missing or much):
        sentences.insert(0, f"{n:,} of about {n + lost:,} frames could be decoded.")
    complete = log.packets >= (1 - _LOST_SHARE) * header.header_frames > 0
    if missing and (absent > 1 or log.refused or n == 0):
        sentences.insert(1, f"{missing:,} bytes are missing at its end.")
        return replace(header, health=Health.TRUNCATED, detail=" ".join(sentences))
    if n and much and not complete:
        return replace(header, health=Health.TRUNCATED, detail=" ".join(sentences))
    refused = log.refused > _REFUSED_SHARE * (n + log.refused)
    damaged = log.damaged > _DAMAGED_SHARE * n
    if n == 0 or much or refused or damaged or dropped > _DROPPED_SHARE * (n + dropped):
        if not log and n == 0:
            sentences.append("Undecodable at frame 0: no packet gave a picture.")
        return replace(header, health=Health.UNDECODABLE, detail=" ".join(sentences))
    return replace(
        header,
        detail=" ".join(sentences) if log else "",
        n_frames=n,
        width=pictures.width,
        height=pictures.height,
        rotation=pictures.rotation,
        fps=rate or n / max(covered, 1e-3),
        duration=covered,
    )


class _DecodedPictures:
    """Measures of the frames decoded in order: count, upright size, times in seconds, references, notes."""

    def __init__(self) -> None:
        self.count = self.width = self.height = 0
        self.rotation = UPRIGHT.rotation
        self.start = self.end = 0.0
        self.references = References()
        self.notes = PixelNotes()

    def add(self, frame: Any) -> None:
        if self.count == 0:
            upright = orientation(frame)
            size = frame.width, frame.height
            self.width, self.height = size[::-1] if upright.sideways else size
            self.rotation = upright.rotation
        self.references.add(self.count, frame)
        self.notes.add(frame)
        time = frame.pts if frame.pts is not None else frame.dts
        if time is not None and frame.time_base:
            begin = float(time * frame.time_base)
            end = begin + float((frame.duration or 0) * frame.time_base)
            self.start = begin if self.count == 0 else min(self.start, begin)
            self.end = end if self.count == 0 else max(self.end, end)
        self.count += 1
