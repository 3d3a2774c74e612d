"""Every family of backbones: our forward is the library's, and both methods train on it."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from tests.models.families import FAMILIES, small_family
from torch import nn

from vidprompt.export.metadata import ExportMetadata
from vidprompt.export.module import ExportedModel
from vidprompt.export.writing import trace_program, write_onnx, write_torch_export
from vidprompt.models import create_model
from vidprompt.models.backbones.interface import ImageTower, register_image_tower
from vidprompt.models.backbones.loading import Backbone, from_clip
from vidprompt.models.backbones.open_clip_towers import OpenClipImageTower
from vidprompt.models.methods.video_clip import RECOMPUTE, VideoCLIP
from vidprompt.models.text.context import LearnedContext
from vidprompt.models.text.prompts import PromptSet, tokenize
from vidprompt.training.objectives import ContrastiveMotion, CrossEntropy

NAMES = ["riding a bike", "yoga", "playing the violin"]
FRAMES = 3
FAST = ("ViT-B-16", "PE-Core-B-16", "EVA02-B-16", "ViT-B-16-SigLIP2")
FASTER = ("PE-Core-B-16", "ViT-B-16-SigLIP2")  # for what is not about the numbers


@pytest.fixture(scope="module")
def backbones() -> dict[str, Backbone]:
    return {}


@pytest.fixture
def backbone(request: pytest.FixtureRequest, backbones: dict[str, Backbone]) -> Backbone:
    name = request.param
    if name not in backbones:
        backbones[name] = small_family(name)
    return backbones[name]


def families(*names: str, fast: Sequence[str] = FAST) -> pytest.MarkDecorator:
    """Run for these families, those that are not `fast` as slow tests."""
    values = [pytest.param(n, marks=[] if n in fast else [pytest.mark.slow]) for n in names]
    return pytest.mark.parametrize("backbone", values, indirect=True)


def build(method: str, backbone: Backbone, **options: object) -> VideoCLIP:
    torch.manual_seed(0)
    if method == "vita_clip":
        options = {"class_names": NAMES, "context_length": 3} | options
    return create_model(method, backbone, num_frames=FRAMES, **options).eval()


def video(backbone: Backbone, batch: int = 2) -> torch.Tensor:
    size, generator = backbone.image_size, torch.Generator().manual_seed(1)
    return torch.randn(batch, FRAMES, 3, size, size, generator=generator)


@torch.no_grad()
@families(*FAMILIES)
def test_features_are_the_librarys_own(backbone: Backbone) -> None:
    model, clip = build("frozen_clip", backbone), backbone.clip.eval()
    clips = video(backbone)
    frames, _ = model.encode_video(clips)
    expected = clip.encode_image(clips.flatten(0, 1)).reshape(frames.shape)
    assert (frames - expected).abs().max() < 1e-5 * expected.abs().max().clamp_min(1)
    assert model.feature_width == frames.shape[-1]
    texts = ["a", "somebody rides a bike", "a very long text that is one of many words and more"]
    with pytest.warns(UserWarning, match="1 text is cut to"):
        tokens = tokenize(backbone.tokenizer, texts)
    expected = clip.encode_text(tokens)
    found = model.encode_text(tokens, chunk=2)
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max().clamp_min(1)
    assert model.encode_text(tokens).shape[1] == frames.shape[-1]


@families(*FAMILIES)
@pytest.mark.parametrize("method", ["ez_clip", "vita_clip"])
def test_a_step_reaches_exactly_what_is_trained(method: str, backbone: Backbone) -> None:
    model = build(method, backbone).train()
    before = {name: value.clone() for name, value in backbone.clip.state_dict().items()}
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    objective = ContrastiveMotion if method == "ez_clip" else CrossEntropy
    loss = objective(model, NAMES, PromptSet(("a {}", "the {}")), motion_weight=1.0)
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    optimizer = torch.optim.SGD(trained.values(), lr=0.1)
    loss(video(backbone, 3), torch.tensor([0, 1, 2]))["loss"].backward()
    reached = {n for n, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached == set(trained)
    optimizer.step()
    assert all(torch.equal(before[n], v) for n, v in backbone.clip.state_dict().items())


@families("PE-Core-B-16", "EVA02-B-16", "ViT-B-16-SigLIP2", "ViT-L-14-CLIPA", "MobileCLIP-B")
def test_a_trained_backbone_is_trained_whole_in_a_copy(backbone: Backbone) -> None:
    model = build("ez_clip", backbone, train_backbone="all", adapter_ratio=0, stochastic_depth=0.0)
    loss = CrossEntropy(model, NAMES, PromptSet()).train()
    loss(video(backbone), torch.tensor([0, 2]))["loss"].backward()
    missed = {n for n, p in model.clip.named_parameters() if p.grad is None or not p.grad.any()}
    # the class token of a mean of patches is dropped, of which the last layer's query is a part
    assert missed <= {"logit_scale", "logit_bias", "visual.class_embedding"}
    assert model.clip is not backbone.clip
    assert not any(p.requires_grad for p in backbone.clip.parameters())


@families(
    "ViT-B-16", "PE-Core-B-16", "EVA02-B-16", "ViT-B-16-SigLIP2", "MobileCLIP-B", "EVA01-g-14"
)
@pytest.mark.parametrize("choice", ["last_n", "lora"])
def test_the_last_blocks_or_small_matrices_are_trained(choice: str, backbone: Backbone) -> None:
    options = {"train_backbone": choice, "trained_blocks": 1, "lora_rank": 2}
    model = build("vifi_clip", backbone, **options)
    frozen, clips = build("frozen_clip", backbone), video(backbone)
    with torch.no_grad():
        before = model.encode_video(clips)[1]
        assert torch.allclose(before, frozen.encode_video(clips)[1], atol=1e-6)
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    outside = [n for n in trained if not any(f"blocks.{i}." in n for i in range(9))]
    norms = [n for n in outside if "norm" in n or "ln_" in n]
    assert (len(norms) >= 2, len(outside) > len(norms)) == ((choice == "last_n",) * 2)
    assert not [n for n in outside if "pos_embed" in n or "token" in n or "positional" in n]
    optimizer = torch.optim.SGD(trained.values(), lr=1.0)
    for _ in range(2):
        optimizer.zero_grad()
        loss = CrossEntropy(model, NAMES, PromptSet())
        loss(clips, torch.tensor([0, 2]))["loss"].backward()
        optimizer.step()
    reached = {n for n, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached == set(trained)
    with torch.no_grad():
        after = model.encode_video(clips)[1]
        assert not torch.allclose(after, before, atol=1e-5)
        model.merge_lora()
        assert torch.allclose(model.encode_video(clips)[1], after, atol=1e-6)


@torch.no_grad()
@families(*FAMILIES)
def test_ez_clip_starts_as_the_identity(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its adapters change nothing at first; its prompts are tokens that are attended to."""
    model, frozen = (build(method, backbone) for method in ("ez_clip", "frozen_clip"))
    clips = video(backbone)
    found, expected = model.encode_classes(NAMES), frozen.encode_classes(NAMES)
    assert torch.allclose(found, expected, atol=1e-6)
    with_prompts = model.encode_video(clips)[0]
    assert not torch.allclose(with_prompts, frozen.encode_video(clips)[0], atol=1e-5)
    monkeypatch.setattr(model, "prompt_kv", lambda *arguments: [])
    assert torch.allclose(model.encode_video(clips)[0], frozen.encode_video(clips)[0], atol=2e-6)


