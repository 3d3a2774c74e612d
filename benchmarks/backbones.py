"""Encoding frames by our frozen forward beside the library's `encode_image`, for each family of backbones.

    python benchmarks/backbones.py                     # B sizes, random weights, on the CPU
    python benchmarks/backbones.py --names PE-Core-B-16 ViT-B-16-SigLIP2 --frames 8 --device cuda

Both encode the same frames in turns in one process; a ratio is the median over rounds of ours / theirs,
since absolute times drift. Peak memory is what tensors hold at most in one call (`peak_memory.py`), of ours
also with each method's prompts. Writes `benchmarks/results/backbones.json`.
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
from benchmarks.peak_memory import peak_bytes

from vidprompt.models import create_model
from vidprompt.models.backbones.loading import load_backbone

NAMES = (
    "ViT-B-16", "PE-Core-B-16", "EVA02-B-16", "MobileCLIP-B", "ViT-B-16-SigLIP2",
    "ViT-L-14-CLIPA", "ViTamin-B",
)  # fmt: skip

METHODS = ("frozen_clip", "ez_clip", "vita_clip")
T = 8  # frames of a video, for the methods


def seconds(run: Callable[[], Any], device: torch.device) -> float:
    """Time of a call, on a CPU of this process alone."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    start = clock()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return clock() - start


def measure(name: str, frames: int, rounds: int, device: torch.device) -> dict[str, float]:
    """Ratios of time and peak memory to the library's, and how far the features are apart.

    Of the methods with prompts only memory: they compute something else.
    """
    torch.manual_seed(0)
    backbone = load_backbone(name)
    clip: Any = backbone.clip.to(device)
    size = backbone.image_size
    images = torch.randn(frames, 3, size, size, device=device)
    videos = images.unflatten(0, (-1, min(T, frames)))

    def theirs() -> torch.Tensor:
        return clip.encode_image(images)

    def encode_with(method: str) -> Callable[[], torch.Tensor]:
        model = create_model(method, backbone, num_frames=videos.shape[1], class_names=["a"])
        model.to(device).eval()
        return lambda: model.encode_video(videos)[0].flatten(0, 1)

    with torch.no_grad():
        ours = {method: encode_with(method) for method in METHODS}
        frozen = ours["frozen_clip"]
        apart = (frozen() - theirs()).abs().max() / theirs().abs().max()
        ratios = [seconds(frozen, device) / seconds(theirs, device) for _ in range(rounds)]
        peaks = {method: peak_bytes(call, device) for method, call in ours.items()}
        peak = peak_bytes(theirs, device)
    return {
        "time": round(median(ratios), 3),
        "peak_memory": round(peaks["frozen_clip"] / peak, 3),
        "peak_memory_ez_clip": round(peaks["ez_clip"] / peak, 3),
        "peak_memory_vita_clip": round(peaks["vita_clip"] / peak, 3),
        "apart": float(f"{apart:.1e}"),
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--names", nargs="+", default=list(NAMES))
    parser.add_argument("--frames", type=int, default=4, help="at most 8, or a multiple of 8")
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
