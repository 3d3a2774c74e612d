"""What is computed differently on a GPU has the numbers of the CPU's way; frozen weights are cast once."""

import pytest
import torch
from tests.models.small import small_backbone
from tests.models.test_reference import randomise

from vidprompt.models import create_model
from vidprompt.models.layers import frozen_weights
from vidprompt.models.layers.frozen_weights import layer_norm, weight_of
from vidprompt.models.methods.video_clip import VideoCLIP

NAMES = ["riding a bike", "a", "playing the violin on a roof"]


def build(method: str, **options: object) -> VideoCLIP:
    torch.manual_seed(0)
    options |= {"class_names": NAMES} if method == "vita_clip" else {}
    model = create_model(method, small_backbone(layers=3), num_frames=3, **options)
    randomise(model)
    return model.eval()  # nothing is dropped


def outputs(model: VideoCLIP) -> tuple[list[torch.Tensor], dict[str, torch.Tensor]]:
    """Features of frames and classes, and the gradients of what is trained."""
    model.zero_grad()
    video = torch.randn(2, 3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    frames, text = model.encode_video(video)[0], model.encode_classes(NAMES)
    (frames.float().sin().sum() + text.float().sin().sum()).backward()
    named = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return [frames.detach(), text.detach()], named


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("layers.attention", "backbones.open_clip_towers"):
        monkeypatch.setattr(f"vidprompt.models.{module}.on_cpu", lambda _: False)


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).norm() / other.norm())


@pytest.mark.parametrize("method", ["ez_clip", "vita_clip"])
@pytest.mark.parametrize("half", [False, True])
def test_the_gpus_path_has_the_numbers_of_the_cpus(
    method: str, half: bool, request: pytest.FixtureRequest
) -> None:
    model = build(method)
    expected, gradients = outputs(model)
    request.getfixturevalue("as_on_a_gpu")
    most = 3e-2 if half else 1e-5
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        found, own = outputs(model)
    assert own.keys() == gradients.keys()
    for one, other in zip(found, expected, strict=True):
        assert apart(one.float(), other) < most
    largest = max(g.norm() for g in gradients.values())
    for name, gradient in gradients.items():
        assert (own[name] - gradient).norm() < most * largest, name


@pytest.mark.parametrize("method", ["ez_clip", "vita_clip"])
def test_no_layer_falls_back_to_float32_under_autocast(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bias in float32 would make the sum, and with it all later layers, float32."""
    model = build(method)
    seen = []
    plain = model.vision_layer

    def layer(*arguments: object, **options: object) -> torch.Tensor:
        seen.append(plain(*arguments, **options))
        return seen[-1]

    monkeypatch.setattr(model, "vision_layer", layer)
    after = model.after_text_attention

    def text(number: int, x: torch.Tensor) -> torch.Tensor:
        seen.append(after(number, x))
        return seen[-1]

    monkeypatch.setattr(model, "after_text_attention", text)
    with torch.autocast("cpu", torch.bfloat16):
        outputs(model)
    assert len(seen) >= 5
    assert {x.dtype for x in seen} == {torch.bfloat16}


def test_a_frozen_weight_is_cast_once_and_again_after_a_change() -> None:
    weight = torch.nn.Parameter(torch.tensor([1.0, 2.0]), requires_grad=False)
    assert weight_of(weight) is weight  # without autocast nothing is cast
    with torch.autocast("cpu", torch.bfloat16):
        with torch.inference_mode():
            kept = weight_of(weight)
        assert kept.dtype == torch.bfloat16
        assert not kept.is_inference()
        assert weight_of(weight) is kept
        assert weight_of(weight, 2.0).tolist() == [2.0, 4.0]
        with torch.no_grad():
            weight.add_(1)
        assert weight_of(weight).tolist() == [2.0, 3.0]
        weight.data = torch.tensor([5.0, 6.0])
        assert weight_of(weight).tolist() == [5.0, 6.0]
        assert weight_of(weight.requires_grad_()) is weight
    count = len(frozen_weights._COPIES)
    del weight
    assert len(frozen_weights._COPIES) == count - 1  # copies go with their weight


def test_a_model_made_in_inference_mode_computes_under_autocast() -> None:
    """Its weights count no changes, so that no copies of them are kept."""
    clips = torch.randn(1, 3, 3, 32, 32)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        model = build("ez_clip")
        first = model.encode_video(clips)[1], model.encode_classes(NAMES)
        assert not any(weight in frozen_weights._COPIES for weight in model.parameters())
        model.clip.visual.proj.mul_(2)
        assert apart(model.encode_video(clips)[1].float(), 2 * first[0].float()) < 1e-2
        assert torch.equal(model.encode_classes(NAMES), first[1])
    expected = build("ez_clip").encode_video(clips)[1].detach()
    assert apart(first[0].float(), expected) < 3e-2


def test_a_norm_of_half_precision_has_statistics_in_float32() -> None:
    norm = torch.nn.LayerNorm(64)
    x = (300 + torch.randn(5, 64)).to(torch.bfloat16)  # squares and sums beyond bfloat16's digits
    with torch.autocast("cpu", torch.bfloat16):
        found = layer_norm(norm, x)
    assert found.dtype == torch.bfloat16
    assert torch.allclose(found.float(), norm(x.float()), atol=2e-2)
