"""Typed results as dictionaries, JSON and tables."""

from __future__ import annotations

import json

import numpy as np
import pytest

from vidprompt.prediction.results import Embeddings, Failure, Prediction, Predictions, Span


def prediction(values: list[float], video: str = "a.mp4", **more: object) -> Prediction:
    names = tuple(f"class {i}" for i in range(len(values)))
    given = {"classes": names, "cosines": np.linspace(0.1, 0.2, len(values))} | more
    return Prediction(
        video=video,
        probabilities=np.array(values, np.float32),
        text="prompts",
        **given,  # type: ignore[arg-type]
    )


def test_the_best_classes_come_first_and_equal_ones_in_their_order() -> None:
    one = prediction([0.25, 0.5, 0.25])
    assert (one.label, one.score) == ("class 1", 0.5)
    assert [name for name, _ in one.top()] == ["class 1", "class 0", "class 2"]
    assert one.top(1) == [("class 1", 0.5)]
    assert one.top(0) == one.top(-1) == []
    assert list(one.to_pandas()["class"]) == ["class 1", "class 0", "class 2"]


def test_a_video_of_no_class_is_unknown() -> None:
    one = prediction([0.9, 0.1], unknown=True)
    assert (one.label, one.score) == ("unknown", pytest.approx(0.9))
    values = one.to_dict()
    assert (values["unknown"], values["label"]) == (True, "unknown")
    assert values["classes"][0]["class"] == "class 0"
    assert prediction([0.9, 0.1], unknown=False).label == "class 0"
    assert "unknown" not in prediction([0.9, 0.1]).to_dict()
    assert "unknown; class 0 90.0%" in repr(one)


def test_values_are_json() -> None:
    several = Predictions(
        (prediction([0.2, 0.8], note="damaged"), Failure("b.mp4", "b.mp4: broken"))
    )
    values = json.loads(json.dumps(several.to_dict(top=1)))
    assert values[0]["classes"] == [{"class": "class 1", "probability": pytest.approx(0.8)}]
    assert (values[0]["note"], values[0]["text"]) == ("damaged", "prompts")
    assert values[1] == {"video": "b.mp4", "error": "b.mp4: broken"}
    assert json.dumps(Span(0.0, 2.0, "run", 0.5).to_dict())


def test_a_table_has_a_row_a_video_and_a_column_a_class() -> None:
    several = Predictions((prediction([0.2, 0.8]), Failure("b.mp4", "broken")))
    table = several.to_pandas()
    assert list(table["video"]) == ["a.mp4", "b.mp4"]
    assert table["label"][0] == "class 1"
    assert table["label"].isna().tolist() == [False, True]
    assert table["class 1"][0] == pytest.approx(0.8)
    assert np.isnan(table["class 1"][1])
    assert table["error"][1] == "broken"
    assert len(Predictions(()).to_pandas()) == 0
    assert (len(several), several[1], several.failures) == (2, several.results[1], [several[1]])
    assert list(several[:1]) == [several[0]]


def test_classes_with_the_names_of_columns_do_not_replace_them() -> None:
    one = prediction([0.3, 0.7], classes=("score", "label"))
    table = Predictions((one,)).to_pandas()
    assert table["label"][0] == "label"
    assert table["score"][0] == pytest.approx(0.7)
    assert table["class score"][0] == pytest.approx(0.3)


def test_embeddings_are_indexed_by_their_videos() -> None:
    features = np.eye(2, 3, dtype=np.float32)
    found = Embeddings(("a.mp4", "b.mp4"), features, (Failure("c.mp4", "broken"),))
    assert len(found) == 2
    assert found.to_dict() == {"a.mp4": [1, 0, 0], "b.mp4": [0, 1, 0]}
    assert found.to_pandas().loc["b.mp4"].tolist() == [0, 1, 0]
