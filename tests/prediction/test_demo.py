"""The demo's trained models on the demo's files; `make repro` makes both."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.prediction.pipeline_predictions import RUN, check_same_predictions

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["ez_clip", "vita_clip"])
def test_every_video_has_the_label_that_its_evaluation_has(method: str) -> None:
    if not (ROOT / f"models/demo/{method}/{RUN}/model.safetensors").is_file():
        pytest.skip("it needs the demo's models: `make repro`")
    assert check_same_predictions(ROOT, method) == 667
