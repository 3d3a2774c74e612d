"""Build a frame cache: plan the shards, build those that are not finished, then write the index.

`vidprompt.data.frames.cache` describes the files and reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vidprompt.data.frames.cache import FORMAT_VERSION, INDEX, PARAMETERS
from vidprompt.data.shards.build import encode_video, finished_shard, require_sidecar, write_shard
from vidprompt.data.shards.plan import (
    FrameRow,
    FrameSettings,
    ShardPlan,
    plan_shards,
    settings_by_source,
)
from vidprompt.data.workers.isolated import Progress, isolated_map
from vidprompt.files.atomic import replacing, write_json

# Builds shards elsewhere: (plans, folder, called with the number of videos of each finished shard)
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
    out and reported. `progress` is called with (done, total) videos. `runner` builds the shards that are
    not finished; without one, `workers` processes here do. Returns `videos`, `frames` (cached), `bytes`,
    `shards`, `kept` (shards that were finished before) and `failed` ([{video_id, reason}]). Raises
    DataError for an id that occurs twice, UserError for an unknown setting and when the disk is full.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    by_source = settings_by_source(settings, per_source)
    plans = plan_shards(rows, settings, by_source)
    for path in (out / PARAMETERS, out / INDEX, *out.glob(".*.part")):
        path.unlink(missing_ok=True)  # from here to the end this is not a finished cache
    pending = [plan for plan in plans if finished_shard(plan, out) is None]
    total = sum(len(plan.jobs) for plan in plans)
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(done, total)

    if finished := total - sum(len(plan.jobs) for plan in pending):
        advance(finished)
    if runner is not None:
        runner(pending, out, advance)
    else:  # one set of worker processes for all shards: none waits for another's last video
        jobs = [job for plan in pending for job in plan.jobs]
        results = isolated_map(encode_video, jobs, workers, timeout_s, memory_mb=memory_mb)
        with closing(results):
            for plan in pending:
                write_shard(plan, out, results, advance)
    return _finish(plans, settings, by_source, out) | {"kept": len(plans) - len(pending)}


def _finish(
    plans: Sequence[ShardPlan],
    settings: FrameSettings,
    by_source: Mapping[str, FrameSettings],
    out: Path,
) -> dict[str, Any]:
    """Remove shards that are not planned, write the index and then the parameters."""
    current = {name for plan in plans for name in (plan.tar, plan.sidecar)}
    for path in (*out.glob("shard-*"), *out.glob(".*.part")):
        if path.name not in current:
            path.unlink(missing_ok=True)
    shards: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []
    frames = 0
    with index_writer(out / INDEX) as write:
        for plan in plans:
            shard = require_sidecar(plan, out)
            write(shard["rows"])
            frames += sum(len(row["lengths"]) for row in shard["rows"])
            failed += shard["failed"]
            kept = {key: shard[key] for key in ("name", "sha256", "bytes")}
            shards.append(kept | {"videos": len(shard["rows"])})
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


@contextmanager
def index_writer(path: Path) -> Iterator[Callable[[list[dict[str, Any]]], None]]:
    """Write `index.arrow` atomically, a record batch a shard: only one shard's rows are in memory.

    Yields a function that appends the rows of one shard, sorted by id.
    """
    import pyarrow as pa

    int32, list32 = pa.int32(), pa.list_(pa.int32())
    types = {
        "video_id": pa.string(),
        "shard": pa.string(),
        "offset": pa.int64(),
        "lengths": list32,
        "crc32": pa.list_(pa.uint32()),
        "source_frames": list32,
        "n_frames": int32,
        "height": int32,
        "width": int32,
    }
    schema = pa.schema(list(types.items()))

    def write(rows: list[dict[str, Any]]) -> None:
        if rows:
            writer.write_batch(pa.RecordBatch.from_pylist(rows, schema=schema))

    with replacing(path) as temporary, pa.ipc.new_file(str(temporary), schema) as writer:
        yield write
