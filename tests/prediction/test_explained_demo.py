"""What explanations of the demo's trained models show: the object, and what the answer follows from."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.explain import RUN, cases, load, measure

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["ez_clip", "vita_clip"])
def test_relevance_is_on_the_object_and_deleting_it_costs_most(method: str) -> None:
    import numpy as np

    if not (ROOT / f"models/demo/{method}/{RUN}/model.safetensors").is_file():
        pytest.skip("it needs the demo's models: `make repro`")
    values = measure(load(method), cases(48), np.random.default_rng(0))
    assert values["videos"] >= 40
    assert values["relevance on object"]["mean"] > values["area of object"]["mean"]
    hit, chance = values["strongest place touches object"], values["places that touch object"]
    assert hit["mean"] > chance["mean"]
    left = {kind: values[f"25% of patches, {kind}"]["mean"] for kind in KINDS}
    assert left["most relevant"] < left["random"] < left["least relevant"]


KINDS = ("most relevant", "random", "least relevant")
