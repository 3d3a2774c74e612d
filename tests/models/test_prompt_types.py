"""Vita-CLIP without some of its prompt types, and both methods on one frame."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.models.small import metadata_of, small_backbone

from vidprompt.models import create_model
from vidprompt.models.checkpoint import load_checkpoint, save_checkpoint
from vidprompt.models.methods.video_clip import VideoCLIP
from vidprompt.models.text.prompts import PromptSet
from vidprompt.published import export_published
from vidprompt.system.errors import UserError
from vidprompt.training.objectives import create_objective

FRAMES, WIDTH, LAYERS, TOKENS, GLOBAL = 3, 64, 2, 5, 4  # of small_backbone: 4 patches and the class
NAMES = ["StarGrowing", "StarShrinking"]
ALL = {"global_prompts": GLOBAL, "use_local": True, "use_summary": True}
OFF = {"global_prompts": 0, "use_local": False, "use_summary": False}
CHOICES = [
    {"global_prompts": n, "use_local": local, "use_summary": summary}
    for n, local, summary in product((GLOBAL, 0), (True, False), (True, False))
]


def build(num_frames: int = FRAMES, **options: object) -> VideoCLIP:
    torch.manual_seed(0)
    return create_model(
        "vita_clip",
        small_backbone(),
        num_frames=num_frames,
        context="shared",
        train_cls_proj=True,
        **(ALL | options),
    ).eval()


def clips(num_frames: int = FRAMES) -> torch.Tensor:
    return torch.randn(2, num_frames, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("chosen", CHOICES, ids=str)
def test_a_switch_takes_exactly_its_keys_and_its_parameters(chosen: dict) -> None:
    model = build(**chosen)
    maps: list = []
    plain = model.encode_video(clips())[1]
    assert torch.allclose(plain, model.encode_video(clips(), maps)[1], atol=1e-5)
    extra = chosen["global_prompts"] + FRAMES * chosen["use_local"] + chosen["use_summary"]
    assert [seen["space"].shape[-1] for seen in maps] == [TOKENS + extra] * LAYERS
    assert ["time" in seen for seen in maps] == [chosen["use_summary"]] * LAYERS
    projections = WIDTH**2 + WIDTH
    parts = {
        "time_embedding": FRAMES * WIDTH,
        "local_prompts": LAYERS * FRAMES * WIDTH * chosen["use_local"],
        "global_prompts": LAYERS * chosen["global_prompts"] * WIDTH,
        "class_projections": LAYERS * projections * (chosen["use_local"] or chosen["use_summary"]),
        "summaries": LAYERS * (4 * projections + 2 * WIDTH) * chosen["use_summary"],
    }
    found: dict[str, int] = {}
    for name, parameter in model.named_parameters():
        part = name.partition(".")[0]
        if part not in ("clip", "context", "log_scale"):
            found[part] = found.get(part, 0) + parameter.numel()
    assert found == {name: count for name, count in parts.items() if count}


@pytest.mark.parametrize("chosen", CHOICES, ids=str)
def test_explanations_are_shares_without_some_prompts_too(chosen: dict) -> None:
    found = build(**chosen).explain(clips())
    assert np.allclose(found.temporal.sum(1), 1, atol=1e-5)
    assert found.spatial.min() >= 0
    others = found.temporal[0] != found.temporal[0, 0]
    assert others.any() or not (chosen["use_local"] or chosen["use_summary"])


@pytest.mark.parametrize("off", [{name: value} for name, value in OFF.items()], ids=str)
def test_a_checkpoint_remembers_what_is_switched_off(off: dict, tmp_path: Path) -> None:
    model = build(**off)
    save_checkpoint(tmp_path / "model.safetensors", model, metadata_of(model), torch.float32)
    back = load_checkpoint(tmp_path / "model.safetensors", small_backbone())[0].eval()
    assert back.options.items() >= off.items()
    assert torch.equal(model.encode_video(clips())[1], back.encode_video(clips())[1])


def test_the_published_code_has_all_prompts(tmp_path: Path) -> None:
    for off, named in (
        ({"use_local": False}, "no local prompts: it"),
        ({"use_summary": False, "global_prompts": 0}, "no global prompts and no summaries: it"),
    ):
        with pytest.raises(UserError, match=f"this model {named} cannot be exported"):
            export_published(build(**off), tmp_path / "a.pt")
    with pytest.raises(UserError, match="global_prompts is -1; give a number of prompts, or 0"):
        build(global_prompts=-1)


@pytest.mark.parametrize("chosen", CHOICES, ids=str)
def test_gradients_reach_all_that_is_left(chosen: dict) -> None:
    assert_all_trained(build(**chosen), FRAMES, "cross_entropy")


@pytest.mark.parametrize("start", ["released", "ramp"])
@pytest.mark.parametrize("method", ["ez_clip", "vita_clip"])
def test_one_frame_is_a_video(method: str, start: str) -> None:
    named = {"class_names": NAMES} if method == "vita_clip" else {}
    model = create_model(method, small_backbone(), num_frames=1, prompt_start=start, **named)
    objective = {"ez_clip": "contrastive_motion", "vita_clip": "cross_entropy"}[method]
    assert_all_trained(model, 1, objective)
    assert np.allclose(model.explain(clips(1)).temporal, 1)


def assert_all_trained(model: VideoCLIP, num_frames: int, objective: str) -> None:
    model.train()
    with torch.no_grad():
        for value in model.trained_state().values():  # adapters start at zero: no gradient passes
            value.add_(0.1 * torch.randn_like(value))
    loss = create_objective(objective, model, NAMES, PromptSet(("a {}",)), {"motion_weight": 0.0})
    loss(clips(num_frames), torch.tensor([0, 1]))["loss"].backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name
            assert parameter.grad.any(), name
