"""Predicting: start-up, one file against decoding it and the model alone, and ten files in one process.

    python benchmarks/predict.py             # about 4 minutes on two cores, after `make repro`
    python benchmarks/predict.py --quick     # a try; writes no file

Two models: the demo's EZ-CLIP on one of its videos (64 × 48, 2 seconds), and EZ-CLIP on ViT-B/16 with random
weights on a textured scene that pans, 1280 × 720, 10 seconds of 25 frames, H.264. `alone` is what a plain
script would do: PyAV decodes all frames in order and the eight that the model looks at become RGB, Pillow
resizes and crops them, and the model encodes them, with PyTorch's own number of threads. It opens the file
once and knows how many frames there are. The demo's model stores frames as its training did (JPEG), which
the plain script does too. Texts are encoded before. All times are medians of rounds in which the variants
take turns, in one process; start-ups are medians of fresh processes, files in the system's cache. Writes
`benchmarks/results/predict.json`.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.machine import ROOT, provenance

import vidprompt  # before torch, whose threads it sets

OUT = ROOT / "benchmarks/results/predict.json"
RUN = "demo/ez_clip/supervised_split1"
VIDEO = "cache/unpacked/demo/actions/videos/TriangleShrinking/v_TriangleShrinking_g02_c02.webm"
CLASSES = ["open door", "close door", "sit down", "stand up", "pick up a box"]
T, SIZE = 8, 224
SHORT_S = 1.0
LIMITS = {  # at most
    "one file / alone": 1.15,
    "ten files / ten times one": 1.05,
}
# In a fresh process: seconds of each part of the first answer. Arguments: MODEL, VIDEO, CLASSES
START_UP = """
import json, sys, time
import psutil
began = psutil.Process().create_time()
name, video, classes = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
marks = [("interpreter", time.time())]
import vidprompt
from vidprompt.models import checkpoint
from vidprompt.models.backbones import loading as backbones
from vidprompt.prediction import loading, model as _
marks.append(("imports", time.time()))
def timed(name, function):
    def call(*arguments, **options):
        result = function(*arguments, **options)
        marks.append((name, time.time()))
        return result
    return call
backbones.load_backbone = timed("backbone", backbones.load_backbone)
checkpoint.load_checkpoint = timed("checkpoint", checkpoint.load_checkpoint)
model = loading.load(name, "cpu")
marks.append(("model", time.time()))
model.texts(classes)
marks.append(("texts", time.time()))
clips = model.read(video)
marks.append(("decode", time.time()))
model.encode(clips.clips)
marks.append(("first forward", time.time()))
model.predict(video, classes)
marks.append(("another answer", time.time()))
parts, last = {}, began
for name, at in marks:
    parts[name] = round(at - last, 3)
    last = at
