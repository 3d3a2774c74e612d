"""Errors that are a user's to mend: one sentence, no traceback."""

from __future__ import annotations

import errno

TRANSIENT_EXIT = 75  # EX_TEMPFAIL of sysexits.h: it may go well another time, with nothing changed
_TRANSIENT = frozenset(
    getattr(errno, name)
    for name in (
        *("EIO", "ESTALE", "ETIMEDOUT", "EAGAIN", "EBUSY", "EREMOTEIO", "ECOMM", "ENOLINK"),
        *("ECONNRESET", "ECONNREFUSED", "ECONNABORTED", "ENETUNREACH", "ENETRESET", "EHOSTUNREACH"),
    )
    if hasattr(errno, name)
)


class UserError(Exception):
    """What was wrong, where, and what to do. The command line prints it and exits with `exit_code`."""

    exit_code = 2
    of_all = False  # all processes of a training raise it, and the first says it


class DataError(UserError):
    """An annotation, a video or a cache that cannot be used as it is."""


def transient(error: BaseException) -> bool:
    """Is a disk, a network or another machine at the root of it, so that trying again makes sense?"""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        if isinstance(cause, ConnectionError | TimeoutError):
            return True
        if isinstance(cause, OSError) and cause.errno in _TRANSIENT:
            return True
        cause = cause.__cause__ or cause.__context__
    return False
