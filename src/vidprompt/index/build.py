"""Build or update the index of a folder's videos: what `vidprompt embed` does."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from vidprompt.index.encode import Encoder, EncodeSettings, make_shards
from vidprompt.index.plan import ShardPlan, ShardTask, pending_tasks, plan_shards
from vidprompt.index.scan import scan_videos
from vidprompt.index.search_files import remove_other_search_files, write_search_files
from vidprompt.index.store import (
    INFO,
    SHARDS,
    IndexInfo,
    ShardEntry,
    read_info,
    read_table,
    relative_folder,
    remove_other_shards,
    shard_entry,
    shard_key,
    shard_names,
    table_path,
    video_folder,
    write_info,
)
from vidprompt.prediction.windows import check_window
from vidprompt.system.errors import DataError, UserError
from vidprompt.system.locks import exclusive_lock
from vidprompt.system.progress import Progress

logger = logging.getLogger(__name__)

LOCK = "lock"
SHOWN_FAILURES = 20

# Makes shards: (tasks, index, folder, info, called with the number of videos done) → videos encoded
MakeShards = Callable[[Sequence[ShardTask], Path, Path, IndexInfo, Callable[[int], None]], int]


@dataclass(frozen=True)
class BuildReport:
    """What a run did; numbers of videos, but `rows`.

    `videos` have rows, `failed` have none; `encoded` were read in this run, `dropped` are no longer in the
    folder. `failures`: video and reason of the first that failed. `left_out`: files and folders that cannot
    be read, with the reason.
    """

    rows: int
    videos: int
    failed: int
    encoded: int
    dropped: int
    failures: tuple[tuple[str, str], ...] = ()
    left_out: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        failures = [{"video": video, "reason": reason} for video, reason in self.failures]
        return asdict(self) | {"failures": failures, "left_out": list(self.left_out)}


def build_index(
    model: Encoder,
    folder: Path | str,
    out: Path | str,
    *,
    window: float | None = None,
    stride: float | None = None,
    settings: EncodeSettings | None = None,
    make: MakeShards | None = None,
) -> BuildReport:
    """Bring the index `out` of the videos below `folder` up to date; a killed run is continued.

    New and changed files are encoded (changed: in size or time, and in content), failed ones are tried again,
    and those that are no longer there are dropped.

    Args:
        model: what encodes, `vidprompt.load(…)`.
        folder: of the videos, at any depth.
        out: the index's folder; it is made.
        window: seconds; a row a window of each video. None: a row a video.
        stride: seconds from window to window. None: half a window.
        settings: how videos are read.
        make: makes the shards elsewhere (`processes`, `cluster`); None: this process does.

    Raises UserError where `out` is an index of another model, of other windows or of another folder, where it
    is no index, and where another process builds it; DataError where the folder has no video.
    """
    folder, out = Path(folder), Path(out)
    window, stride = _window(window, stride)
    _check_out(out)
    info = IndexInfo(
        model.name, model.identity, model.width, relative_folder(out, folder), window, stride
    )
    with _locked(out):
        if (out / INFO).is_file():
            info = _continued(out, info, folder)
        return _Build(out, folder, info, model, settings or EncodeSettings(), make).run()


def _window(window: float | None, stride: float | None) -> tuple[float | None, float | None]:
    if window is None:
        if stride is not None:
            raise UserError("a stride needs a window: give both, in seconds")
        return None, None
    stride = window / 2 if stride is None else stride
    check_window(window, stride)
    return float(window), float(stride)


def _check_out(out: Path) -> None:
    """Raises UserError where `out` is a file, or a folder of something else."""
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file: name a folder for the index")
    own = {INFO, SHARDS, LOCK}
    if out.is_dir() and (names := {one.name for one in out.iterdir()}) and not names & own:
        raise UserError(f"{out} has other files and no index: name a new folder")


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Hold the index's lock. It says nothing when it is free, so that equal indexes have equal files."""
    with exclusive_lock(out, out / LOCK) as lock:
        try:
            yield
        finally:
            lock.truncate(0)


def _continued(out: Path, wanted: IndexInfo, folder: Path) -> IndexInfo:
    """What the index has, if it is one of the same model, windows and folder."""
    present = read_info(out)
    if present.identity != wanted.identity:
        raise UserError(other_model(out, present, wanted.model, wanted.identity))
    if (present.window, present.stride) != (wanted.window, wanted.stride):
        raise UserError(
            f"{out} has {_row_words(present)}, and {_row_words(wanted)} is wanted: choose another --out"
        )
    before = video_folder(out, present)
    if before != folder.resolve() and before.is_dir():
        raise UserError(f"{out} is the index of {before}: choose another --out for {folder}")
    return replace(wanted, shards=present.shards, search=present.search)


