"""The stage from features to metrics, on the benchmark's made-up project in small."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks.evaluation import make_project, same
from tests.pipeline.project import changed

from vidprompt.config.compose import compose
from vidprompt.data.splits.split_file import Subset, read_split, write_split
from vidprompt.pipeline.stages import evaluate
from vidprompt.recompute.metrics import metrics_table, recompute_metrics
from vidprompt.system.errors import DataError, UserError

RESULTS = Path("results/demo/frozen_clip/few_shot")
PREDICTIONS = Path("cache/predictions/demo/frozen_clip/few_shot.parquet")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_project(tmp_path, "1 view, 12 lists", 0.003)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_metrics_come_from_the_predictions_alone_and_twice_alike(project: Path) -> None:
    config = compose(["method=frozen_clip", "protocol=few_shot"])
    evaluate.run(config)
    written = [*sorted(RESULTS.iterdir()), PREDICTIONS]
    first = {path: path.read_bytes() for path in written}
    assert {path.name for path in written} >= {"metrics.json", "reliability.csv", "per_class.csv"}
    metrics = json.loads(first[RESULTS / "metrics.json"])
    found = recompute_metrics(PREDICTIONS)
    assert found["summary"] == metrics["summary"]
    assert set(found["summary"]) == {"2shot", "4shot", "8shot", "16shot"}
    assert same(found["tests"], {name: s["tests"] for name, s in metrics["splits"].items()})
    assert metrics_table(found).row_count > 12 * 4
    evaluate.run(config)
    assert {path: path.read_bytes() for path in written} == first


def test_features_of_something_else_are_not_believed(project: Path) -> None:
    config = compose(["method=frozen_clip", "protocol=few_shot"])
    file = Path("cache/splits/demo/few_shot_2shot_seed1.json")
    split = read_split(file)
    test = split.tests["test"]
    last = len(test.classes) - 1
    turned = Subset(test.classes[::-1], test.videos, [last - label for label in test.labels])
    write_split(replace(split, tests={"test": turned}), file)
    with pytest.raises(DataError, match="another list few_shot_2shot_seed1/test: run the features"):
        evaluate.run(config)
    write_split(split, file)
    for override, what in (("views=dense_4x3", "views"), ("prompts=class_name", "prompts")):
        with pytest.raises(DataError, match=f"was made with another {what}"):
            evaluate.run(compose(["method=frozen_clip", "protocol=few_shot", override]))
    write_split(split, file.with_name("few_shot_9shot_seed1.json"))
    with pytest.raises(DataError, match="another list few_shot_9shot_seed1/test"):
        evaluate.run(config)
    assert not RESULTS.exists()
    file.with_name("few_shot_9shot_seed1.json").unlink()
    evaluate.run(changed(config, prompts__ensemble="mean_feature"))  # evaluation's own


def test_an_unknown_ensemble_lists_the_choices_before_anything_is_written(project: Path) -> None:
    overrides = ["method=frozen_clip", "protocol=few_shot", "prompts.ensemble=mean"]
    with pytest.raises(
        UserError, match="prompts.ensemble=mean: .*valid: softmax_sum, mean_feature"
    ):
        evaluate.run(compose(overrides))
    assert not RESULTS.exists()
    assert not PREDICTIONS.exists()
