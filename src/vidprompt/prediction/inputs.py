"""Find the videos that arguments name: files, folders, patterns, lists, addresses, streams."""

from __future__ import annotations

import glob
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import BinaryIO

from vidprompt.data.annotations.left_out import LeftOut
from vidprompt.data.annotations.opening import opened_videos
from vidprompt.data.annotations.video_files import (
    NO_VIDEO_SUFFIXES,
    VIDEO_SUFFIXES,
    Entry,
    Kind,
    suffix_of,
    walk,
)
from vidprompt.data.decode.reader import IMAGE_SUFFIXES, image_names
from vidprompt.files.natural_order import natural_key
from vidprompt.system.errors import UserError

STDIN = "-"
REMOTE = ("http", "https", "s3")
STREAMS = ("rtsp", "rtsps", "rtmp", "rtmps", "srt", "udp", "tcp", "rtp")
_SCHEME = re.compile(
    r"([A-Za-z][A-Za-z0-9+.-]+):(//|[^/\\]+://)"
)  # two letters at least: C:\ is a drive
_DEVICE = re.compile(r"/dev/video\d+")


class InputKind(Enum):
    """How an input is read."""

    LOCAL = "a file or a folder of images"
    REMOTE = "an address that is downloaded"
    STREAM = "a camera or a stream without an end"
    FAILED = "nothing that can be read"


@dataclass(frozen=True)
class VideoInput:
    """One video: its `name` as it was given or found; `reason`, why it cannot be read (FAILED)."""

    name: str
    kind: InputKind = InputKind.LOCAL
    reason: str = ""


@dataclass(frozen=True)
class Inputs:
    """The videos that arguments name, in order; `notes` are sentences on files that are left out."""

    videos: tuple[VideoInput, ...]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.videos)


def find_inputs(arguments: Iterable[str], stdin: BinaryIO | None = None) -> Inputs:
    """The videos that arguments name, each once.

    An argument is a file; a folder, which is searched (see `videos_below`); a pattern (`clips/**/*.mp4`); an
    address (http, https, s3); a camera (/dev/video0) or a stream (rtsp://…); or `-`: such arguments are read
    from `stdin`, a line each, or with a zero byte after each (`find -print0`). What cannot be read is FAILED,
    with its reason: the others are used. Raises UserError where no argument names a video.
    """
    notes: list[str] = []
    videos: dict[str, VideoInput] = {}
    given = list(arguments)
    for argument in given:
        lines = _lines(stdin or sys.stdin.buffer) if argument == STDIN else [argument]
        for line in lines:
            for one in _of_argument(line, notes):
                videos.setdefault(one.name, one)
    if not videos:
        sentences = f" ({'; '.join(notes)})" if notes else ""
        raise UserError(f"there is no video in {', '.join(given) or 'an empty list'}{sentences}")
    return Inputs(tuple(videos.values()), tuple(notes))


def is_stream(name: str) -> bool:
    """Whether it is a camera or a stream without an end."""
    scheme = _SCHEME.match(name)
    return bool(_DEVICE.fullmatch(name)) or (bool(scheme) and scheme[1].lower() in STREAMS)  # type: ignore[index]


def videos_below(folder: Path) -> tuple[list[Path], list[str]]:
    """The videos below a folder, in the order of their numbers, and sentences on what is left out.

    A file is a video if its name says so, or else if FFmpeg opens it as one. Where there is none, each
    folder of images is a video. Links to folders are followed once.
    """
    found: list[str] = []
    undecided: list[str] = []
    images = set[str]()
    left_out = LeftOut()
    for entry in walk(folder, "."):
        if entry.kind is Kind.VIDEO:
            found.append(entry.path)
        elif entry.kind is Kind.OPEN:
            undecided.append(entry.path)
        else:
            if suffix_of(entry.path) in IMAGE_SUFFIXES and entry.kind is Kind.NO_VIDEO:
                images.add(str(Path(entry.path).parent))
            left_out.add(entry)
    answers = opened_videos([folder / path for path in undecided])
    for path, is_video in zip(undecided, answers, strict=True):
        if is_video:
            found.append(path)
        else:
            left_out.add(Entry(path, Kind.OPEN))
    if not found and images:
        return [folder / path for path in sorted(images, key=natural_key)], []
    return [folder / path for path in sorted(found, key=natural_key)], list(left_out.sentences())