def _row_words(info: IndexInfo) -> str:
    if info.window is None:
        return "a row a video"
    return f"a row a window of {info.window:g} s every {info.stride:g} s"


def other_model(index: Path, info: IndexInfo, model: str, identity: str) -> str:
    """The sentence for an index of another model."""
    return (
        f"{index} is an index of the model {info.model} ({info.identity}), and {model} ({identity}) is "
        "another one, whose embeddings cannot be compared: use the index's model, or make another index"
    )


@dataclass
class _Build:
    """One run; `info` has the shards of the last finished one."""

    out: Path
    folder: Path
    info: IndexInfo
    model: Encoder
    settings: EncodeSettings
    make: MakeShards | None

    def run(self) -> BuildReport:
        scan = scan_videos(self.folder, leave_out=[self.out])
        for problem in scan.left_out:
            logger.warning(f"{self.folder}: {problem}")
        plans = list(plan_shards(scan.files, self.info))
        tasks = pending_tasks(self.out, plans, self.info)
        encoded = self._make(tasks, len(scan.files))
        shards = self._entries(plans)
        dropped = self._count_dropped(plans, shards)
        search = write_search_files(self.out, self.info, shards)
        done = replace(self.info, shards=shards, search=search)
        write_info(self.out, done)
        remove_other_shards(self.out, [shard.name for shard in shards])
        remove_other_search_files(self.out, search)
        return BuildReport(
            rows=done.rows,
            videos=done.videos,
            failed=done.failed,
            encoded=encoded,
            dropped=dropped,
            failures=tuple(self._failures(shards)),
            left_out=scan.left_out,
        )

    def _make(self, tasks: Sequence[ShardTask], total: int) -> int:
        """Make the shards that are missing; returns how many videos were encoded."""
        pending = sum(len(task.plan.files) for task in tasks)
        with Progress("embed", total, unit="videos") as progress:
            if pending < total:
                progress.begin_at(total - pending)
            if not tasks:
                return 0
            if self.make is not None:
                return self.make(tasks, self.out, self.folder, self.info, progress.advance)
            return make_shards(
                tasks, self.model, self.out, self.folder, self.info, self.settings, progress.advance
            )

    def _entries(self, plans: Sequence[ShardPlan]) -> tuple[ShardEntry, ...]:
        """The shards of the plans, in order."""
        before = {shard.name: shard for shard in self.info.shards}
        names: dict[str, list[str]] = defaultdict(list)
        for name in shard_names(self.out):
            names[shard_key(name)].append(name)
        entries = []
        for plan in plans:
            if plan.key not in names:
                raise DataError(
                    f"{self.out}: a shard is missing; was it deleted? Run the same again"
                )
            # of several with failures the last one: its failed videos were tried again
            name = max(names[plan.key], key=lambda one: (one == plan.key, self._time(one)))
            if name in before:
                entries.append(before[name])
            else:
                table = read_table(self.out, name)
                columns = (table[column].to_pylist() for column in ("video", "reason"))
                entries.append(shard_entry(name, *columns))
        return tuple(entries)

    def _time(self, name: str) -> int:
        return table_path(self.out, name).stat().st_mtime_ns

    def _count_dropped(self, plans: Sequence[ShardPlan], shards: Sequence[ShardEntry]) -> int:
        """How many videos of the last finished run are in no shard now."""
        now, before = {one.name for one in shards}, {one.name for one in self.info.shards}
        gone: set[str] = set()
        for name in before - now:
            gone |= set(read_table(self.out, name)["video"].to_pylist())
        for plan, shard in zip(plans, shards, strict=True):
            if shard.name not in before:
                gone -= {file.path for file in plan.files}
        return len(gone)

    def _failures(self, shards: Sequence[ShardEntry]) -> Iterator[tuple[str, str]]:
        """Video and reason of the first that failed."""
        count = 0
        for shard in shards:
            if not shard.failed:
                continue
            table = read_table(self.out, shard.name)
            for video, reason in zip(
                table["video"].to_pylist(), table["reason"].to_pylist(), strict=True
            ):
                if reason and count < SHOWN_FAILURES:
                    count += 1
                    yield video, reason
            if count >= SHOWN_FAILURES:
                return
