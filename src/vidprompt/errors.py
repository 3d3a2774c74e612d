"""Errors that are a user's to mend: one sentence, no traceback."""

from __future__ import annotations


class UserError(Exception):
    """What was wrong, where, and what to do. The command line prints it and exits with `exit_code`."""

    exit_code = 2
    of_all = False  # all processes of a training raise it, and the first says it


class DataError(UserError):
    """An annotation, a video or a cache that cannot be used as it is."""