def _lines(stream: BinaryIO) -> Iterator[str]:
    """The lines of a list, without empty ones."""
    data = stream.read()
    separator = b"\0" if b"\0" in data else b"\n"
    for line in data.removeprefix(b"\xef\xbb\xbf").split(separator):
        text = line.decode(errors="surrogateescape")
        text = text.rstrip("\r") if separator == b"\n" else text
        if text.strip():
            yield text


def _of_argument(argument: str, notes: list[str]) -> Iterator[VideoInput]:
    scheme = _SCHEME.match(argument)
    if is_stream(argument):
        yield VideoInput(argument, InputKind.STREAM)
    elif scheme and not Path(argument).exists():
        yield _of_address(argument, scheme[1].lower())
    else:
        yield from _of_path(argument, notes)


def _of_address(argument: str, scheme: str) -> VideoInput:
    if scheme not in REMOTE:
        reason = f"addresses are http, https or s3, and streams {', '.join(STREAMS)}; not {scheme}"
        if scheme == "file":
            reason += ": give the path alone"
        return VideoInput(argument, InputKind.FAILED, reason)
    if suffix_of(argument.partition("?")[0]) in (".m3u8", ".mpd"):
        reason = "it is a playlist, and what it lists is not fetched: give the address of a video"
        return VideoInput(argument, InputKind.FAILED, reason)
    return VideoInput(argument, InputKind.REMOTE)


def _of_path(argument: str, notes: list[str]) -> Iterator[VideoInput]:
    path = Path(argument).expanduser()
    try:
        there, is_folder = path.exists(), path.is_dir()
    except (OSError, ValueError) as error:  # a name that is too long, or has a zero byte
        reason = f"no path: {getattr(error, 'strerror', None) or error}"
        yield VideoInput(argument, InputKind.FAILED, reason)
        return
    if is_folder:
        yield from _of_folder(path, notes)
    elif there:
        yield VideoInput(str(path))
    elif glob.has_magic(argument):
        found = glob.glob(str(path), recursive=True)  # noqa: PTH207 (`**` as in a shell)
        matches = sorted(found, key=natural_key)
        if not matches:
            yield VideoInput(argument, InputKind.FAILED, "no file fits this pattern")
        yield from _of_matches(matches, argument, notes)
    else:
        yield VideoInput(argument, InputKind.FAILED, "no such file or folder")


def _of_matches(matches: Sequence[str], pattern: str, notes: list[str]) -> Iterator[VideoInput]:
    """Those of a pattern's matches that may be videos; with a suffix the pattern says it itself."""
    suffix = suffix_of(pattern)
    named = bool(suffix) and not glob.has_magic(suffix)
    undecided = [
        match
        for match in matches
        if not named
        and suffix_of(match) not in VIDEO_SUFFIXES | NO_VIDEO_SUFFIXES
        and Path(match).is_file()
    ]
    opened = dict(zip(undecided, opened_videos([Path(one) for one in undecided]), strict=True))
    for match in matches:
        if Path(match).is_dir():
            if "**" not in pattern:  # which matches what is in the folder, too
                yield from _of_folder(Path(match), notes)
        elif named or suffix_of(match) in VIDEO_SUFFIXES or opened.get(match):
            yield VideoInput(match)


def _of_folder(path: Path, notes: list[str]) -> Iterator[VideoInput]:
    try:
        has_images = bool(image_names(path))
    except OSError as error:
        yield VideoInput(str(path), InputKind.FAILED, f"it cannot be read ({error.strerror})")
        return
    found, sentences = videos_below(path)
    notes += [f"{path}: {sentence}" for sentence in sentences]
    if not found and has_images:
        found = [path]
    for video in found:
        yield VideoInput(str(video))
