"""What was found out about each file, kept: a second probing costs nothing, an interrupted one resumes.

One SQLite file a dataset, beside the pipeline's outputs and not among them; it can be deleted at any
time. A file is known by its path below the dataset's root, its size and its time of change (a folder of
images by the sum of sizes, the newest change and their number): a file that was changed is probed again.
So is every file when the code that probes or a decoder is another version.

Kept is what the file is, not what a dataset asks of it: `min_frames` is judged when reading. What depends
on a limit (time, memory, pixels) holds for these limits only.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType

from vidprompt.data.probe.health import PROBE_VERSION, Health, Limits, Probe
from vidprompt.data.probe.on_disk import Stamp, stamp
from vidprompt.data.probe.videos import probe_many
from vidprompt.data.workers.isolated import Progress

logger = logging.getLogger(__name__)

_FORM = 1  # of the table; a file of another form is set aside
_COMMIT_S = 1.0  # what was found out is written so long after: lost at most when killed
_LIMITED = (Health.TIMED_OUT, Health.OUT_OF_MEMORY, Health.CRASHED, Health.TOO_LARGE)
_TABLE = (
    "CREATE TABLE probes (path BLOB, kind TEXT, size INTEGER, mtime_ns INTEGER, files INTEGER,"
    " version TEXT, limits TEXT, probe TEXT, PRIMARY KEY (path, kind)) WITHOUT ROWID"
)


def probe_version() -> str:
    """Names what a probe depends on beside the file: this code and the decoders."""
    names = []
    for name in ("av", "decord", "decord2", "pillow"):
        with suppress(PackageNotFoundError):
            names.append(f"{name} {version(name)}")
    return f"probe {PROBE_VERSION}, {', '.join(names)}"


class ProbeCache:
    """`with ProbeCache(path, limits) as cache`: probes of earlier runs, and a place for new ones.

    It is a convenience and never an obstacle: a damaged file is set aside, one that cannot be
    written is done without, and `say` is called with a sentence about it.
    """

    def __init__(
        self, path: Path, limits: Limits, say: Callable[[str], None] = logger.info
    ) -> None:
        self.path, self.limits = path, limits
        self._say = say
        self._version = probe_version()
        self._base: sqlite3.Connection | None = None
        self._waiting: list[tuple[object, ...]] = []
        self._lock = threading.Lock()  # over the three above: a timer writes, too
        self._timer: threading.Timer | None = None

    def __enter__(self) -> ProbeCache:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._base = self._open()
            except sqlite3.OperationalError:  # locked, no permission: nothing is wrong with it
                raise
            except sqlite3.DatabaseError as error:
                self._set_aside(str(error))
                self._base = self._open()
        except (sqlite3.Error, OSError) as error:
            self._do_without(error)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._write()
        with self._lock:
            if self._base is not None:
                self._base.close()
                self._base = None

    def find(self, name: str, kind: str, mark: Stamp) -> Probe | None:
        """What is known of the file of this name (its path below the root); None when nothing is."""
        query = "SELECT size, mtime_ns, files, version, limits, probe FROM probes WHERE path = ? AND kind = ?"
        with self._lock:
            if self._base is None:
                return None
            try:
                row = self._base.execute(query, (os.fsencode(name), kind)).fetchone()
            except sqlite3.Error as error:
                self._do_without(error)
                return None
        if row is None or Stamp(*row[:3]) != mark or row[3] != self._version:
            return None
        try:
            fields = json.loads(row[5])
            probe = Probe(**fields | {"health": Health(fields["health"])})
        except (ValueError, TypeError, KeyError):
            return None
        return probe if self._still_holds(probe, row[4]) else None

    def _still_holds(self, probe: Probe, limits: str) -> bool:
        if probe.health in _LIMITED:
            return limits == self._limits
        return probe.width * probe.height <= self.limits.max_pixels

    @property
    def _limits(self) -> str:
        return json.dumps(asdict(self.limits), sort_keys=True)

    def keep(self, name: str, kind: str, mark: Stamp, probe: Probe) -> None:
        """Keep what was found out about a file that had this stamp before it was opened."""
        text = json.dumps(asdict(probe), ensure_ascii=True)
        row = (os.fsencode(name), kind, *mark, self._version, self._limits, text)
        with self._lock:
            self._waiting.append(row)
            if self._timer is None:
                self._timer = threading.Timer(_COMMIT_S, self._write)
                self._timer.daemon = True
                self._timer.start()

    def _write(self) -> None:
        """Write what waits, in one transaction."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            rows, self._waiting = self._waiting, []
            if self._base is None or not rows:
                return
            try:
                with self._base:
                    insert = "INSERT OR REPLACE INTO probes VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
                    self._base.executemany(insert, rows)
            except sqlite3.Error as error:
                self._do_without(error)

    def _open(self) -> sqlite3.Connection:
        base = sqlite3.connect(self.path, timeout=10.0, check_same_thread=False)
        try:
            base.execute("PRAGMA synchronous = NORMAL")
            [[form]] = base.execute("PRAGMA user_version").fetchall()
            [[tables]] = base.execute("SELECT count(*) FROM sqlite_master").fetchall()
            if not tables:
                base.execute(_TABLE)
                base.execute(f"PRAGMA user_version = {_FORM}")
                base.commit()
            elif form != _FORM:
                raise sqlite3.DatabaseError("it is of another version")
            [[state], *_] = base.execute("PRAGMA quick_check(1)").fetchall()
            if state != "ok":
                raise sqlite3.DatabaseError(state)
        except BaseException:
            base.close()
            raise
        return base

    def _set_aside(self, reason: str) -> None:
        """Rename the file, and the journal with it, which SQLite would apply to the new one."""
        for suffix in ("-journal", "-wal", "-shm", ""):
            old = self.path.with_name(self.path.name + suffix)
            if old.exists():
                old.replace(self.path.with_name(f"{self.path.name}.damaged{suffix}"))
        reason = reason.splitlines()[0]
        self._say(
            f"{self.path} cannot be used ({reason}): it was set aside as {self.path.name}.damaged, "
            "and every video is probed again"
        )

    def _do_without(self, error: Exception) -> None:
        if self._base is not None:
            with suppress(sqlite3.Error):
                self._base.close()
            self._base = None
        self._say(f"{self.path}: {error}; probes are not kept in this run")


