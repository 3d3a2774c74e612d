"""Compare what `Model.predict` says of the files with what the pipeline's tests have recorded."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

import vidprompt
from vidprompt.data.manifest.table import read_manifest
from vidprompt.prediction.results import Prediction

RUN = "supervised_split1"


def check_same_predictions(project: Path, method: str) -> int:
    """Each tested video of a supervised run of the demo, by its file; how many there are.

    Asserts equal labels, probabilities within 0.001, and the top-1 accuracy of metrics.json.
    """
    table = pq.read_table(project / f"cache/predictions/demo/{method}/supervised.parquet")
    rows = [row for row in table.to_pylist() if row["split"] == RUN]
    manifest = read_manifest(project / "cache/manifest/demo/manifest.parquet")
    paths = dict(zip(manifest["video_id"], manifest["path"], strict=True))
    files = [project / "cache/unpacked/demo" / paths[row["video_id"]] for row in rows]
    model = vidprompt.load(f"demo/{method}/{RUN}", "cpu", project=project)
    found = model.predict(files)
    assert not found.failures
    right = 0
    for row, one in zip(rows, found, strict=True):
        assert isinstance(one, Prediction)
        assert one.label == row["predicted"], row["video_id"]
        np.testing.assert_allclose(one.score, row["confidence"], rtol=0, atol=1e-3)
        np.testing.assert_allclose(one.probabilities, row["scores"], rtol=0, atol=1e-3)
        right += one.label == row["label"]
    metrics = json.loads(
        (project / f"results/demo/{method}/supervised/metrics.json").read_text("utf-8")
    )
    top1 = metrics["splits"][RUN]["tests"]["test"]["top1"]["value"]
    assert round(right / len(rows), 6) == top1
    return len(rows)
