"""Errors with a message for the user and no traceback, and which errors are transient."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator

TRANSIENT_EXIT = 75  # EX_TEMPFAIL of sysexits.h: a retry may succeed with nothing changed
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
    in_all_processes = False  # every process of a command raises it: rank 0 alone shows it


class DataError(UserError):
    """An annotation, a video or a cache that cannot be used as it is."""


class TransientError(UserError):
    """A failure of a disk or a network that a retry may not meet again."""

    exit_code = TRANSIENT_EXIT


def is_transient(error: BaseException) -> bool:
    """True if a disk, a network or another machine caused the error, so that a retry makes sense.

    Errors of DataLoader workers carry their cause in their text alone, which is searched, too.
    """
    for cause in causes(error):
        if isinstance(cause, BrokenPipeError):  # the reader of our output has ended
            return False
        if isinstance(cause, ConnectionError | TimeoutError):
            return True
        if isinstance(cause, OSError) and cause.errno in _TRANSIENT:
            return True
        if any(int(number) in _TRANSIENT for number in _ERRNO.findall(str(cause))):
            return True
    return False


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error, what caused it, and so on."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)


def first_line(error: BaseException) -> str:
    """The first line of an error's text that is not empty, else the name of its type."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def named_first_line(error: BaseException) -> str:
    """`ValueError: its first line`, or the name of its type alone."""
    kind, line = type(error).__name__, first_line(error)
    return kind if line == kind else f"{kind}: {line}"


def is_transient_message(message: str) -> bool:
    """`is_transient` of an error's text: by its errno, or by the system's message for one."""
    if any(int(number) in _TRANSIENT for number in _ERRNO.findall(message)):
        return True
    return any(os.strerror(number).lower() in message.lower() for number in _TRANSIENT)
