"""Logging of the command line: messages go to stderr, results alone to stdout."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from functools import cache
from typing import TYPE_CHECKING

from vidprompt.system.suggestions import check_choice

if TYPE_CHECKING:
    from rich.console import Console

LEVEL = "VIDPROMPT_LOG_LEVEL"  # environment variable; child processes inherit it
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
_PREFIXES = {
    logging.DEBUG: "debug: ",
    logging.WARNING: "warning: ",
    logging.ERROR: "vidprompt: ",
}


def configure(level: str = "") -> None:
    """Show messages of the package from `level` on; empty: from $VIDPROMPT_LOG_LEVEL, else from INFO.

    Of several processes of one command, those after the first show errors only. Raises
    UserError for an unknown level.
    """
    level = level or os.environ.get(LEVEL) or "INFO"
    check_choice(LEVEL, level, LEVELS)
    os.environ[LEVEL] = level
    logger = logging.getLogger("vidprompt")
    logger.handlers = [_handler()]
    first = os.environ.get("RANK", "0") == "0"
    logger.setLevel(level if first else logging.ERROR)
    warnings.showwarning = _log_warning


@cache
def console() -> Console:
    """The terminal that messages and progress bars share, so that a message moves a bar down."""
    from rich.console import Console

    return Console(stderr=True)


def _handler() -> logging.Handler:
    if not sys.stderr.isatty():
        plain = PlainHandler()
        plain.setFormatter(PlainFormatter())
        return plain
    from rich.logging import RichHandler

    return RichHandler(console=console(), show_time=False, show_path=False)


class PlainHandler(logging.Handler):
    """Writes to what `sys.stderr` is at that moment."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            print(self.format(record), file=sys.stderr, flush=True)
        except Exception:
            self.handleError(record)


class PlainFormatter(logging.Formatter):
    """The message after its level; INFO, which most messages are, goes without saying."""

    def format(self, record: logging.LogRecord) -> str:
        return _PREFIXES.get(record.levelno, "") + super().format(record)


def _log_warning(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    """A warning of Python's module `warnings`: the message, and the category of other packages' ones."""
    kind = "" if category is UserWarning else f" ({category.__name__})"
    logging.getLogger("vidprompt.warnings").warning("%s%s", message, kind)
