"""`Health`: the reasons why a video can or cannot be used."""

from __future__ import annotations

from enum import StrEnum


class Health(StrEnum):
    """Why a video can or cannot be used."""

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
        """The reason as a sentence, for reports."""
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
