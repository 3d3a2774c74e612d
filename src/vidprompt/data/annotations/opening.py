"""Decide by opening whether files are videos, where their names do not say it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from vidprompt.data.decode.reader import is_video_format, open_container
from vidprompt.data.workers.isolated import isolated_map
from vidprompt.system.cores import available_cores

_HEAD = 4096  # bytes of a file that tell text from anything else
_TEXT_VIDEO = b"YUV4MPEG2"  # a video whose file begins as text
_TIMEOUT_S, _MEMORY_MB = 20.0, 1024
_MAX_WORKERS = 4


def opened_videos(paths: Sequence[Path]) -> list[bool]:
    """Whether each file is a video: FFmpeg knows its format, and it has pictures beside a cover.

    Only the header is read, in worker processes; nothing is decoded. A file at which a worker hangs or dies
    counts as a video: the probe says what is wrong with it.
    """
    answers = dict.fromkeys(range(len(paths)), False)
    binary = [row for row, path in enumerate(paths) if not _is_text(path)]
    workers = min(_MAX_WORKERS, available_cores())
    items = [paths[row] for row in binary]
    results = isolated_map(_opens, items, workers, _TIMEOUT_S, memory_mb=_MEMORY_MB)
    for row, result in zip(binary, results, strict=True):
        answers[row] = result.value if result.value is not None else result.failure != "raised"
    return list(answers.values())


def _opens(path: Path) -> Iterator[bool]:
    import av
    from av.stream import Disposition

    try:
        with open_container(path) as container:
            streams = container.streams.video
            pictures = any(not one.disposition & Disposition.attached_pic for one in streams)
            yield pictures and is_video_format(container.format.name)
    except (av.FFmpegError, ValueError):
        yield False


def _is_text(path: Path) -> bool:
    """Whether a file begins as UTF-8 text, or is empty or cannot be read."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return True
    if head.startswith(_TEXT_VIDEO):
        return False
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:  # else the last letter is cut
            return False
        text = head[: error.start].decode()
    return all(letter.isprintable() or letter in "\t\n\r\f" for letter in text)
