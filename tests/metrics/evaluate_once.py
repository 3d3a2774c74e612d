"""Run as a program: evaluate made-up features into a folder, and print the BLAS kernel as JSON.

python -m tests.metrics.evaluate_once FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_info

from vidprompt.data.splits.split_file import Split, Subset
from vidprompt.inference.feature_store import Features
from vidprompt.metrics import scores
from vidprompt.metrics.predictions import PredictionsFile, predict, without_lists
from vidprompt.metrics.recognition import metrics_of
from vidprompt.metrics.reidentification import evaluate_reid
from vidprompt.metrics.retrieval import RetrievalSet, ranked_gallery
from vidprompt.metrics.scores import Ensemble

VIDEOS, VIEWS, CLASSES, PROMPTS, WIDTH = 300, 2, 60, 4, 512


def recognition(folder: Path, ensemble: Ensemble) -> None:
    """Predictions and metrics of noisy videos."""
    generator = np.random.default_rng(0)
    labels = generator.integers(CLASSES, size=VIDEOS)
    centres = generator.standard_normal((CLASSES, WIDTH), np.float32)
    video = centres[labels][:, None] + 12 * generator.standard_normal((VIDEOS, VIEWS, WIDTH))
    text = centres[:, None] + 0.3 * generator.standard_normal((CLASSES, PROMPTS, WIDTH))
    names, classes = [f"v{i}" for i in range(VIDEOS)], [f"c{i}" for i in range(CLASSES)]
    split = Split(
        "s@here", "supervised", "run", tests={"test": Subset(classes, names, labels.tolist())}
    )
    features = Features(names, video.astype(np.float32), {"s/test": text.astype(np.float32)}, 100.0)
    tables = []
    with PredictionsFile(folder / f"{ensemble}.parquet", {}) as file:
        for table in predict("s", split, features, ensemble, {}):
            file.write_table(table)
            tables.append(without_lists(table).to_pandas())
    metrics = metrics_of(pd.concat(tables))
    (folder / f"{ensemble}.json").write_text(json.dumps(metrics))


def reidentification(folder: Path) -> None:
    """Metrics, predictions and curves of noisy tracklets."""
    generator = np.random.default_rng(1)
    people, half = 20, 100
    names = [f"{side}{i}" for side in "qg" for i in range(half)]
    labels = generator.integers(people, size=2 * half)
    persons = [f"p{i}" for i in range(people)]
    tests = {
        side: Subset(persons, names[rows], labels[rows].tolist())
        for side, rows in (("query", slice(half)), ("gallery", slice(half, None)))
    }
    video = generator.standard_normal((people, WIDTH))[labels][:, None]
    video = video + 4 * generator.standard_normal((2 * half, VIEWS, WIDTH))
    manifest = pd.DataFrame({"video_id": names, "clothes": generator.choice(["a", "b"], 2 * half)})
    manifest["camera"] = np.arange(2 * half) // half
    split = Split("reid/demo@8-frames", "reid", "reid", tests=tests)
    features = Features(names, video.astype(np.float32), {}, 1.0)
    metrics, table, curves = evaluate_reid(
        split, features, manifest.set_index("video_id", drop=False), ["general"]
    )
    (folder / "reid.json").write_text(json.dumps(metrics) + table.to_json() + curves.to_csv())
    sides = [
        RetrievalSet(labels[rows], manifest["camera"].to_numpy()[rows], np.zeros(half, np.int64))
        for rows in (slice(half), slice(half, None))
    ]
    means = video.astype(np.float32).mean(1)
    _, similarity = ranked_gallery(means[:half], means[half:], sides[0], sides[1], "general")
    (folder / "similarity").write_bytes(similarity.tobytes())


def unrounded(folder: Path) -> None:
    """Cosines and softmax before they are rounded to float32, which would hide most differences."""
    generator = np.random.default_rng(2)
    left, right = (scores.unit_vectors(generator.normal(size=(n, WIDTH))) for n in (300, 500))
    cosines = left @ right.T
    (folder / "cosines").write_bytes(cosines.tobytes())
    (folder / "softmax").write_bytes(scores._softmax(cosines, 100.0).tobytes())


if __name__ == "__main__":
    out = Path(sys.argv[1])
    out.mkdir()
    recognition(out, "softmax_sum")
    recognition(out, "mean_feature")
    reidentification(out)
    unrounded(out)
    kernels = [info.get("architecture") for info in threadpool_info() if info["user_api"] == "blas"]
    simd = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
    print(json.dumps({"kernels": kernels, "simd": simd}))
