"""Encoding frames by our frozen forward beside the library's `encode_image`, for each family of backbones.

    python benchmarks/backbones.py                     # B sizes, random weights, on the CPU
    python benchmarks/backbones.py --names PE-Core-B-16 ViT-B-16-SigLIP2 --frames 8 --device cuda

Both encode the same frames in turns in one process; a ratio is the median over rounds of ours / theirs,
since absolute times drift. Peak memory (on a GPU) is of one call each. Writes
`benchmarks/results/backbones.json`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.machine import ROOT, provenance

from vidprompt.models import create_model
from vidprompt.models.backbones.loading import load_backbone

NAMES = (
    "ViT-B-16", "PE-Core-B-16", "EVA02-B-16", "MobileCLIP-B", "ViT-B-16-SigLIP2",
    "ViT-L-14-CLIPA", "ViTamin-B",
)  # fmt: skip


def seconds(run: Callable[[], Any], device: torch.device) -> float:
    """Time of a call, on a CPU of this process alone."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    start = clock()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return clock() - start


def peak(run: Callable[[], Any], device: torch.device) -> int:
    """Bytes that a call allocates on a GPU at most; 0 on a CPU."""
    if device.type != "cuda":
        return 0
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    return int(torch.cuda.max_memory_allocated() - before)


def measure(name: str, frames: int, rounds: int, device: torch.device) -> dict[str, float]:
    """The ratio of times and of peak memory, and how far the features are apart."""
    torch.manual_seed(0)
    backbone = load_backbone(name)
    backbone.clip.to(device)
    model = create_model("frozen_clip", backbone, num_frames=frames).eval()
    size = backbone.image_size
    images = torch.randn(frames, 3, size, size, device=device)
    with torch.no_grad():
        ours = lambda: model.encode_video(images[None])[0][0]  # noqa: E731
        theirs = lambda: backbone.clip.encode_image(images)  # noqa: E731
        apart = (ours() - theirs()).abs().max() / theirs().abs().max()
        ratios = [seconds(ours, device) / seconds(theirs, device) for _ in range(rounds)]
        memory = peak(ours, device) / max(1, peak(theirs, device))
    return {
        "time": round(median(ratios), 3),
        "peak_memory": round(memory, 3),
        "apart": float(f"{apart:.1e}"),
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--names", nargs="+", default=list(NAMES))
    parser.add_argument("--frames", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    device = torch.device(options.device)
    found = {}
    for name in options.names:
        found[name] = measure(name, options.frames, options.rounds, device)
        print(name, json.dumps(found[name]), flush=True)
    out = {"ours / library": found, "frames": options.frames, "device": str(device), **provenance()}
    (ROOT / "benchmarks/results/backbones.json").write_text(
        json.dumps(out, indent=1, sort_keys=True) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
