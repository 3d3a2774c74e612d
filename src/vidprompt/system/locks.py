"""A lock file that keeps a second process out of what one writes, and says who holds it."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import shlex
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import IO

from vidprompt.system.errors import UserError

logger = logging.getLogger(__name__)

_UNSUPPORTED = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


@contextmanager
def exclusive_lock(folder: Path, file: Path | None = None) -> Iterator[IO[str]]:
    """Hold the lock of `folder` (a file there, or `file` elsewhere); yields the locked file.

    A child process that inherits the file holds the lock too. Makes the folder of the lock's file. The
    system releases the lock when the process ends, however it ends. Raises UserError, which names the
    holder, when another process has it. A file system without locks is a warning.
    """
    file = file or folder / "lock"
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a+", encoding="utf-8") as lock:  # not truncated: it names the holder
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"another process is at work in {folder}{_holder(lock)}: "
                "wait for it, or stop it and run this again"
            ) from None
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            logger.warning(f"{file}: {error.strerror}; nothing keeps a second run out of {folder}")
        _note_holder(lock)
        yield lock


def _note_holder(lock: IO[str]) -> None:
    """Write who holds the lock; a full disk does not matter."""
    holder = {
        "process": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.now().isoformat(" ", "seconds"),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])[:500],
    }
    with suppress(OSError):
        lock.truncate(0)
        lock.write(json.dumps(holder))
        lock.flush()


def _holder(lock: IO[str]) -> str:
    """` (process 123 on this machine since …: the command)`, as far as it is known."""
    try:
        lock.seek(0)
        holder = json.loads(lock.read())
        same = holder["host"] == socket.gethostname()
        host = "" if same else f" on {holder['host']}"
        return (
            f" (process {holder['process']}{host} since {holder['since']}: `{holder['command']}`)"
        )
    except (OSError, ValueError, TypeError, KeyError):
        return ""
