"""Re-identification: metrics from features, and the same ones from kept predictions alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vidprompt.data.splits.split_file import Split, Subset
from vidprompt.inference.feature_store import Features
from vidprompt.metrics.intervals import combine, interval, mean_of_test
from vidprompt.metrics.reidentification import evaluate_reid
from vidprompt.recompute.metrics import recompute_metrics
from vidprompt.system.errors import DataError

PEOPLE, EACH = 6, 3


def _case(cameras: int) -> tuple[Split, Features, pd.DataFrame]:
    """`EACH` queries and gallery tracklets a person, hard to tell apart."""
    generator = np.random.default_rng(2)
    names = [f"{side}/{i:02}" for side in "qg" for i in range(PEOPLE * EACH)]
    people = np.tile(np.repeat(np.arange(PEOPLE), EACH), 2)
    persons, half = [f"{i:03}" for i in range(PEOPLE)], PEOPLE * EACH
    tests = {
        side: Subset(persons, names[part], people[part].tolist())
        for side, part in (("query", slice(half)), ("gallery", slice(half, None)))
    }
    video = generator.standard_normal((len(names), 1, 8), np.float32)
    video += generator.standard_normal((PEOPLE, 8), np.float32)[people][:, None]
    manifest = pd.DataFrame(
        {"video_id": names, "clothes": generator.choice(["a", "b"], len(names))}
    )
    manifest["camera"] = np.arange(len(names)) // half % cameras
    split = Split("reid/demo@8-frames", "reid", "reid", tests=tests)
    return split, Features(names, video, {}, 1.0), manifest.set_index("video_id", drop=False)


def test_metrics_come_from_the_predictions_alone(tmp_path: Path) -> None:
    protocols = ["general", "clothes-changing"]
    metrics, table, curves = evaluate_reid(*_case(cameras=2), protocols)
    path = tmp_path / "reid.parquet"
    pq.write_table(pa.Table.from_pandas(table, preserve_index=False), path)
    again = recompute_metrics(path)["summary"]
    assert list(again) == protocols
    for protocol in protocols:
        found = metrics[protocol]
        assert found["id"] == f"reid/demo/{protocol}@8-frames"
        assert again[protocol] == {k: v for k, v in found.items() if k not in ("id", "skipped")}
        rows = table[table["protocol"] == protocol]
        for rank, hits in zip(rows["rank"], rows["hits"], strict=True):
            assert rank == hits.index(True) if any(hits) else rank >= len(hits) == 10
        assert found["R-1"]["value"] == round(float(np.mean([h[0] for h in rows["hits"]])), 6)
        curve = curves[curves["protocol"] == protocol].set_index("rank")["value"]
        for k in (1, 5, 10):
            assert found[f"R-{k}"]["value"] == curve[k] == round((rows["rank"] < k).mean(), 6)
        mean = mean_of_test(rows["average_precision"], pd.factorize(rows["label"])[0])
        ends = interval(combine(mean.value, [mean], [1.0]), gallery=True)
        assert ends is not None
        assert found["mAP"]["ci95"] == [round(end, 6) for end in ends]
        assert found["mAP"]["units"] == PEOPLE


@pytest.mark.parametrize("side", ["query", "gallery"])
def test_a_side_without_a_usable_tracklet_is_named(side: str) -> None:
    split, features, manifest = _case(cameras=2)
    kept = [i for i, name in enumerate(features.videos) if name[0] != side[0]]
    others = Features([features.videos[i] for i in kept], features.video[kept], {}, 1.0)
    with pytest.raises(DataError, match=f"no tracklet of {side} is usable: all 18 listed"):
        evaluate_reid(split, others, manifest, ["general"])


def test_a_protocol_in_which_nothing_can_be_found_is_named() -> None:
    with pytest.raises(DataError, match="no query has a positive in the gallery under general"):
        evaluate_reid(*_case(cameras=1), ["general"])
