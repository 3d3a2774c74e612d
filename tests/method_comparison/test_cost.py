"""FLOPs and parameters against a count by hand, for a small backbone on the meta device."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vidprompt.config.compose import compose
from vidprompt.method_comparison.cost import model_cost

WIDTH, LAYERS, PATCH, SIZE, EMBED = 16, 2, 8, 32, 12


@pytest.fixture
def backbone(tmp_path: Path) -> list[str]:
    vision = {"image_size": SIZE, "layers": LAYERS, "width": WIDTH, "patch_size": PATCH}
    text = {"context_length": 77, "vocab_size": 49408, "width": WIDTH, "heads": 2, "layers": 1}
    config = tmp_path / "small.json"
    sizes = {"embed_dim": EMBED, "vision_cfg": vision | {"head_width": 8}, "text_cfg": text}
    config.write_text(json.dumps(sizes), encoding="utf-8")
    return [f"backbone.config={config}", "backbone.weights=null"]


def test_flops_of_frozen_clip_are_those_of_its_image_tower(backbone: list[str]) -> None:
    config = compose(["method=frozen_clip", "method.num_frames=3", *backbone])
    found = model_cost(config, 4)
    tokens = (SIZE // PATCH) ** 2 + 1
    patches = 2 * (tokens - 1) * WIDTH * 3 * PATCH**2
    layer = 2 * tokens * WIDTH * 12 * WIDTH + 2 * 2 * tokens**2 * WIDTH
    # of the last layer: keys and values of all tokens, the rest of the class token alone
    last = 2 * tokens * WIDTH * 2 * WIDTH + 2 * WIDTH * 10 * WIDTH + 2 * 2 * tokens * WIDTH
    frame = patches + (LAYERS - 1) * layer + last + 2 * WIDTH * EMBED
    assert found["flops"] == 3 * frame
    assert found["trained_parameters"] == 0


@pytest.mark.parametrize("method", ["ez_clip", "vita_clip"])
def test_what_is_trained_adds_to_frozen_clip(backbone: list[str], method: str) -> None:
    frozen, tuned = (
        model_cost(compose([f"method={name}", *backbone]), 4) for name in ("frozen_clip", method)
    )
    assert tuned["trained_parameters"] == tuned["parameters"] - frozen["parameters"] > 0
    assert tuned["flops"] > frozen["flops"]
