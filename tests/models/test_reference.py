"""Both models against an independent, plain computation from the specification, over many shapes."""

import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.reference import published_models as published

from vidprompt.models import create_model
from vidprompt.models.backbones.loading import Backbone, from_clip
from vidprompt.models.backbones.open_clip_towers import eot_positions
from vidprompt.models.methods.video_clip import RECOMPUTE, VideoCLIP
from vidprompt.published.checkpoints import published_state
from vidprompt.published.naming import to_published

NAMES = ["riding_a_bike", "a", "PlayingTheViolin on a roof"]


def backbone(
    layers: int, heads: int, patch: int, grid: int, text_layers: int, text_heads: int
) -> Backbone:
    vision = {
        "image_size": patch * grid,
        "layers": layers,
        "width": 64 * heads,
        "patch_size": patch,
    }
    text = {
        "context_length": 20,
        "width": 64 * text_heads,
        "heads": text_heads,
        "layers": text_layers,
    }
    clip = open_clip.CLIP(32, vision, text, quick_gelu=True)
    return from_clip(clip, "small", "")


def randomise(model: VideoCLIP) -> None:
    """Everything that starts at zero or one gets a value: the tests would pass without it."""
    with torch.no_grad():
        for value in model.trained_state().values():
            value.add_(0.1 * torch.randn_like(value))


shapes = st.fixed_dictionaries(
    {
        "layers": st.integers(1, 3),
        "heads": st.integers(1, 2),
        "patch": st.sampled_from([4, 7]),
        "grid": st.integers(1, 3),
        "text_layers": st.integers(1, 3),
        "text_heads": st.integers(1, 2),
    }
)


def gradients(state: dict[str, torch.Tensor], names: list[str]) -> dict[str, torch.Tensor]:
    return {name: state[name].grad for name in names}


def assert_near(found: torch.Tensor, expected: torch.Tensor, what: str) -> None:
    apart = (found - expected).abs().max() / expected.abs().max().clamp_min(1e-2)
    assert apart < 2e-5, f"{what}: {apart:.1e}"


@settings(max_examples=12, deadline=None)
@given(shape=shapes, frames=st.integers(1, 5), batch=st.integers(1, 3), seed=st.integers(0, 99))
@pytest.mark.parametrize("method", ["ez_clip", "vita_clip"])
def test_features_and_gradients_are_the_plain_computations(
    method: str, shape: dict[str, int], frames: int, batch: int, seed: int
) -> None:
    torch.manual_seed(seed)
    base = backbone(**shape)
    options: dict[str, object] = {"prompt_dropout": 0.0, "stochastic_depth": 0.0}
    if method == "vita_clip":
        options = {"class_names": NAMES, "train_cls_proj": True, "clean_names": False}
    model = create_model(method, base, num_frames=frames, **options).train()
    randomise(model)
    model.recompute = RECOMPUTE[seed % len(RECOMPUTE)]
    video = torch.randn(batch, frames, 3, base.image_size, base.image_size)
    _, features = model.encode_video(video)
    text = model.encode_classes([name.replace("_", " ").lower() for name in NAMES]
                                if method == "ez_clip" else NAMES)[:, 0]  # fmt: skip
    weight = torch.randn(batch, len(NAMES))
    (features @ text.T * weight).sum().backward()

    state = published_state(model)
    found = to_published(
        model,
        {n: p.grad for n, p in model.named_parameters() if p.requires_grad and p.grad is not None},
    )
    for name in found:
        state[name] = state[name].clone().requires_grad_()
    if method == "ez_clip":
        expected = published.ez_clip_video(state, video).mean(1)
        cleaned = ["riding a bike", "a", "playingtheviolin on a roof"]
        tokens = base.tokenizer(cleaned)
        embedded = state["token_embedding.weight"][tokens]
        expected_text = published.encode_text(state, "", embedded, eot_positions(tokens))
    else:
        expected = published.vita_clip_video(state, video)
        tokens = base.tokenizer([f"X X X X X X X X {n.replace('_', ' ')}." for n in NAMES])
        expected_text = published.vita_clip_text(state, eot_positions(tokens))
    assert_near(features, expected, "video features")
    assert_near(text, expected_text, "text features")
    (expected @ expected_text.T * weight).sum().backward()
    for name, gradient in found.items():
        plain = state[name].grad
        assert plain is not None
        # a softmax does not depend on the keys' bias, and of a single frame on nothing: zero but for rounding
        single = (
            frames == 1 and "summary_attn_layer" in name and ("q_proj" in name or "k_proj" in name)
        )
        if "k_proj.bias" not in name and not single:
            assert_near(gradient, plain.reshape(gradient.shape), name)
