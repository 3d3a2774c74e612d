"""How much the frame cache changes the picture that a model sees in a test.

    python benchmarks/cached_pictures.py          # about a minute on one core

EZ-CLIP's pictures (`views: ez_clip`, 224 × 224) of frames made as in `benchmarks/video.py` (a smooth texture
with grain and sensor noise) at three sizes, each by three ways: from the decoded frame itself; from a frame
stored as EZ-CLIP's scripts store it (JPEG of quality 95 at full size); from the cache (short side 256 by
Pillow, JPEG of quality 90). Differences to the first in levels of 255: mean, and the root of the mean square.
Vita-CLIP decodes the video each time, so the first is what it sees. Writes
`benchmarks/results/cached_pictures.json`.
"""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.machine import ROOT, provenance

from vidprompt.data.clips.reading import to_clip
from vidprompt.data.clips.testing import spatial_crops
from vidprompt.data.frames.sampling import Views
from vidprompt.data.shards.plan import FrameSettings

OUT = ROOT / "benchmarks/results/cached_pictures.json"
SIZES = [(240, 320), (256, 340), (720, 1280)]
FRAMES = 8
VIEWS = {
    "ez_clip": Views(resize=256),
    "vita_clip": Views("dense", 16, 3, interpolation="bilinear", antialias=False),
}


def frame(height: int, width: int, seed: int) -> np.ndarray:
    """Structure from coarse to fine, grain and noise: uint8 (H, W, 3)."""
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width, 3))
    for cells, weight in ((4, 0.5), (12, 0.3), (40, 0.15), (120, 0.05)):
        coarse = rng.integers(0, 256, (cells, cells * width // height, 3), dtype=np.uint8)
        large = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        total += weight * np.asarray(large, float)
    total += rng.normal(0, 4, (height, width, 1))
    return np.clip(total, 0, 255).astype(np.uint8)


def as_jpeg(picture: np.ndarray, quality: int) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="jpeg", quality=quality)
    return np.asarray(Image.open(buffer))


def as_cached(picture: np.ndarray, settings: FrameSettings) -> np.ndarray:
    height, width = settings.stored_size(*picture.shape[:2])
    image = Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC)
    return as_jpeg(np.asarray(image), settings.quality)


def seen(pictures: list[np.ndarray], views: Views) -> torch.Tensor:
    return spatial_crops(to_clip(np.stack(pictures)), 224, views).float()


def main() -> None:
    rows = []
    for height, width in SIZES:
        frames = [frame(height, width, seed) for seed in range(FRAMES)]
        ways = {
            "JPEG 95 at full size": [as_jpeg(one, 95) for one in frames],
            "cache": [as_cached(one, FrameSettings()) for one in frames],
        }
        for method, views in VIEWS.items():
            wanted = seen(frames, views)
            for way, pictures in ways.items():
                difference = seen(pictures, views) - wanted
                mean, rms = difference.abs().mean(), difference.square().mean().sqrt()
                rows.append({"size": f"{width} × {height}", "views": method, "stored": way,
                             "mean": round(float(mean), 2), "rms": round(float(rms), 2)})  # fmt: skip
                print(rows[-1])
    OUT.write_text(json.dumps(provenance() | {"rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
