"""Keep probe results in an SQLite file, so that unchanged videos are not opened again.

One file a dataset, beside the pipeline's outputs and not among them; it can be deleted at any time. A
video is identified by its path below the dataset's root, its size and its modification time (a folder of
images by the sum of sizes, the newest change and the number of images): a changed one is probed again, and
so is every video after a change of the probe's code or of a decoder.

Results are kept before `min_frames` is judged. Those that depend on a limit (time, memory, pixels) are
valid for these limits only.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any

from vidprompt.data.manifest.health import Health
from vidprompt.data.probe.file_state import Stamp, stamp
from vidprompt.data.probe.result import PROBE_VERSION, Limits, ProbeResult
from vidprompt.data.probe.videos import probe_many
from vidprompt.data.workers.isolated import Progress

logger = logging.getLogger(__name__)

_FORMAT = 1  # of the table; a file of another format is set aside
_LIMITED = (Health.TIMED_OUT, Health.OUT_OF_MEMORY, Health.CRASHED, Health.TOO_LARGE)
_TABLE = (
    "CREATE TABLE probes (path BLOB, kind TEXT, size INTEGER, mtime_ns INTEGER, files INTEGER,"
    " version TEXT, limits TEXT, probe TEXT, PRIMARY KEY (path, kind)) WITHOUT ROWID"
)


def probe_version() -> str:
    """The versions that a result depends on: of the probe's code and of the decoders."""
    names = []
    for name in ("av", "decord", "decord2", "pillow"):
        with suppress(PackageNotFoundError):
            names.append(f"{name} {version(name)}")
    return f"probe {PROBE_VERSION}, {', '.join(names)}"


class ProbeCache:
    """`with ProbeCache(path, limits) as cache`: results of earlier runs, and a place for new ones.

    It never stops a run: a damaged file is set aside, and without a writable file no results are kept,
    each with a warning in the log.
    """

    def __init__(self, path: Path, limits: Limits) -> None:
        self.path, self.limits = path, limits
        self._version = probe_version()
        self._limits = json.dumps(asdict(limits), sort_keys=True)
        self._database: sqlite3.Connection | None = None

    def __enter__(self) -> ProbeCache:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._database = self._open()
            except sqlite3.OperationalError:  # locked or no permission: the file is not damaged
                raise
            except sqlite3.DatabaseError as error:
                self._set_aside(str(error))
                self._database = self._open()
        except (sqlite3.Error, OSError) as error:
            self._disable(error)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    def get(self, name: str, kind: str, mark: Stamp) -> ProbeResult | None:
        """The valid result of a video (`name` is its path below the root) with this stamp, or None."""
        query = "SELECT size, mtime_ns, files, version, limits, probe FROM probes WHERE path = ? AND kind = ?"
        row = next(iter(self._execute(query, os.fsencode(name), kind)), None)
        if row is None or Stamp(*row[:3]) != mark or row[3] != self._version:
            return None
        try:
            fields = json.loads(row[5])
            fields |= {"health": Health(fields["health"]), "notes": tuple(fields["notes"])}
            result = ProbeResult(**fields)
        except (ValueError, TypeError, KeyError):
            return None
        if result.health in _LIMITED:
            valid = row[4] == self._limits
        else:
            valid = result.width * result.height <= self.limits.max_pixels
        return result if valid else None

    def put(self, name: str, kind: str, mark: Stamp, result: ProbeResult) -> None:
        """Keep the result of a video that had this stamp before it was opened."""
        text = json.dumps(asdict(result), ensure_ascii=True)
        insert = "INSERT OR REPLACE INTO probes VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
        self._execute(insert, os.fsencode(name), kind, *mark, self._version, self._limits, text)

    def _execute(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Rows of one SQL statement, committed at once; none without a usable file."""
        if self._database is None:
            return []
        try:
            return self._database.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            self._disable(error)
            return []

    def _open(self) -> sqlite3.Connection:
        """Open or create the file. Raises sqlite3.DatabaseError when it is damaged or of another format."""
        database = sqlite3.connect(self.path, timeout=10.0, isolation_level=None)
        try:
            # no fsync: a killed process loses nothing, and a file damaged by a power cut is set aside
            database.execute("PRAGMA synchronous = OFF")
            [[format_]] = database.execute("PRAGMA user_version").fetchall()
            [[tables]] = database.execute("SELECT count(*) FROM sqlite_master").fetchall()
            if not tables:
                database.execute(_TABLE)
                database.execute(f"PRAGMA user_version = {_FORMAT}")
            elif format_ != _FORMAT:
                raise sqlite3.DatabaseError("it is of another version")
            [[state], *_] = database.execute("PRAGMA quick_check(1)").fetchall()
            if state != "ok":
                raise sqlite3.DatabaseError(state)
        except BaseException:
            database.close()
            raise
        return database

    def _set_aside(self, reason: str) -> None:
        """Rename the file, and its journal, which SQLite would apply to the new one."""
        for suffix in ("-journal", "-wal", "-shm", ""):
            old = self.path.with_name(self.path.name + suffix)
            if old.exists():
                old.replace(self.path.with_name(f"{self.path.name}.damaged{suffix}"))
        reason = reason.splitlines()[0]
        logger.warning(
            f"{self.path} cannot be used ({reason}): it was set aside as {self.path.name}.damaged, "
            "and every video is probed again"
        )

    def _disable(self, error: Exception) -> None:
        """Close the file after an error; the run continues without it."""
        if self._database is not None:
            with suppress(sqlite3.Error):
                self._database.close()
            self._database = None
        logger.warning(f"{self.path}: {error}; probes are not kept in this run")


def probe_cached(
    items: Sequence[tuple[str, str]],
    root: Path,
    cache: ProbeCache,
    min_frames: int,
    workers: int,
    progress: Progress | None = None,
) -> tuple[list[ProbeResult], int]:
    """Probe (path below `root`, kind) pairs, in worker processes unless the cache has the result.

    Returns the results in the order of the items, and how many came from the cache.
    """
    stamps = [stamp(root / name, kind) for name, kind in items]
    results: dict[int, ProbeResult] = {}
    for row, ((name, kind), mark) in enumerate(zip(items, stamps, strict=True)):
        result = None if mark is None else cache.get(name, kind, mark)
        if result is not None:
            results[row] = result.for_frames(min_frames)
    known = len(results)
    unknown = [row for row in range(len(items)) if row not in results]

    def keep(number: int, result: ProbeResult) -> None:
        row = unknown[number]
        mark = stamps[row]
        if mark is not None and result.health is not Health.UNREADABLE:
            cache.put(*items[row], mark, result)

    def advance(done: int, _total: int) -> None:
        if progress is not None:
            progress(known + done, len(items))

    advance(0, 0)
    pairs = [(root / items[row][0], items[row][1]) for row in unknown]
    new = probe_many(pairs, min_frames, workers, cache.limits, advance, on_result=keep)
    results |= zip(unknown, new, strict=True)
    return [results[row] for row in range(len(items))], known
