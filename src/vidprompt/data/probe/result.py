"""`ProbeResult`: what probing measures of a video; `Limits`: the time, memory and pixels it may take."""

from __future__ import annotations

from dataclasses import dataclass, replace

from vidprompt.data.manifest.health import Health

# Raise it with every change that may judge a file differently: results of earlier versions in the probe
# cache (`vidprompt.data.probe.cache`) are then discarded.
PROBE_VERSION = 3


@dataclass(frozen=True)
class Limits:
    """Limits of probing one video.

    `timeout_s`: seconds of wall time. `memory_mb`: megabytes beyond what the decoding process has when
    it starts; None for no limit. `max_pixels`: width times height of a picture.
    """

    timeout_s: float = 120.0
    memory_mb: int | None = 4096
    max_pixels: int = 8192 * 4320


@dataclass(frozen=True)
class ProbeResult:
    """The manifest's measured columns of one video.

    Sizes in pixels after rotation, `duration` in seconds, `size` in bytes, `rotation` the degrees
    clockwise by which a decoded picture is turned to stand upright (0, 90, 180, 270). `n_frames` is
    counted by decoding, `header_frames` is the container's count (0: none). `container` and
    `codec` are FFmpeg's names. The numbers are 0 and the names may be empty when the video is
    broken; one that is intact but too short keeps them. `hash` is the SHA-256 of the file (of a
    folder: see `probe_folder`), empty where it could not be read to its end. `detail` explains
    `health`; when that is ok it is empty, or lists the decoder's errors or gaps in the numbers of
    images. `notes` are sentences on the pixels of a video that is ok (`vidprompt.data.probe.pixel_notes`).
    `exact`: decord's random access gives the frames of a decode in order.
    `fingerprint`: of the pictures of a usable video, see `picture_fingerprint`.
    """

    health: Health
    detail: str = ""
    n_frames: int = 0
    header_frames: int = 0
    width: int = 0
    height: int = 0
    rotation: int = 0
    fps: float = 0.0
    duration: float = 0.0
    container: str = ""
    codec: str = ""
    size: int = 0
    hash: str = ""
    exact: bool = False
    fingerprint: str = ""
    notes: tuple[str, ...] = ()

    def for_frames(self, min_frames: int) -> ProbeResult:
        """This result; `too_few_frames` if it is ok and has fewer than `min_frames`."""
        if self.health is not Health.OK or self.n_frames >= min_frames:
            return self
        count = "1 frame" if self.n_frames == 1 else f"{self.n_frames} frames"
        detail = f"It is intact and has {count}; {min_frames} are needed."
        return replace(self, health=Health.TOO_FEW_FRAMES, detail=detail)

    def too_large(self, width: int, height: int, max_pixels: int) -> ProbeResult:
        """A failed result: the pictures are over the limit. Keeps what is known of the file."""
        pixels = f"{width:,} × {height:,} pixels"
        return ProbeResult(
            Health.TOO_LARGE,
            f"Its pictures are {pixels}; at most {max_pixels:,} pixels are decoded.",
            header_frames=self.header_frames,
            container=self.container,
            codec=self.codec,
            size=self.size,
        )