print(json.dumps(parts))
"""


@dataclass(frozen=True)
class Case:
    """A model as it is named, a video, the classes (None: the training's)."""

    name: str
    model: str
    video: Path
    classes: list[str] | None


def write_scene(path: Path, width: int = 1280, height: int = 720, seconds: int = 10) -> None:
    """A smooth random texture that pans, with grain."""
    import av
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 255, (24, 32, 3), dtype=np.uint8))
    size = width + 200, height + 100
    whole = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC)).astype(np.int16)
    grain = rng.normal(0, 4, (4, height, width, 1)).round().astype(np.int16)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(25 * seconds):
            x, y = 200 * number // (25 * seconds), 50 + int(40 * np.sin(number / 20))
            picture = whole[y : y + height, x : x + width] + grain[number % 4]
            rgb = np.clip(picture, 0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        container.mux(stream.encode())


def write_large_model(folder: Path) -> Path:
    """EZ-CLIP on ViT-B/16 with random weights, as a training writes it; its checkpoint."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    from vidprompt.models import create_model
    from vidprompt.models.backbones.loading import load_backbone
    from vidprompt.models.checkpoint import save_checkpoint
    from vidprompt.models.checkpoint_metadata import CheckpointMetadata

    torch.manual_seed(0)
    weights = folder / "vit_b_16.safetensors"
    save_file(open_clip.create_model("ViT-B-16").state_dict(), weights)
    backbone = load_backbone({"name": "ViT-B-16", "weights": str(weights)})
    model = create_model("ez_clip", backbone, num_frames=T, class_names=CLASSES)
    views = {"resize": 256}
    metadata = CheckpointMetadata(
        method="ez_clip",
        num_frames=T,
        backbone=backbone.tag,
        backbone_checksum=backbone.checksum,
        class_names=CLASSES,
        options=dict(model.options),
        backbone_spec=dict(backbone.spec),
        input={"views": views, "frames": None, "tracklet": None},
        prompts={"templates": ["a video of {}"]},
    )
    save_checkpoint(folder / "model.safetensors", model, metadata, torch.float32)
    return folder / "model.safetensors"


def plain_decode(path: Path, wanted: list[int], short: int, size: int, stored: Any) -> Any:
    """The clip (1, T, 3, size, size) uint8 as a script reads it with PyAV, Pillow and numpy."""
    import av
    import numpy as np
    import torch
    from PIL import Image

    clip: dict[int, Any] = {}
    with av.open(str(path)) as container:
        for number, frame in enumerate(container.decode(video=0)):
            if number not in wanted:
                continue
            image = frame.to_image()
            if stored is not None:
                image = resized(image, min(stored.short_side, *image.size))
                buffer = io.BytesIO()
                image.save(buffer, "JPEG", quality=stored.quality)
                image = Image.open(buffer)
            image = resized(image, short)
            left, top = (image.width - size) // 2, (image.height - size) // 2
            clip[number] = np.asarray(image.crop((left, top, left + size, top + size)))
    pixels = np.stack([clip[number] for number in wanted])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)[None]


def resized(image: Any, short: int) -> Any:
    from PIL import Image

    width, height = image.size
    least = min(width, height)
    if least == short:
        return image
    return image.resize((width * short // least, height * short // least), Image.Resampling.BICUBIC)


def medians(variants: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Seconds of each, the variants taking turns; the first round warms up.

    Short calls are made twice and the second counts: several files change PyTorch's number of threads, and
    the next call starts them anew.
    """
    times: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(rounds + 1):
        for name, call in variants.items():
            for _ in range(2):
                began = time.perf_counter()
                call()
                seconds = time.perf_counter() - began
                if seconds > SHORT_S:
                    break
            if number:
                times[name].append(seconds)
    return {name: statistics.median(values) for name, values in times.items()}


def steady(case: Case, rounds: int) -> dict[str, Any]:
    """One file and ten files against what they are made of, after start-up."""
    import torch

    from vidprompt.data.clips.reading import normalise

    model = vidprompt.load(case.model, "cpu")
    model.texts(case.classes)
    backbone = model.encoder.backbone
    clips = model.read(case.video)
    wanted = clips.numbers[0].tolist()
    short, size = model.input.views.short_side(model.input.image_size), model.input.image_size

    def decode() -> Any:
        return plain_decode(case.video, wanted, short, size, model.input.stored)

    @torch.inference_mode()
    def forward(pixels: Any) -> Any:
        frames = normalise(pixels, backbone.mean, backbone.std, model.device)
        return model.encoder.encode_video(frames)[1]

    pixels = decode()
    ten = [case.video] * 10
    times = medians(
        {
            "one file": lambda: model.predict(case.video, case.classes),
            "alone": lambda: forward(decode()),
            "decoding alone": decode,
            "forward alone": lambda: forward(pixels),
            "ten files": lambda: model.predict(ten, case.classes),
        },
        rounds,
    )
    return {
        "ms": {name: round(1000 * seconds, 1) for name, seconds in times.items()},
        "one file / alone": round(times["one file"] / times["alone"], 3),
        "ten files / ten times one": round(times["ten files"] / (10 * times["one file"]), 3),
        "largest difference of pixels": int((pixels.int() - clips.clips[:1].int()).abs().max()),
    }


def start_up(case: Case, runs: int) -> dict[str, float]:
    """Seconds of each part until the first answer; medians of fresh processes."""
    found: list[dict[str, float]] = []
    command = [case.model, str(case.video), json.dumps(case.classes)]
    for _ in range(runs + 1):
        done = subprocess.run(
            [sys.executable, "-c", START_UP, *command],
            cwd=ROOT, capture_output=True, text=True, check=True,
        )  # fmt: skip
        found.append(json.loads(done.stdout.splitlines()[-1]))
    names = list(found[0])
    parts = {name: round(statistics.median(one[name] for one in found[1:]), 3) for name in names}
    return parts | {"first answer": round(sum(parts[name] for name in names[:-1]), 2)}


def command_line(case: Case, runs: int) -> float:
    """Seconds of `vidprompt predict` for one file, from its start to its end."""
    command = [
        sys.executable,
        "-m",
        "vidprompt.cli",
        "predict",
        str(case.video),
        "--model",
        case.model,
    ]
    if case.classes:
        command += ["--classes", ",".join(case.classes)]
    times = []
    for _ in range(runs + 1):
        began = time.perf_counter()
        subprocess.run([*command, "--json"], cwd=ROOT, capture_output=True, check=True)
        times.append(time.perf_counter() - began)
    return round(statistics.median(times[1:]), 2)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    rounds, runs = (2, 1) if arguments.quick else (3, 3)
    os.chdir(ROOT)
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="vidprompt-") as name:
        folder = Path(name)
        write_scene(folder / "720p.mp4")
        large = write_large_model(folder)
        for case in (
            Case("demo", RUN, ROOT / VIDEO, None),
            Case("ViT-B/16", str(large), folder / "720p.mp4", CLASSES),
        ):
            figures[case.name] = steady(case, 8 * rounds if case.name == "demo" else rounds)
            figures[case.name]["s to the first answer"] = start_up(case, runs)
            figures[case.name]["s of the command"] = (
                0 if arguments.quick else command_line(case, runs)
            )
    missed = [
        f"{case}: {name}"
        for case, values in figures.items()
        for name, most in LIMITS.items()
        if values[name] > most
    ]
    print(json.dumps(figures, indent=1, ensure_ascii=False))
    print("missed: " + (", ".join(missed) or "nothing"))
    if not arguments.quick:
        result = provenance() | figures | {"limits": LIMITS, "missed": missed}
        text = json.dumps(result, indent=1, sort_keys=True, ensure_ascii=False)
        OUT.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
