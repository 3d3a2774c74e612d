"""Roll-out of attention: shares that add up, and that find what a video feature depends on."""

import numpy as np
import pytest
import torch
from tests.models.small import small_backbone

from vidprompt.models import create_model
from vidprompt.models.methods.video_clip import VideoCLIP
from vidprompt.pipeline.parameter_table import parameter_table

METHODS = ["frozen_clip", "ez_clip", "vita_clip"]


def build(method: str) -> VideoCLIP:
    options = {"context": "shared"} if method == "vita_clip" else {}
    return create_model(method, small_backbone(), num_frames=3, **options).train()


@pytest.mark.parametrize("text", [None, "a dog runs"])
@pytest.mark.parametrize("method", METHODS)
def test_shares_are_a_distribution_over_frames_and_patches(method: str, text: str | None) -> None:
    model = build(method)
    found = model.explain(torch.randn(2, 3, 3, 32, 32), text)
    assert found.temporal.shape == (2, 3)
    assert found.spatial.shape == (2, 3, 2, 2)
    assert found.spatial.min() >= 0
    assert np.allclose(found.temporal.sum(1), 1, atol=1e-5)
    assert np.allclose(found.spatial.sum((2, 3)), found.temporal, atol=1e-5)
    assert model.training
    assert all(p.grad is None for p in model.parameters())


def test_one_video_without_a_batch() -> None:
    assert build("ez_clip").explain(torch.randn(3, 3, 32, 32)).temporal.shape == (1, 3)


def test_maps_do_not_change_the_features() -> None:
    for method in METHODS:
        model = build(method).eval()
        video = torch.randn(2, 3, 3, 32, 32)
        plain, maps = model.encode_video(video), []
        assert torch.allclose(plain[1], model.encode_video(video, maps)[1], atol=1e-5)
        assert len(maps) == 2


def test_plain_roll_out_is_the_product_of_the_layers_matrices() -> None:
    """One frame of the frozen model: Abnar and Zuidema's definition, written out."""
    model = build("frozen_clip").eval()
    video = torch.randn(1, 1, 3, 32, 32)
    maps: list = []
    model.encode_video(video, maps)
    eye = torch.eye(5)
    first = (eye + maps[0]["space"].mean(1)[0]) / 2
    last = (eye[:1] + maps[1]["space"].mean(1)[0]) / 2  # the class token alone is asked for
    expected = (last @ first)[0, 1:].detach()
    expected = expected / expected.sum()
    found = model.explain(video).spatial.reshape(-1)
    assert np.allclose(found, expected.numpy(), atol=1e-5)


@pytest.mark.parametrize("method", ["ez_clip", "vita_clip"])
def test_a_frame_that_all_others_attend_to_gets_the_larger_share(method: str) -> None:
    """Only tokens of other frames' prompts carry relevance across: with attention on frame 1, it wins."""
    model = build(method).eval()
    extra = torch.ones(1, 3, {"ez_clip": 1, "vita_clip": 3 + 8 + 1}[method])
    time = torch.tensor([[[0.0, 1.0, 0.0]] * 3])
    got = model.prompt_relevance(extra, time, 5).sum(-1)[0]
    assert got[1] > got[0]
    assert got[1] > got[2]


def test_the_parameter_table_adds_up() -> None:
    model = build("vita_clip")
    table = {part.name: part for part in parameter_table(model)}
    assert table["total"].trained == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert table["summaries"].trained == 2 * (4 * 64 * 64 + 4 * 64 + 2 * 64)
    assert table["class projections"].frozen == 2 * (64 * 64 + 64)
    assert table["CLIP image tower"].trained == 0
