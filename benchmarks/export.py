"""Exported models of real size: seconds to export, megabytes, and ONNX Runtime beside PyTorch.

    python benchmarks/export.py                       # ViT-B/16, random weights, a clip of 8 frames
    python benchmarks/export.py --threads 2 --batch 4

PyTorch and ONNX Runtime encode the same clips in turns in one process, with the same number of threads, and a
ratio is the median over rounds: absolute times drift. Writes `benchmarks/results/export.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.machine import ROOT, provenance

from vidprompt.export.metadata import ExportMetadata
from vidprompt.export.module import ExportedModel, example_clips
from vidprompt.export.onnx_encoder import OnnxEncoder
from vidprompt.export.writing import trace_program, write_onnx, write_torch_export
from vidprompt.models import create_model
from vidprompt.models.backbones.loading import Backbone, load_backbone

FRAMES, CLASSES = 8, 400


def exported(method: str, backbone: Backbone) -> tuple[ExportedModel, ExportMetadata]:
    """A method with random values and classes."""
    torch.manual_seed(0)
    options = {"context": "none"} if method == "vita_clip" else {}
    model = create_model(method, backbone, num_frames=FRAMES, **options).eval()
    for parameter in model.parameters():
        if parameter.requires_grad and not parameter.any():  # adapters start as the identity
            torch.nn.init.normal_(parameter, std=0.02)
    width = backbone.image_tower.feature_width
    metadata = ExportMetadata(
        model=method,
        identity="",
        method=method,
        backbone=backbone.tag,
        num_frames=FRAMES,
        image_size=backbone.image_size,
        feature_size=width,
        class_names=tuple(f"class {i}" for i in range(CLASSES)),
        prompts_per_class=1,
    )
    return ExportedModel(model, torch.randn(CLASSES, 1, width)), metadata


def seconds(run: Any) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def measure(
    method: str, backbone: Backbone, folder: Path, batch: int, rounds: int
) -> dict[str, Any]:
    module, metadata = exported(method, backbone)
    began = time.perf_counter()
    traced = trace_program(module, metadata)
    result: dict[str, Any] = {"trace_s": round(time.perf_counter() - began, 1)}
    path = folder / f"{method}.onnx"
    began = time.perf_counter()
    check = write_onnx(path, traced)
    result["onnx"] = {
        "export_s": round(time.perf_counter() - began, 1),
        "mb": round(path.stat().st_size / 1e6, 1),
        "relative_error": check.features,
    }
    program = folder / f"{method}.pt2"
    began = time.perf_counter()
    check = write_torch_export(program, traced)
    result["torch_export"] = {
        "export_s": round(time.perf_counter() - began, 1),
        "mb": round(program.stat().st_size / 1e6, 1),
        "relative_error": check.features,
    }
    began = time.perf_counter()
    model = OnnxEncoder(path, ["CPUExecutionProvider"])
    result["onnx"]["load_s"] = round(time.perf_counter() - began, 1)
    clips = example_clips(module, batch, torch.float32)
    pixels = np.asarray(clips)

    @torch.inference_mode()
    def by_torch() -> None:
        module(clips)

    times: dict[str, list[float]] = {"torch": [], "onnxruntime": []}
    for turn in range(rounds + 1):  # the first does not count
        pair = seconds(by_torch), seconds(lambda: model.encode(pixels))
        if turn:
            for name, value in zip(times, pair, strict=True):
                times[name].append(round(value, 3))
    result["seconds"] = times
    ratios = [b / a for a, b in zip(*times.values(), strict=True)]
    result["onnxruntime / torch"] = round(median(ratios), 3)
    print(f"{method}: {json.dumps(result)}", flush=True)
    path.unlink()
    program.unlink()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--backbone", default="ViT-B-16-quickgelu", help="open_clip's name")
    parser.add_argument("--methods", nargs="+", default=["ez_clip"])
    parser.add_argument("--batch", type=int, default=1, help="clips at once")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/export.json")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    os.environ["OMP_NUM_THREADS"] = str(args.threads)  # read by OnnxEncoder
    backbone = load_backbone(args.backbone)
    with tempfile.TemporaryDirectory() as folder:
        figures = {
            method: measure(method, backbone, Path(folder), args.batch, args.rounds)
            for method in args.methods
        }
    versions = {"torch": torch.__version__}
    for name in ("onnx", "onnxruntime", "onnxscript"):
        versions[name] = __import__(name).__version__
    setting = {"backbone": args.backbone, "frames": FRAMES, "batch": args.batch}
    setting |= {"threads": args.threads, "classes": CLASSES}
    record = provenance() | {"versions": versions, "setting": setting, "figures": figures}
    args.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
