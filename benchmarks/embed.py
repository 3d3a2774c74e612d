"""The rate of `vidprompt embed`, beside the pipeline's stages `frames` and `features` and beside decoding.

    python benchmarks/embed.py      # about 5 minutes on two cores; wants the demo's `dvc repro`

1,000 clips of the demo, with the model `demo/ez_clip/supervised_split1`, in turns in one process:

pipeline    the frame cache is built by as many processes as there are cores, and the features stage's
            `encode_videos` encodes from it
decode      the clips are decoded as `predict` and `embed` do, by as many processes, and nothing else
embed       `build_index` of a new index: hashes of the files, decoding, encoding, files
again       the same once more, with nothing to do

The ratios are of seconds (more is better, the median over the turns). `decode + features`: decoding and the
features stage, one after the other, beside embedding; it has to be at least 0.9. `frames + features`: both
stages of the pipeline. Frames are read there by random access, which the probe allowed after it had decoded
each video once; embedding sees the files for the first time and decodes them in order. `… cpu`: the same
of the seconds of all cores, which other work on the machine changes less. Also: whether the index's features
are those of `Model.embed`, and peak memory.

Writes `benchmarks/results/embed.json`.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.machine import ROOT, provenance

OUT = ROOT / "benchmarks/results/embed.json"
MODEL, SOURCE = "demo/ez_clip/supervised_split1", "actions"
CLIPS, TURNS = 1000, 3
LIMITS = {"decode + features": 0.9}


def linked_videos(folder: Path, count: int) -> Any:
    """Links to `count` usable videos of the demo, and their rows of the manifest."""
    from vidprompt.data.manifest.table import read_manifest

    manifest = read_manifest(ROOT / "cache/manifest/demo/manifest.parquet")
    rows = manifest[(manifest["health"] == "ok") & (manifest["source"] == SOURCE)].head(count)
    for path in rows["path"]:
        link = folder / path
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(ROOT / "cache/unpacked/demo" / path)
    return rows


def seconds(work: Callable[[], Any], into: dict[str, float], name: str) -> None:
    """Note the wall seconds of some work, and (`… cpu`) the seconds of all cores with its processes."""
    began, used = time.perf_counter(), cpu_seconds()
    work()
    into[name] = time.perf_counter() - began
    into[f"{name} cpu"] = cpu_seconds() - used


def cpu_seconds() -> float:
    """Of this process and its children that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


class Turn:
    """One measurement of each way, in a folder of its own."""

    def __init__(self, model: Any, videos: Path, rows: Any, folder: Path) -> None:
        self.model, self.videos, self.rows, self.folder = model, videos, rows, folder
        self.cores = os.cpu_count() or 1
        self.figures: dict[str, float] = {}

    def pipeline(self) -> None:
        from vidprompt.data.clips.testing import TestClips
        from vidprompt.data.shards.cache_build import build_frame_cache
        from vidprompt.data.shards.plan import FrameRow
        from vidprompt.inference.encoding import encode_videos
        from vidprompt.system.progress import Progress

        model, cache = self.model, self.folder / "frames"
        columns = list(FrameRow._fields)
        rows = [FrameRow(*row) for row in self.rows[columns].to_numpy().tolist()]
        rows = [row._replace(path=self.videos / row.path) for row in rows]

        def frames() -> None:
            build_frame_cache(rows, model.input.stored, {}, cache, workers=self.cores)

        def features() -> None:
            clips = TestClips(
                cache,
                [row.video_id for row in rows],
                num_frames=model.input.num_frames,
                size=model.input.image_size,
                views=model.input.views,
            )
            with Progress("features", len(rows), quiet=True) as progress:
                encode_videos(
                    model.encoder, clips, batch_size=8, device=model.device, progress=progress
                )

        seconds(frames, self.figures, "frames")
        seconds(features, self.figures, "features")

    def decoding(self) -> None:
        paths = [self.videos / path for path in self.rows["path"]]

        def decode() -> None:
            for result in self.model.input.decode_isolated(paths, self.cores):
                assert result.failure is None

        seconds(decode, self.figures, "decode")

    def embed(self) -> None:
        from vidprompt.index.build import build_index
        from vidprompt.index.encode import EncodeSettings

        settings = EncodeSettings(workers=self.cores)

        def build() -> None:
            report = build_index(self.model, self.videos, self.folder / "index", settings=settings)
            assert report.videos == len(self.rows)

        seconds(build, self.figures, "embed")
        seconds(build, self.figures, "again")


def same_features(model: Any, videos: Path, index: Path) -> bool:
    """Whether some of an index's features are those of `Model.embed`."""
    from vidprompt.index.search import Index

    opened = Index(index, model)
    rows = np.arange(0, len(opened), 50)
    paths = [videos / path for path in opened._rows.take(rows)["video"].to_pylist()]
    return bool(np.array_equal(model.embed(paths).features, opened._row_features(rows)))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=CLIPS)
    parser.add_argument("--turns", type=int, default=TURNS)
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    logging.getLogger("vidprompt").setLevel(logging.ERROR)
    import torch

    import vidprompt

    torch.set_num_threads(os.cpu_count() or 1)
    os.chdir(ROOT)
    model = vidprompt.load(MODEL, device="cpu")
    turns: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as name:
        videos = Path(name) / "videos"
        rows = linked_videos(videos, arguments.clips)
        for number in range(arguments.turns):
            turn = Turn(model, videos, rows, Path(name) / str(number))
            for work in (turn.pipeline, turn.embed, turn.decoding):
                work()
            turns.append(turn.figures)
            print({key: round(value, 2) for key, value in turns[-1].items()}, flush=True)
        same = same_features(model, videos, Path(name) / "0/index")
    ratios = {}
    for end in ("", " cpu"):
        for first in ("decode", "frames"):
            values = [(t[first + end] + t[f"features{end}"]) / t[f"embed{end}"] for t in turns]
            ratios[f"{first} + features{end}"] = values
    found: dict[str, Any] = {
        "clips": len(rows),
        "seconds": [{key: round(value, 2) for key, value in turn.items()} for turn in turns],
        "ratios": {key: round(float(np.median(value)), 2) for key, value in ratios.items()},
        "same features as Model.embed": same,
        "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 2),
    }
    print(json.dumps(found, indent=1))
    bad = [key for key, limit in LIMITS.items() if found["ratios"][key] < limit]
    if not same:
        bad.append("the same features as Model.embed")
    print("missed: " + (", ".join(bad) or "nothing"))
    result = provenance() | found | {"limits": LIMITS, "missed": bad}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
