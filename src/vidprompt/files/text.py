"""Read text files that people and other programs wrote."""

from __future__ import annotations

from pathlib import Path

from vidprompt.system.errors import DataError


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, with `\\n` line ends and without a byte order mark.

    Raises DataError when the file is missing, cannot be read, or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path} is missing") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8 text (byte {error.start}): save it as UTF-8"
        ) from error
