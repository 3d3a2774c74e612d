"""The user's name and home folder, which DVC and other libraries ask for and containers may lack."""

from __future__ import annotations

import getpass
import os

from vidprompt.system.errors import UserError, causes


def user_variables() -> dict[str, str]:
    """Variables to set so that the user has a name: their number, where the system knows none.

    It knows none in a container that was started with `--user`.
    """
    try:
        getpass.getuser()
    except (KeyError, OSError):
        return {"USER": str(os.getuid())}
    return {}


def no_home(error: BaseException) -> UserError | None:
    """The sentence for an error of a library that found no home folder; None for another error."""
    for cause in causes(error):
        text = str(cause).lower()
        if isinstance(cause, RuntimeError) and "could not determine" in text and "home dir" in text:
            return UserError(
                "there is no home folder: HOME is not set, and the system has no entry for user "
                f"{os.getuid()}. Set HOME to a folder that you may write to (in Docker: -e HOME=/tmp)"
            )
    return None
