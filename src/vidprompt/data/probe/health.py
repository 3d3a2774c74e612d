"""What probing finds out about a video, the reasons it may not be used, and within which limits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

# Raise it when the same file could be probed differently than before: what earlier versions found
# (`vidprompt.data.probe.cache`) is then found out again.
PROBE_VERSION = 1


class Health(StrEnum):
    """Why a video can or cannot be used; `sentence` explains the word to a person."""

    OK = "ok"
    MISSING = "missing"
    NOT_A_REGULAR_FILE = "not_a_regular_file"
    UNREADABLE = "unreadable"
    EMPTY = "empty"
    NOT_A_VIDEO = "not_a_video"
    NO_VIDEO_STREAM = "no_video_stream"
    TRUNCATED = "truncated"
    UNDECODABLE = "undecodable"
    TOO_LARGE = "too_large"
    TOO_FEW_FRAMES = "too_few_frames"
    TIMED_OUT = "timed_out"
    OUT_OF_MEMORY = "out_of_memory"
    CRASHED = "crashed"
    UNOPENED = "unopened"

    @property
    def sentence(self) -> str:
        return HEALTH_SENTENCES[self]


HEALTH_SENTENCES: dict[Health, str] = {
    Health.OK: "It decodes to its end and is long enough.",
    Health.MISSING: "It is annotated, but there is no such file or folder.",
    Health.NOT_A_REGULAR_FILE: "What has its name is a folder, a pipe or a device, not a file.",
    Health.UNREADABLE: "It is there, but may not be read, or the disk fails to read it.",
    Health.EMPTY: "The file has no bytes, or the folder no images.",
    Health.NOT_A_VIDEO: "Its bytes are not a video in any known format.",
    Health.NO_VIDEO_STREAM: "It is a media file without pictures, for example sound alone.",
    Health.TRUNCATED: "It ends before its header says it should: copied or downloaded in part.",
    Health.UNDECODABLE: "It looks like a video, but too many of its pictures cannot be decoded.",
    Health.TOO_LARGE: "Its pictures have more pixels than the limit (dataset.probe_max_pixels).",
    Health.TOO_FEW_FRAMES: "It is intact, but has fewer frames than the model takes.",
    Health.TIMED_OUT: "Decoding did not finish within the time limit (dataset.probe_timeout_s).",
    Health.OUT_OF_MEMORY: "Decoding took more memory than the limit (dataset.probe_memory_mb).",
    Health.CRASHED: "The decoder crashed on it, in two processes.",
    Health.UNOPENED: "It is there; what is in it was not looked at (dataset.probe=stat).",
}


@dataclass(frozen=True)
class Limits:
    """What one video may take, and what the probe may find.

    `timeout_s`: seconds of wall time. `memory_mb`: megabytes beyond what the process that decodes
    has when it starts; None for no limit. `max_pixels`: width times height of a picture.
    """

    timeout_s: float = 120.0
    memory_mb: int | None = 4096
    max_pixels: int = 8192 * 4320


@dataclass(frozen=True)
class Probe:
    """What was found out about one video: the manifest's measured columns.

    Sizes in pixels after rotation, `duration` in seconds, `size` in bytes, `rotation` the degrees
    clockwise by which a decoded picture is turned to stand upright (0, 90, 180, 270). `n_frames` is
    counted by decoding, `header_frames` what the container says (0: nothing). `container` and
    `codec` are FFmpeg's names. The numbers are 0 and the names may be empty when the video is
    broken; one that is intact but too short keeps them. `hash` is the SHA-256 of the file (of a
    folder: `probe_folder` says of what), empty where it could not be read to its end. `detail` says
    what was seen; when `health` is ok it is empty, or says what the decoder complained about.
    `exact`: decord's random access gives the frames of a decode in order.
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

    def for_frames(self, min_frames: int) -> Probe:
        """The same, judged: `too_few_frames` when it is ok and has fewer than `min_frames`."""
        if self.health is not Health.OK or self.n_frames >= min_frames:
            return self
        count = "1 frame" if self.n_frames == 1 else f"{self.n_frames} frames"
        detail = f"It is intact and has {count}; {min_frames} are needed."
        return replace(self, health=Health.TOO_FEW_FRAMES, detail=detail)

    def too_large(self, width: int, height: int, max_pixels: int) -> Probe:
        """A broken probe, with what is known of the file: its pictures are over the limit."""
        pixels = f"{width:,} × {height:,} pixels"
        return Probe(
            Health.TOO_LARGE,
            f"Its pictures are {pixels}; at most {max_pixels:,} pixels are decoded.",
            header_frames=self.header_frames,
            container=self.container,
            codec=self.codec,
            size=self.size,
        )