@families(*FAMILIES, fast=FASTER)
@pytest.mark.parametrize("text", [None, "riding a bike"])
@pytest.mark.parametrize("method", ["ez_clip", "vita_clip"])
def test_an_explanation_is_a_distribution(
    method: str, text: str | None, backbone: Backbone
) -> None:
    found = build(method, backbone).explain(video(backbone), text)
    assert found.spatial.shape == (2, FRAMES, *backbone.image_tower.grid)
    assert found.spatial.min() >= 0
    assert torch.allclose(torch.tensor(found.temporal.sum(1)), torch.ones(2), atol=1e-4)


@torch.no_grad()
@families(*FAMILIES, fast=FASTER)
def test_maps_do_not_change_the_features(backbone: Backbone) -> None:
    for method in ("frozen_clip", "ez_clip", "vita_clip"):
        model, maps = build(method, backbone), []
        expected = model.encode_video(video(backbone))[1]
        assert torch.allclose(model.encode_video(video(backbone), maps)[1], expected, atol=1e-5)
        assert len(maps) == len(model.vision_blocks)
        for weights in maps[-1].values():
            assert torch.allclose(weights.sum(-1), torch.ones(()), atol=1e-5)


@families(*FAMILIES, fast=FASTER)
def test_recomputed_activations_give_the_same_gradients(backbone: Backbone) -> None:
    grads = []
    for what in RECOMPUTE:
        model = build("ez_clip", backbone, prompt_dropout=0.0, stochastic_depth=0.0).train()
        torch.manual_seed(1)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.1 * torch.randn_like(parameter))
        model.recompute = what
        loss = CrossEntropy(model, NAMES, PromptSet())
        loss(video(backbone), torch.tensor([0, 2]))["loss"].backward()
        grads.append({n: p.grad for n, p in model.named_parameters() if p.requires_grad})
    for other in grads[1:]:
        for name, gradient in grads[0].items():
            assert torch.allclose(gradient, other[name], rtol=1e-4, atol=1e-6), name


