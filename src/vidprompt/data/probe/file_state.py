"""Check a video's file or folder with `stat`, without opening it.

Links are followed, also out of the dataset's root: datasets are often linked from another disk. (A listed
*path* that leads out is refused where lists are read.)
"""

from __future__ import annotations

import errno
import stat
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from vidprompt.data.decode.reader import image_names
from vidprompt.data.manifest.health import Health
from vidprompt.data.probe.result import ProbeResult

_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class Stamp(NamedTuple):
    """Size, modification time and number of files: if they differ, the video has changed.

    `size` in bytes, `mtime_ns` in nanoseconds; for a folder of images the sum of sizes, the newest
    change, and the number of images.
    """

    size: int
    mtime_ns: int
    files: int


def stamp(path: Path, kind: str) -> Stamp | None:
    """The video's stamp; None where there is no regular file."""
    try:
        if kind == "frames":
            states = [(path / name).stat() for name in image_names(path)]
        else:
            states = [path.stat()]
    except (OSError, ValueError):
        return None
    if not all(stat.S_ISREG(state.st_mode) for state in states):
        return None
    newest = max((state.st_mtime_ns for state in states), default=0)
    return Stamp(sum(state.st_size for state in states), newest, len(states))


def check_openable(path: Path, kind: str) -> ProbeResult | None:
    """A failed result for a video that cannot be opened; None for one that can be tried."""
    noun = "folder" if kind == "frames" else "file"
    try:
        state = path.stat()
    except OSError as error:
        return missing_or_unreadable(path, noun, error)
    except ValueError:  # a name that cannot be one
        return ProbeResult(Health.MISSING, f"There is no {noun} {path.name!r}.")
    if kind == "frames":
        if stat.S_ISDIR(state.st_mode):
            return None
        return ProbeResult(
            Health.MISSING, f"There is no folder {path.name}, but a file of that name."
        )
    if not stat.S_ISREG(state.st_mode):
        what = _KINDS.get(stat.S_IFMT(state.st_mode), "something else")
        return ProbeResult(Health.NOT_A_REGULAR_FILE, f"{path.name} is {what}.")
    if state.st_size == 0:
        return ProbeResult(Health.EMPTY, "The file has 0 bytes.")
    return None


def missing_or_unreadable(path: Path, noun: str, error: OSError) -> ProbeResult:
    """The result for a file or folder that the system does not let us read."""
    if error.errno not in _GONE:
        return ProbeResult(Health.UNREADABLE, f"{path.name}: {error.strerror or error}.")
    detail = f"There is no {noun} {path.name}."
    with suppress(OSError):
        if path.is_symlink():
            detail = f"{path.name} is a link that leads nowhere."
    return ProbeResult(Health.MISSING, detail)
