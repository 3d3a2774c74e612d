"""Errors of the machine as one sentence: a full disk, too little memory, a small /dev/shm, a killed worker.

Libraries report them in many ways: OSError with its number (Python, pyarrow), a number in a text
(safetensors, DataLoader workers), or words alone (SQLite, PyTorch). They are recognised here, once.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import traceback
from pathlib import Path

from vidprompt.system.errors import TransientError, UserError, causes

SHARED_MEMORY = Path("/dev/shm")  # where Linux keeps shared memory, of semaphores too # noqa: S108

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FULL_TEXT = re.compile(
    "|".join(
        [
            *(re.escape(os.strerror(number)) for number in _FULL),
            *(rf"os error {number}\b|\bcode: {number}\b" for number in _FULL),  # of Rust
            *(rf"\[[Ee]rrno {number}\]" for number in _FULL),
            "database or disk is full",  # of SQLite
        ]
    )
)
_SHARED_TEXT = re.compile(
    r"shared memory(\(shm\)| object)|</?torch_\d|torch_shm_manager|killed by signal: Bus error"
)
_MEMORY_TEXT = re.compile(
    r"can't allocate memory|[Cc]annot allocate memory|out of memory|bad_alloc|\[Errno 12\]"
)
_WORKER = re.compile(
    r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) "
    r"(?:is killed by signal: ([^.]*?)\. |exited unexpectedly)"
)
# where a batch is received: each part of it from the worker that made it, which has to be there still
_RECEIVING = ("multiprocessing/resource_sharer.py", "torch/multiprocessing/reductions.py")
_LITTLE = 1 << 20  # bytes


class DiskFullError(UserError):
    """A file that cannot be written: the disk is full, or a quota or limit is reached."""


def machine_error(error: BaseException) -> UserError | None:
    """The sentence for an error that the machine's limits caused; None for any other."""
    if isinstance(error, UserError):
        return error
    return _shared_memory(error) or disk_full(error) or _memory(error) or _killed_worker(error)


def disk_full(error: BaseException, path: Path | str | None = None) -> DiskFullError | None:
    """The sentence for a write that found no space; None for another error.

    `path`: what was written; else the error's own file name, or the fullest of the places that are written.
    """
    number = next((found for cause in causes(error) if (found := _full_number(cause))), None)
    if number is None:
        return None
    named = path or next((name for cause in causes(error) if (name := _file_name(cause))), None)
    where = Path(named) if named else _fullest()
    subject = (
        f"{where} cannot be written" if named else f"a file cannot be written, maybe in {where}"
    )
    return DiskFullError(
        f"{subject}: {os.strerror(number)} ({_free_space(where, number)}). What is finished is kept: "
        "free some space and run the same again"
    )


def _full_number(cause: BaseException) -> int | None:
    if isinstance(cause, OSError) and cause.errno is not None:
        return cause.errno if cause.errno in _FULL else None
    if isinstance(cause, UserError) or not (found := _FULL_TEXT.search(str(cause))):
        return None
    digits = re.search(r"\d+", found[0])
    if digits:
        return int(digits[0])
    return next((n for n in _FULL if os.strerror(n) == found[0]), errno.ENOSPC)


def _file_name(cause: BaseException) -> str:
    """The file that was written: of a copy the second."""
    name = getattr(cause, "filename2", None) or getattr(cause, "filename", None)
    return os.fsdecode(name) if isinstance(name, str | bytes) else ""


def _fullest() -> Path:
    """Of the folders that commands write to, the one with the smallest share of free space."""
    import tempfile

    def share(folder: Path) -> float:
        usage = shutil.disk_usage(folder)
        return usage.free / max(1, usage.total)

    return min((Path(), Path(tempfile.gettempdir())), key=share)


def _free_space(path: Path, number: int) -> str:
    """What is left where `path` would be."""
    if number == errno.EFBIG:
        return "a limit on the size of files: ulimit -f, or the file system's"
    folder = next(one for one in (path, *path.absolute().parents) if one.is_dir())
    try:
        usage, system = shutil.disk_usage(folder), os.statvfs(folder)
    except OSError:
        return "the disk does not say how much is free"
    if system.f_files and not system.f_favail:
        return "no more files fit on this disk: all its inodes are used"
    return f"{_size(usage.free)} of {_size(usage.total)} are free on this disk"


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def free_shared_memory() -> int | None:
    """Bytes that are free in /dev/shm; None where there is none."""
    try:
        return shutil.disk_usage(SHARED_MEMORY).free
    except OSError:
        return None


def _shared_memory(error: BaseException) -> UserError | None:
    for cause in causes(error):
        text = str(cause)
        # a semaphore that cannot be made: ENOSPC without a file's name
        nameless = isinstance(cause, OSError) and cause.errno == errno.ENOSPC and not cause.filename
        free = free_shared_memory()
        small = nameless and free is not None and free < _LITTLE
        if small or _SHARED_TEXT.search(text):
            size = (
                "" if free is None else f" has {_size(shutil.disk_usage(SHARED_MEMORY).total)} and"
            )
            return UserError(
                f"{SHARED_MEMORY}{size} is too small for the loading processes: in Docker, start the "
                "container with --shm-size=1g; else set fewer trainer.workers (0 needs none). What is saved "
                "is kept: run the same again"
            )
    return None


def _memory(error: BaseException) -> UserError | None:
    for cause in causes(error):
        kind, text = type(cause).__name__, str(cause)
        short = isinstance(cause, MemoryError) or kind == "OutOfMemoryError"
        short = short or (isinstance(cause, OSError) and cause.errno == errno.ENOMEM)
        if short or (isinstance(cause, RuntimeError) and _MEMORY_TEXT.search(text)):
            lines = [line.strip() for line in text.splitlines() if _MEMORY_TEXT.search(line)]
            reason = (lines or text.splitlines() or [kind])[0].rpartition("Allocator: ")[2]
            return UserError(
                f"out of memory ({reason[:160]}): use a smaller trainer.batch_size (or larger "
                "trainer.micro_batches), trainer.recompute=layer or fewer workers. What is saved is kept"
            )
    return None


def _killed_worker(error: BaseException) -> UserError | None:
    for cause in causes(error):
        if found := _WORKER.search(f"{cause} "):
            how = f"was ended by a signal ({found[2]})" if found[2] else "ended unexpectedly"
            subject = f"a loading process ({found[1]}) {how}"
        elif _receiving(cause):
            subject = "a loading process ended unexpectedly"
        else:
            continue
        return TransientError(
            f"{subject}: by the system when memory is short, or by a person. What is saved is kept: run the "
            "same again, with fewer workers if memory is short"
        )
    return None


def _receiving(cause: BaseException) -> bool:
    """Was the connection to a worker lost, or never made, while a batch was received from it?"""
    if not isinstance(cause, ConnectionError | FileNotFoundError | EOFError):
        return False
    frames = traceback.extract_tb(cause.__traceback__)
    return any(frame.filename.endswith(_RECEIVING) for frame in frames)
