"""Stage frames: decode every healthy video once into tar shards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vidprompt.atomic import write_json
from vidprompt.configuration import plain
from vidprompt.data.frames import FrameRow, FrameSettings, build_frame_cache
from vidprompt.data.manifest import read_manifest
from vidprompt.data.video import Health
from vidprompt.errors import DataError
from vidprompt.progress import Progress
from vidprompt.stages import paths


def run(config: Any) -> None:
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
    columns = ["video_id", "path", "kind", "n_frames", "exact", "source"]
    rows = [
        FrameRow(
            str(video_id), root / str(path), str(kind), int(n_frames), bool(exact), str(source)
        )
        for video_id, path, kind, n_frames, exact, source in healthy[columns].to_numpy().tolist()
    ]
    settings = plain(config.frames)
    per_source = settings.pop("per_source") or {}
    with Progress(f"frames {dataset.name}", len(rows), unit="videos") as progress:
        summary = build_frame_cache(
            rows,
            FrameSettings(**settings),
            per_source,
            paths.frames(dataset.name),
            workers=config.workers,
            progress=progress.reach,
        )
    failed = sorted(summary.pop("failed"), key=lambda f: f["video_id"])
    write_json(paths.frames(dataset.name) / "failed.json", failed)
    print(", ".join(f"{name} {value}" for name, value in summary.items()), f"failed {len(failed)}")
