"""Stage frames: decode every healthy video once into tar shards."""

from __future__ import annotations

import logging
from pathlib import Path

from vidprompt.config import paths
from vidprompt.config.schema import Config
from vidprompt.data.manifest.health import Health
from vidprompt.data.manifest.table import read_manifest
from vidprompt.data.shards.cache_build import build_frame_cache
from vidprompt.data.shards.plan import FrameRow, FrameSettings
from vidprompt.data.shards.runners import shard_runner
from vidprompt.files.atomic import write_json
from vidprompt.system.errors import DataError, TransientError, is_transient_message
from vidprompt.system.progress import Progress

logger = logging.getLogger(__name__)

VIDEO_LIMIT_S = 600.0  # to decode and encode one


def run(config: Config) -> None:
    """Build the dataset's frame cache."""
    dataset = config.dataset
    manifest = read_manifest(paths.manifest(dataset.name))
    healthy = manifest[manifest["health"] == Health.OK]
    unopened = int((manifest["health"] == Health.UNOPENED).sum())
    if unopened:
        raise DataError(
            f"{unopened:,} videos were never opened, so nobody knows how many frames they have: "
            f"run `vidprompt manifest dataset={dataset.name} dataset.probe=decode` first"
        )
    root = Path(dataset.root).resolve()
    rows = [
        FrameRow(video, root / path, *rest)
        for video, path, *rest in healthy[list(FrameRow._fields)].to_numpy().tolist()
    ]
    settings = dict(vars(config.frames))
    per_source = settings.pop("per_source")
    with Progress(f"frames {dataset.name}", len(rows), unit="videos") as progress:
        summary = build_frame_cache(
            rows,
            FrameSettings(**settings),
            per_source,
            paths.frames(dataset.name),
            workers=config.workers,
            progress=progress.reach,
            timeout_s=VIDEO_LIMIT_S,
            memory_mb=dataset.probe_memory_mb,
            runner=shard_runner(config.runner, VIDEO_LIMIT_S, dataset.probe_memory_mb),
        )
    failed = sorted(summary.pop("failed"), key=lambda f: f["video_id"])
    write_json(paths.frames(dataset.name) / "failed.json", failed)
    counts = ", ".join(f"{name} {value}" for name, value in summary.items())
    logger.info(f"{counts} failed {len(failed)}")
    passed = [failure for failure in failed if is_transient_message(failure["reason"])]
    if passed:  # not to be recorded as done: a disk or a network, not the video
        first = f"{passed[0]['video_id']}: {passed[0]['reason']}"
        raise TransientError(
            f"{len(passed):,} videos could not be read ({first}): run it again, what is done is kept; if "
            "it stays so, `vidprompt manifest` marks them as broken"
        )
