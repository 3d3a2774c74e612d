"""Find the videos below a folder with their sizes and times of change, without opening them."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from vidprompt.data.annotations.opening import opened_videos
from vidprompt.data.annotations.video_files import Kind, walk
from vidprompt.system.errors import DataError, UserError

logger = logging.getLogger(__name__)


class VideoFile(NamedTuple):
    """A video: its POSIX path below the folder, its size in bytes, and when it was changed (nanoseconds)."""

    path: str
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class Scan:
    """The videos of a folder, in the order of their paths.

    `left_out`: folders and files that cannot be read, with the reason.
    """

    files: tuple[VideoFile, ...]
    left_out: tuple[str, ...]


def scan_videos(folder: Path, leave_out: Collection[Path] = ()) -> Scan:
    """The videos of `folder` and of the folders in it; symbolic links to folders are followed once.

    Files are videos by their suffix; of a file with an unknown suffix, or none, the header decides. What is
    below the folders `leave_out` is not looked at. Raises UserError where there is no such folder, and
    DataError where it has no video.
    """
    if not folder.is_dir():
        what = "it is a file" if folder.exists() else "there is no such folder"
        raise UserError(f"{folder}: {what}; name the folder of the videos")
    prefixes = tuple(_below(folder, one) for one in leave_out)
    files: list[VideoFile] = []
    left_out: list[str] = []
    unknown: list[str] = []
    for path, kind in walk(folder, "."):
        if kind is Kind.UNREADABLE:
            left_out.append(f"{path}: the folder cannot be read")
        if kind not in (Kind.VIDEO, Kind.OPEN) or path.startswith(tuple(filter(None, prefixes))):
            continue
        if kind is Kind.OPEN:
            unknown.append(path)
        else:
            _add(folder, path, files, left_out)
    opened = opened_videos([folder / path for path in unknown])
    for path, is_video in zip(unknown, opened, strict=True):
        if is_video:
            _add(folder, path, files, left_out)
    if not files:
        raise DataError(f"{folder} has no video")
    return Scan(tuple(sorted(files)), tuple(left_out))


def _below(folder: Path, other: Path) -> str:
    """The path of `other` below the folder, with a slash; "" where it is not below."""
    try:
        return other.resolve().relative_to(folder.resolve()).as_posix() + "/"
    except ValueError:
        return ""


def _add(folder: Path, path: str, files: list[VideoFile], left_out: list[str]) -> None:
    """Append a file with its state, or why it is left out."""
    try:
        path.encode()
        state = os.stat(folder / path)  # noqa: PTH116 (a link that leads nowhere is an error, too)
    except UnicodeEncodeError:
        shown = os.fsencode(path).decode(errors="backslashreplace")
        left_out.append(f"{shown}: its name is not UTF-8; rename it")
    except OSError as error:
        left_out.append(f"{path}: {error.strerror}")
    else:
        files.append(VideoFile(path, state.st_size, state.st_mtime_ns))
