"""Stage manifest: annotations + files → one probed row a video."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from vidprompt.data.annotations import read_annotations
from vidprompt.data.manifest import build_manifest, write_manifest
from vidprompt.data.video import probe_many
from vidprompt.errors import DataError
from vidprompt.progress import Progress
from vidprompt.stages import paths


def run(config: Any) -> None:
    """Probe every annotated video and write the manifest."""
    dataset = config.dataset
    root = Path(dataset.root)
    if not root.is_dir():
        raise DataError(
            f"{root} is not there: `dvc pull data.dvc` fetches the demo, your own data "
            "belongs there"
        )
    folders = {name: source.folder for name, source in dataset.sources.items()}
    annotations = [
        annotation
        for name, source in dataset.sources.items()
        for annotation in read_annotations(source.reader, root / source.folder, name)
    ]
    items = [(root / folders[a.source] / a.path, a.kind) for a in annotations]
    with Progress(f"probe {dataset.name}", len(items), unit="videos") as progress:
        probes = list(
            probe_many(
                items,
                min_frames=dataset.min_frames,
                workers=config.workers,
                timeout_s=dataset.probe_timeout_s,
                progress=progress.reach,
            )
        )
    table = build_manifest(annotations, probes, folders)
    write_manifest(table, paths.manifest(dataset.name))
    counts = Counter(probe.health.value for probe in probes)
    print(", ".join(f"{reason}: {count}" for reason, count in sorted(counts.items())))