@families(*FAMILIES, fast=FASTER)
def test_half_precision_by_autocast_stays_half(backbone: Backbone) -> None:
    model = build("vita_clip", backbone).train()
    expected = model.encode_video(video(backbone))[0]
    with torch.autocast("cpu", torch.bfloat16):
        found = model.encode_video(video(backbone))[0]
    assert found.dtype == torch.bfloat16
    assert (found - expected).norm() < 0.1 * expected.norm()


@families(*FAMILIES, fast=())
@pytest.mark.parametrize("method", ["ez_clip", "vita_clip"])
def test_one_compilation_serves_every_layer_batch_and_length(
    method: str, backbone: Backbone
) -> None:
    options = {"other_lengths": "nearest"} if method == "ez_clip" else {}
    plain, compiled = (build(method, backbone, **options) for _ in range(2))
    torch._dynamo.reset()
    compiled.compile()
    torch._dynamo.utils.counters.clear()
    for batch, t in ((2, FRAMES), (3, FRAMES), (2, 2 * FRAMES)):
        clips = torch.randn(batch, t, 3, backbone.image_size, backbone.image_size)
        with torch.no_grad():
            expected, found = (m.encode_video(clips)[1] for m in (plain, compiled))
        assert torch.allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 6


@families(*FAMILIES, fast=())
@pytest.mark.parametrize("method", ["frozen_clip", "ez_clip", "vita_clip"])
def test_exported_files_compute_the_same_features(
    method: str, backbone: Backbone, tmp_path: Path
) -> None:
    model = build(method, backbone)
    with torch.no_grad():
        text = model.encode_classes(NAMES)
    metadata = ExportMetadata(
        model=method, identity="", method=method, backbone=backbone.tag, num_frames=FRAMES,
        image_size=backbone.image_size, feature_size=model.feature_width, class_names=tuple(NAMES),
        prompts_per_class=1,
    )  # fmt: skip
    program = trace_program(ExportedModel(model, text), metadata)
    assert write_torch_export(tmp_path / "model.pt2", program).features < 1e-5
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    assert write_onnx(tmp_path / "model.onnx", program).features < 1e-4


@torch.no_grad()
@families(*FAMILIES)
@pytest.mark.parametrize("position", ["end", "middle", "front"])
def test_a_context_of_word_embeddings_is_the_text_with_these_words(
    position: str, backbone: Backbone
) -> None:
    model = build("ez_clip", backbone, class_names=NAMES, context="shared", context_length=3,
                  context_position=position)  # fmt: skip
    assert isinstance(model.context, LearnedContext)
    tokenizer = backbone.tokenizer
    words = torch.tensor(tokenizer.own_ids(tokenizer(["video of somebody"])[0].tolist()))
    model.context.vectors.copy_(model.text_tower.embed(words)[None])
    written = {
        "end": "video of somebody {}.",
        "middle": "video {} of somebody.",
        "front": "{} video of somebody.",
    }
    expected = model.encode_texts([written[position].format(name) for name in NAMES])
    assert torch.allclose(model.encode_classes(NAMES)[:, 0], expected, atol=1e-5)


@families("ViT-B-16-SigLIP")
def test_a_bias_of_the_logits_is_added(backbone: Backbone) -> None:
    model = build("frozen_clip", backbone)
    found = model(video(backbone), NAMES)
    image, text = (nn.functional.normalize(f, dim=-1) for f in (
        model.encode_video(video(backbone))[1], model.encode_classes(NAMES)[:, 0]))  # fmt: skip
    clip = backbone.clip
    expected = clip.logit_scale.exp() * image @ text.T + clip.logit_bias
    assert torch.allclose(found, expected, atol=1e-4)
    assert build("frozen_clip", small_family("PE-Core-B-16")).logit_bias is None


def test_a_tower_of_ones_own_is_a_class_with_a_registration() -> None:
    class Mine(nn.Module):
        """Not open_clip's: the wrapped module takes its place only by the adapter below."""

        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.inner(images)

    known = list(ImageTower.registered)
    clip = small_family("ViT-B-16").clip
    clip.visual = Mine(clip.visual)
    with pytest.raises(Exception, match="its image tower is open_clip's Mine"):
        from_clip(clip, "mine", "")

    class MineTower(OpenClipImageTower):
        @classmethod
        def takes(cls, module: nn.Module) -> bool:
            return isinstance(module, Mine)

        @classmethod
        def missing(cls, module: Mine) -> str:
            return super().missing(module.inner)

        def __init__(self, module: Mine) -> None:
            super().__init__(module.inner)

    register_image_tower(MineTower)
    try:
        mine = from_clip(clip, "mine", "")
        model = build("vita_clip", mine)
        assert model.encode_video(video(mine))[0].shape == (2, FRAMES, 32)
    finally:
        ImageTower.registered[:] = known