def probe_cached(
    items: Sequence[tuple[str, str]],
    root: Path,
    cache: ProbeCache,
    min_frames: int,
    workers: int,
    progress: Progress | None = None,
) -> tuple[list[Probe], int]:
    """Probe (path below `root`, kind) pairs, those that are not in the cache in worker processes.

    Returns the probes in the order of the items, and how many of them were known.
    """
    marks = [stamp(root / name, kind) for name, kind in items]
    known: dict[int, Probe] = {}
    for row, ((name, kind), mark) in enumerate(zip(items, marks, strict=True)):
        probe = None if mark is None else cache.find(name, kind, mark)
        if probe is not None:
            known[row] = probe.for_frames(min_frames)
    unknown = [row for row in range(len(items)) if row not in known]

    def found(number: int, probe: Probe) -> None:
        row = unknown[number]
        mark = marks[row]
        if mark is not None and probe.health is not Health.UNREADABLE:
            cache.keep(*items[row], mark, probe)

    def advance(done: int, _total: int) -> None:
        if progress is not None:
            progress(len(known) + done, len(items))

    advance(0, 0)
    todo = [(root / items[row][0], items[row][1]) for row in unknown]
    probes = probe_many(todo, min_frames, workers, cache.limits, advance, found=found)
    fresh = dict(zip(unknown, probes, strict=True))
    return [known[row] if row in known else fresh[row] for row in range(len(items))], len(known)
