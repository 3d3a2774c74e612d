"""A lock file that keeps a second process of this machine out of a folder."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from vidprompt.system.errors import UserError


@contextmanager
def exclusive_lock(folder: Path) -> Iterator[IO[str]]:
    """Hold `folder`/lock; yields the locked file (a child process that inherits it holds the lock too).

    Makes the folder. The system releases the lock when the process ends, however it ends. Raises
    UserError when another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"another process is at work in {folder}: wait for it, or stop it and run this again"
            ) from None
        yield lock
