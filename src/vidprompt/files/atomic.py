"""Write a file atomically: readers see the old file or the whole new one."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from typing import Any

from vidprompt.system.errors import UserError
from vidprompt.system.machine_errors import disk_full


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success fsync it and rename it to `path`.

    Makes the parent folders. On an exception the temporary file is removed and `path` is unchanged. Raises
    DiskFullError, which names `path`, when there is no space.
    """
    path = Path(path)
    temporary: Path | None = None
    with naming_full_disk(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(
                dir=path.parent, prefix=f".{path.name}.", suffix=".part"
            )
            os.close(handle)
            temporary = Path(name)
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.chmod(0o644)
            temporary.replace(path)
        finally:
            if temporary is not None:
                temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside `path`; on success it takes the place of `path`.

    On an exception it is removed and `path` is unchanged. Raises DiskFullError as `replacing` does. The
    caller holds a lock: one process at a time.
    """
    with naming_full_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(f".{escape(path.name)}.*.part"):  # by a killed process
            shutil.rmtree(left, ignore_errors=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part"))
        try:
            yield temporary
            temporary.chmod(0o755)
            shutil.rmtree(path, ignore_errors=True)
            temporary.rename(path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def naming_full_disk(path: Path) -> Iterator[None]:
    """Turn an error that says that the disk is full into a DiskFullError that names `path`."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if (full := disk_full(error, path)) is None:
            raise
        raise full from error


def write_text(path: Path | str, text: str) -> None:
    """Write text as UTF-8, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path | str, value: Any) -> None:
    """Write JSON with sorted keys and indent 1, atomically: equal values give equal bytes."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
