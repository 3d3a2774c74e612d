"""`.vidprompt.json`: which package a project's files are from, and the hash that each had there."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from vidprompt.system.errors import UserError

RECORD = ".vidprompt.json"


@dataclass(frozen=True)
class Record:
    """The project's name, the package's version, and path → content hash of the package's files then."""

    name: str
    version: str
    files: dict[str, str]

    def write(self, root: Path) -> None:
        """Write it, atomically."""
        from vidprompt.files.atomic import write_json  # which every command need not import

        write_json(root / RECORD, {"name": self.name, "version": self.version, "files": self.files})


def read_record(root: Path) -> Record:
    """The record of the project in `root`. Raises UserError where there is none, or it cannot be read."""
    file = root / RECORD
    try:
        values = json.loads(file.read_text("utf-8"))
        files = {str(path): str(digest) for path, digest in values["files"].items()}
        return Record(str(values["name"]), str(values["version"]), files)
    except FileNotFoundError:
        raise UserError(
            f"no {RECORD} in {root.absolute()}: `vidprompt upgrade` works in a project that "
            "`vidprompt init` made"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file} cannot be read: take it from git again") from error
