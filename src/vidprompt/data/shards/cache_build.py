"""Write a frame cache: plan the shards, build those that are not there, then the index.

Its layout, and `FrameCache` that reads it: `vidprompt.data.frames.cache`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vidprompt.data.frames.cache import (
    FORMAT_VERSION,
    INDEX,
    PARAMETERS,
    FrameCache,
    FrameSettings,
    IndexWriter,
    segment_centres,
)
from vidprompt.data.shards.build import encode_video, finished_shard, require_sidecar, write_shard
from vidprompt.data.shards.plan import FrameRow, ShardPlan, plan_shards, settings_by_source
from vidprompt.data.workers.isolated import Progress, guarded_map
from vidprompt.files.atomic import write_json

__all__ = ["FrameCache", "FrameRow", "FrameSettings", "build_frame_cache", "segment_centres"]

# Builds shards elsewhere: (plans, folder, called with how many videos a finished shard has)
Runner = Callable[[Sequence[ShardPlan], Path, Callable[[int], None]], None]


def build_frame_cache(
    rows: Iterable[FrameRow | tuple[Any, ...]],
    settings: FrameSettings,
    per_source: Mapping[str, Mapping[str, Any]],
    out: Path | str,
    workers: int = 1,
    progress: Progress | None = None,
    timeout_s: float = 600.0,
    memory_mb: int | None = None,
    runner: Runner | None = None,
) -> dict[str, Any]:
    """Decode, resize and encode frames of every video into `out`; finished shards are kept.

    `per_source` overrides settings by source (`{"people": {"stretch": [256, 128]}}`), except
    `shard_mb`. A video that fails, or takes over `timeout_s` seconds or `memory_mb` megabytes, is left
    out and reported.
    `progress` is called with (done, total) videos. `runner` builds the shards that are not there;
    without one, `workers` processes here do. Returns `videos`, `frames` (cached), `bytes`, `shards`,
    `kept` (shards found finished) and `failed` ([{video_id, reason}]). DataError for an id that
    occurs twice, UserError for a setting that does not exist and when the disk is full.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    by_source = settings_by_source(settings, per_source)
    plans = plan_shards(rows, settings, by_source)
    for path in (out / PARAMETERS, out / INDEX, *out.glob(".*.part")):
        path.unlink(missing_ok=True)  # from here to the end this is not a finished cache
    counter = _Counter(sum(len(plan.jobs) for plan in plans), progress)
    pending = []
    for plan in plans:
        if finished_shard(plan, out) is None:
            pending.append(plan)
        else:
            counter.add(len(plan.jobs))
    if runner is not None:
        runner(pending, out, counter.add)
    else:
        _build_here(pending, out, workers, (timeout_s, memory_mb), counter.add)
    return _finish(plans, settings, by_source, out) | {"kept": len(plans) - len(pending)}


class _Counter:
    def __init__(self, total: int, progress: Progress | None) -> None:
        self.done, self.total, self.progress = 0, total, progress

    def add(self, count: int) -> None:
        self.done += count
        if self.progress is not None:
            self.progress(self.done, self.total)


def _build_here(
    plans: Sequence[ShardPlan],
    out: Path,
    workers: int,
    limits: tuple[float, int | None],
    advance: Callable[[int], None],
) -> None:
    """One set of worker processes for all shards, so that none waits for another's last video."""
    jobs = [job for plan in plans for job in plan.jobs]
    timeout_s, memory_mb = limits
    results = guarded_map(encode_video, jobs, workers, timeout_s, memory_mb=memory_mb)
    with closing(results):
        for plan in plans:
            write_shard(plan, out, results, advance)


def _finish(
    plans: Sequence[ShardPlan],
    settings: FrameSettings,
    by_source: Mapping[str, FrameSettings],
    out: Path,
) -> dict[str, Any]:
    """Remove what longer or killed builds left, write the index and then the parameters."""
    current = {name for plan in plans for name in (plan.tar, plan.sidecar)}
    for path in (*out.glob("shard-*"), *out.glob(".*.part")):
        if path.name not in current:
            path.unlink(missing_ok=True)
    shards: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []
    frames = 0
    with IndexWriter(out / INDEX) as index:
        for shard in _sidecars(plans, out):
            index.write(shard["rows"])
            frames += sum(len(row["lengths"]) for row in shard["rows"])
            failed += shard["failed"]
            about = {key: shard[key] for key in ("name", "sha256", "bytes")}
            shards.append(about | {"videos": len(shard["rows"])})
    summary: dict[str, Any] = {
        "videos": sum(shard["videos"] for shard in shards),
        "frames": frames,
        "bytes": sum(shard["bytes"] for shard in shards),
    }
    description = {
        "version": FORMAT_VERSION,
        "settings": asdict(settings),
        "per_source": {source: asdict(own) for source, own in by_source.items()},
        "failed": [failure["video_id"] for failure in failed],
        "shards": shards,
    }
    write_json(out / PARAMETERS, summary | description)
    return summary | {"shards": len(shards), "failed": failed}


def _sidecars(plans: Sequence[ShardPlan], out: Path) -> Iterator[dict[str, Any]]:
    for plan in plans:
        yield require_sidecar(plan, out)
