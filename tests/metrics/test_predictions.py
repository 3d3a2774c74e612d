"""What is kept gives every number again, exactly, although scores are kept in half precision."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from tests.reference.accuracy import (
    mean_class_accuracy,
    per_class_accuracy,
    within_group_accuracy,
)

from vidprompt.comparison.per_video import read_per_video
from vidprompt.data.splits.split_file import Split, Subset
from vidprompt.inference.feature_store import Features
from vidprompt.metrics import predictions
from vidprompt.metrics.classification import top_k_accuracy
from vidprompt.metrics.predictions import (
    PredictionsFile,
    predict,
    read_predictions,
    tabulate,
    without_lists,
)
from vidprompt.metrics.recognition import metrics_of, per_class, reliabilities
from vidprompt.metrics.scores import Ensemble
from vidprompt.system.errors import DataError

NAMES = [f"class {i}" for i in range(8)]
GROUPS = {"pair": {name: str(i // 2) for i, name in enumerate(NAMES)}, "other": {"no": "such"}}


def _close_scores(n: int) -> tuple[Subset, NDArray[np.float32]]:
    """Probabilities that differ in float32 and are mostly equal in half precision."""
    generator = np.random.default_rng(3)
    scores = (0.125 + 1e-6 * generator.permuted(np.tile(np.arange(8), (n, 1)), axis=1)).astype(
        np.float32
    )
    labels = generator.integers(8, size=n)
    return Subset(NAMES, [f"v{i}" for i in range(n)], labels.tolist()), scores


def _rows(n: int) -> tuple[Subset, NDArray[np.int64], NDArray[np.float32]]:
    subset, scores = _close_scores(n)
    return subset, np.arange(n), scores


def test_metrics_of_the_file_are_those_of_the_scores(tmp_path: Path) -> None:
    subset, scores = _close_scores(120)
    table = tabulate("supervised_split1", "test", subset, np.arange(120), scores, GROUPS)
    path = tmp_path / "supervised.parquet"
    with PredictionsFile(path, GROUPS) as file:
        file.write_table(table)
    tests, summary = metrics_of(read_predictions(path))
    found, labels = tests["supervised_split1"]["test"], np.array(subset.labels)
    assert found["top1"]["value"] == round(top_k_accuracy(scores, labels), 6)
    assert found["top5"]["value"] == round(top_k_accuracy(scores, labels, 5), 6)
    assert found["mean_class"]["value"] == round(mean_class_accuracy(scores, labels), 6)
    accuracy, chance = within_group_accuracy(scores, labels, [GROUPS["pair"][n] for n in NAMES])
    assert found["within"]["pair"]["value"] == round(accuracy, 6)
    assert found["within"]["pair"]["chance"] == chance == 0.5
    assert list(found["within"]) == ["pair"]  # the other groups are of other classes
    gap = abs(top_k_accuracy(scores, labels) - scores.max(axis=1).mean(dtype=np.float64))
    assert found["ece"] == {"value": round(gap, 6), "n": 120, "bins": 15}  # all in one bin
    for name in ("top1", "top5", "mean_class"):
        low, high = found[name]["ci95"]
        assert low < found[name]["value"] < high
        assert summary["supervised"][name] == found[name]
    kept = np.stack(pq.read_table(path, columns=["scores"])["scores"].to_pylist())
    assert (kept == scores.astype(np.float16)).all()
    assert top_k_accuracy(kept, labels) != top_k_accuracy(scores, labels)  # why ranks are kept


def test_columns_are_those_of_a_plain_loop() -> None:
    subset, scores = _close_scores(20)
    rows = tabulate("s", "test", subset, np.arange(20), scores, GROUPS).to_pylist()
    for row, label, score in zip(rows, subset.labels, scores, strict=True):
        order = sorted(range(8), key=lambda k: (-score[k], k))
        assert row["top5"] == [NAMES[k] for k in order[:5]]
        assert row["top5_scores"] == [score[k] for k in order[:5]]
        assert (row["label"], row["predicted"]) == (NAMES[label], NAMES[order[0]])
        assert (row["rank"], row["confidence"]) == (order.index(label), max(score))
        pair = [k for k in order if k // 2 == label // 2]
        assert (row["rank_in_pair"], row["classes_in_pair"]) == (pair.index(label), 2)
        assert row["rank_in_other"] is None


def test_above_the_limit_only_the_best_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    subset, scores = _close_scores(10)
    before = tabulate("s", "test", subset, np.arange(10), scores, {})
    monkeypatch.setattr(predictions, "MAX_SCORES", 7)
    after = tabulate("s", "test", subset, np.arange(10), scores, {})
    assert after["scores"].null_count == 10
    assert before.drop_columns(["scores"]) == after.drop_columns(["scores"])
    assert after.schema == before.schema


def _encoded(n: int, missing: set[int]) -> tuple[Split, Features]:
    generator = np.random.default_rng(1)
    videos = [f"v{i}" for i in range(n)]
    subset = Subset(NAMES, videos, [i % 8 for i in range(n)])
    split = Split("supervised/demo@split1", "supervised", "run", tests={"test": subset})
    there = [video for i, video in enumerate(videos) if i not in missing]
    video = generator.standard_normal((len(there), 2, 16), np.float32)
    text = {"s/test": generator.standard_normal((8, 3, 16), np.float32)}
    return split, Features(there, video, text, 10.0)


@pytest.mark.parametrize("ensemble", ["softmax_sum", "mean_feature"])
def test_blocks_make_no_difference(ensemble: Ensemble, monkeypatch: pytest.MonkeyPatch) -> None:
    split, features = _encoded(23, {4, 22})
    whole = pa.concat_tables(predict("s", split, features, ensemble, GROUPS))
    assert whole["video_id"].to_pylist() == features.videos
    monkeypatch.setattr(predictions, "BLOCK", 4)
    parts = list(predict("s", split, features, ensemble, GROUPS))
    assert [len(part) for part in parts] == [4, 4, 4, 4, 4, 1]
    found = pa.concat_tables(parts).to_pandas()
    for name in ("video_id", "label", "predicted", "rank", "rank_in_pair"):
        assert found[name].tolist() == whole[name].to_pylist()
    np.testing.assert_allclose(found["confidence"], whole["confidence"], rtol=1e-5)


def test_what_cannot_be_scored_is_named() -> None:
    split, features = _encoded(5, set(range(5)))
    with pytest.raises(DataError, match="s/test: there is no video to score: all 5 listed"):
        list(predict("s", split, features, "softmax_sum", {}))
    split, features = _encoded(5, {0})
    features.video[2, 1, 3] = np.nan
    with pytest.raises(DataError, match="s/test: the scores of v3 are not numbers"):
        list(predict("s", split, features, "softmax_sum", {}))


def test_files_that_are_no_predictions_are_named(tmp_path: Path) -> None:
    path = tmp_path / "supervised.parquet"
    with pytest.raises(DataError, match="dvc repro evaluate"):
        read_predictions(path)
    path.write_text("no Parquet")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        read_predictions(path)
    whole = tabulate("s", "test", *_rows(3), {})
    for table, said in (
        (pa.table({"video_id": ["v"], "label": ["run"], "camera": [1]}), "no column split, test"),
        (whole.drop_columns(["label"]), "is not a table of predictions, it has no column label"),
        (pa.table({"average_precision": [0.5], "rank": [1]}), "no column label, protocol"),
        (whole.drop_columns(["rank", "confidence"]), "older version"),
        (whole.slice(0, 0), "has no rows"),
    ):
        pq.write_table(table, path)
        with pytest.raises(DataError, match=said):
            read_predictions(path)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "supervised.parquet"
    with PredictionsFile(path, {}) as file:
        file.write_table(tabulate("s", "test", *_rows(400), {}))
    column = pq.read_metadata(path).row_group(0).column(2)  # video_id
    content = bytearray(path.read_bytes())
    middle = column.data_page_offset + column.total_compressed_size // 2
    content[middle : middle + 40] = bytes(byte ^ 0xFF for byte in content[middle : middle + 40])
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"supervised.parquet cannot be read as Parquet"):
        read_predictions(path)
    with pytest.raises(DataError, match="p holds no predictions of supervised that can be read"):
        read_per_video(str(path), "supervised", "p")


def test_plots_data_are_of_every_test_in_the_order_of_its_classes() -> None:
    subset, scores = _close_scores(40)
    reordered = Subset(NAMES[::-1], subset.videos, [7 - x for x in subset.labels])
    tables = [
        tabulate("s", "one", subset, np.arange(40), scores, {}),
        tabulate("s", "two", reordered, np.arange(20), scores[:20, ::-1], {}),
    ]
    table = without_lists(pa.concat_tables(tables)).to_pandas()
    classes = {("s", "one"): NAMES, ("s", "two"): NAMES[::-1]}
    found = per_class(table, classes)
    for test, n, names in (("one", 40, NAMES), ("two", 20, NAMES[::-1])):
        rows = found[found["test"] == test]
        labels = np.array(subset.labels[:n])
        shares = per_class_accuracy(scores[:n], labels)
        there = [name for name in names if name in {NAMES[x] for x in labels}]
        assert rows["class"].tolist() == there
        assert rows["n"].sum() == n
        wanted = [shares[NAMES.index(name)] for name in there]
        assert rows["top1"].tolist() == np.round(wanted, 6).tolist()
    bins = reliabilities(table)
    assert bins["n"].tolist() == [40, 20]
    assert bins[["low", "high"]].to_numpy().tolist() == [[0.066667, 0.133333]] * 2
