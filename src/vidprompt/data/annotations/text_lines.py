"""Text lists read line by line, each line with where it stands."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vidprompt.system.errors import DataError


def numbered_lines(path: Path) -> Iterator[tuple[str, str]]:
    """The lines that are not blank, stripped, as (`<file>:<n>`, line); a byte order mark is dropped.

    Raises DataError when the file is missing, cannot be read, or is not UTF-8.
    """
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if line.strip():
            yield f"{path}:{number}", line.strip()


def read_text(path: Path) -> str:
    """A whole UTF-8 file, with `\\n` line ends. Raises DataError when it cannot be had."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path} is missing") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text (byte {error.start})") from error
