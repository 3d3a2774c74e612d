"""Errors that are a user's to mend: one sentence, no traceback."""

from __future__ import annotations

import errno
import os
import re

TRANSIENT_EXIT = 75  # EX_TEMPFAIL of sysexits.h: it may go well another time, with nothing changed
_TRANSIENT = frozenset(
    getattr(errno, name)
    for name in (
        *("EIO", "ESTALE", "ETIMEDOUT", "EAGAIN", "EBUSY", "EREMOTEIO", "ECOMM", "ENOLINK"),
        *("ECONNRESET", "ECONNREFUSED", "ECONNABORTED", "ENETUNREACH", "ENETRESET", "EHOSTUNREACH"),
    )
    if hasattr(errno, name)
)
_ERRNO = re.compile(r"\[Errno (\d+)\]")


class UserError(Exception):
    """What was wrong, where, and what to do. The command line prints it and exits with `exit_code`."""

    exit_code = 2
    of_all = False  # all processes of a training raise it, and the first says it


class DataError(UserError):
    """An annotation, a video or a cache that cannot be used as it is."""


class TransientError(UserError):
    """A disk or a network did not do what it does at other times."""

    exit_code = TRANSIENT_EXIT


def transient(error: BaseException) -> bool:
    """Is a disk, a network or another machine at the root of it, so that trying again makes sense?

    What a process of a DataLoader raised has its cause in its text alone.
    """
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        if isinstance(cause, BrokenPipeError):  # whoever read our output has gone
            return False
        if isinstance(cause, ConnectionError | TimeoutError):
            return True
        if isinstance(cause, OSError) and cause.errno in _TRANSIENT:
            return True
        if any(int(number) in _TRANSIENT for number in _ERRNO.findall(str(cause))):
            return True
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return False


def passing(reason: str) -> bool:
    """`transient` of an error that was written down: by its number, or by the system's words for it."""
    if any(int(number) in _TRANSIENT for number in _ERRNO.findall(reason)):
        return True
    return any(os.strerror(number).lower() in reason.lower() for number in _TRANSIENT)
