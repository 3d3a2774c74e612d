"""EZ-CLIP and Vita-CLIP against their definitions, on a tiny backbone."""

import pytest
import torch
from tests.models.small import small_backbone

from vidprompt.data.annotations.class_names import clean_class_name
from vidprompt.models import create_model
from vidprompt.models.backbones.loading import Backbone, load_backbone
from vidprompt.models.layers.dropout_attention import _DropoutAttention, dropout_attention
from vidprompt.models.methods.video_clip import VideoCLIP, logits
from vidprompt.models.text.prompts import PromptSet
from vidprompt.system.errors import UserError
from vidprompt.training.objectives import ContrastiveMotion, CrossEntropy

FRAMES, SIZE, WIDTH, LAYERS, TEXT = 4, 32, 64, 2, 32  # of small_backbone
NAMES = ["StarGrowing", "StarShrinking", "CrossMovingLeft"]


def backbone() -> Backbone:
    return small_backbone()


def video(batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, FRAMES, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


def build(method: str, **options: object) -> VideoCLIP:
    torch.manual_seed(0)
    if method == "vita_clip":
        options.setdefault("class_names", NAMES)
    return create_model(method, backbone(), num_frames=FRAMES, **options).eval()


def trainable(model: VideoCLIP) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def test_frozen_clip_is_the_mean_of_open_clips_image_features() -> None:
    model = build("frozen_clip")
    frames, features = model.encode_video(video())
    expected = model.clip.encode_image(video().flatten(0, 1)).reshape(2, FRAMES, -1)
    assert torch.allclose(frames, expected, atol=1e-5)
    assert torch.allclose(features, expected.mean(1), atol=1e-5)
    assert trainable(model) == 0


def test_text_features_are_open_clips() -> None:
    model = build("frozen_clip")
    texts = ["a video of a star growing", "a"]
    tokens = model.backbone.tokenizer(texts)
    assert torch.allclose(model.encode_text(tokens), model.clip.encode_text(tokens), atol=1e-5)


@pytest.mark.parametrize("method", ["frozen_clip", "ez_clip", "vita_clip"])
def test_a_forward_pass_gives_logits_of_names_and_of_encoded_text(method: str) -> None:
    model = build(method)
    found = model(video(), NAMES)
    features, text = model.encode_video(video())[1], model.encode_classes(NAMES)
    cosines = torch.cosine_similarity(features[:, None], text[:, 0][None], dim=-1)
    assert found.shape == (2, len(NAMES))
    assert torch.allclose(found, model.logit_scale * cosines, rtol=1e-5)
    assert torch.equal(found, model(video(), text))
    assert torch.allclose(found, model(video(), text[:, 0]), rtol=1e-5)


def test_logits_are_float32_under_autocast_and_average_the_prompts_of_a_class() -> None:
    generator = torch.Generator().manual_seed(0)
    features, text = (torch.randn(shape, generator=generator) for shape in ((4, 32), (3, 2, 32)))
    found = logits(features, text, 100.0)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(logits(features, text, 100.0), found)
    unit = text / text.norm(dim=-1, keepdim=True)
    expected = torch.cosine_similarity(features[:, None], unit.mean(1)[None], dim=-1)
    assert torch.allclose(found, 100 * expected, rtol=1e-4, atol=1e-4)


def test_frozen_clip_does_not_see_the_order_of_frames_and_the_methods_do() -> None:
    backwards = video().flip(1)
    for method, sees in (("frozen_clip", False), ("ez_clip", True), ("vita_clip", True)):
        model = build(method)
        same = torch.allclose(
            model.encode_video(video())[1], model.encode_video(backwards)[1], atol=1e-6
        )
        assert same is not sees, method


def test_ez_clip_adapters_start_as_the_identity() -> None:
    model = build("ez_clip")
    tokens = model.backbone.tokenizer(["a star"])
    assert torch.allclose(model.encode_text(tokens), model.clip.encode_text(tokens), atol=1e-5)


def test_ez_clip_trains_prompts_and_adapters_only() -> None:
    model = build("ez_clip")
    vision = LAYERS * (2 * WIDTH * (WIDTH // 4) + WIDTH // 4 + WIDTH)
    text = 2 * (2 * TEXT * (TEXT // 4) + TEXT // 4 + TEXT)
    assert trainable(model) == LAYERS * FRAMES * WIDTH + vision + text


def test_ez_clip_on_vit_b_16_trains_the_published_number_of_parameters() -> None:
    model = create_model("ez_clip", load_backbone("ViT-B-16"), num_frames=8)
    assert trainable(model) == 5_204_736


def test_ez_clip_temporal_embedding_is_applied_and_not_trained() -> None:
    model = build("ez_clip")
    before = model.encode_video(video())[1]
    model.temporal_embedding.normal_()
    assert not torch.allclose(before, model.encode_video(video())[1], atol=1e-4)
    assert "temporal_embedding" not in dict(model.named_parameters())


def test_vita_clip_freezes_the_class_projection_as_released_unless_told() -> None:
    projections = LAYERS * (WIDTH * WIDTH + WIDTH)
    released, paper = build("vita_clip"), build("vita_clip", train_cls_proj=True)
    assert trainable(paper) - trainable(released) == projections


def test_vita_clip_class_contexts_serve_known_classes_only() -> None:
    model = build("vita_clip", context="class")
    prompts = PromptSet(("a video of {}",))
    known = model.encode_classes(NAMES[:2], prompts)
    assert known.shape == (2, 1, 32)
    unseen = model.encode_classes(["HeartGrowing"], prompts)[:, 0]
    plain = model.clip.encode_text(model.backbone.tokenizer(["heart growing"]))
    assert torch.allclose(unseen, plain, atol=1e-5)


def test_vita_clip_shared_context_serves_every_class() -> None:
    model = build("vita_clip", context="shared")
    prompts = PromptSet(("{}",))
    plain = model.clip.encode_text(model.backbone.tokenizer(["heart growing"]))
    assert not torch.allclose(model.encode_classes(["HeartGrowing"], prompts)[:, 0], plain)


def test_vita_clip_on_vit_b_16_trains_the_published_numbers_of_parameters() -> None:
    """methods.md of the project's specification: 30.2 M as released, 38.9 M as in the paper."""
    base = load_backbone("ViT-B-16")
    names = [f"class {i}" for i in range(400)]
    released = create_model(
        "vita_clip", base, num_frames=8, class_names=names, context_length=8, train_cls_proj=False
    )
    paper = create_model(
        "vita_clip", base, num_frames=8, class_names=names, context_length=16, train_cls_proj=True
    )
    prompts, summaries = 8 * 768 * (1 + 12 + 12), 12 * (4 * 768**2 + 4 * 768 + 2 * 768)
    assert trainable(released) == prompts + summaries + 400 * 8 * 512 + 1 == 30_158_849
    projections = 12 * (768**2 + 768)
    assert trainable(paper) == prompts + summaries + 400 * 16 * 512 + projections + 1 == 38_884_353


TRAINED = {
    "ez_clip": ["temporal_prompts", "text_adapters", "vision_adapters"],
    "vita_clip": ["context", "global_prompts", "local_prompts", "log_scale", "summaries", "time_embedding"],
}  # fmt: skip


@pytest.mark.parametrize("objective", [ContrastiveMotion, CrossEntropy])
@pytest.mark.parametrize("method", ["ez_clip", "vita_clip"])
def test_gradients_reach_exactly_what_is_trained(method: str, objective: type) -> None:
    model = build(method).train()
    randomise(model)
    loss = objective(model, NAMES, PromptSet(("a {}", "the {}")), motion_weight=1.0)
    loss(video(3), torch.tensor([0, 1, 2]))["loss"].backward()
    reached = {n for n, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert reached == trained
    assert sorted({name.split(".")[0] for name in trained}) == TRAINED[method]


def randomise(model: VideoCLIP) -> None:
    """Without this, W2 = 0 at the start keeps the gradient from W1."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))


def test_zeroed_prompts_of_vita_clip_still_change_the_frozen_model_and_ez_clips_do() -> None:
    """Zero prompts are tokens all the same: EZ-CLIP's is then the mean of its frame, Vita-CLIP's attend."""
    frozen = build("frozen_clip").encode_video(video())[1]
    for method in ("ez_clip", "vita_clip"):
        model = build(method)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "prompts" in name or "time_embedding" in name:
                    parameter.zero_()
        assert not torch.allclose(model.encode_video(video())[1], frozen, atol=1e-4)


@pytest.mark.parametrize("method", ["ez_clip", "vita_clip"])
def test_without_what_a_method_adds_it_is_the_frozen_model(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The adapters start as the identity, and nothing but the extra tokens tells the video apart."""
    model = build(method)
    monkeypatch.setattr(model, "prompt_kv", lambda *arguments: [])
    if method == "vita_clip":
        torch.nn.init.zeros_(model.time_embedding)
    expected = build("frozen_clip").encode_video(video())[0]
    assert torch.allclose(model.encode_video(video())[0], expected, atol=1e-5)


def test_ez_clip_refuses_another_number_of_frames_or_resamples_when_told() -> None:
    longer = torch.randn(1, 2 * FRAMES, 3, SIZE, SIZE)
    with pytest.raises(UserError, match="for 4 frames, and the video has 8.*nearest or linear"):
        build("ez_clip").encode_video(longer)
    nearest, linear = (build("ez_clip", other_lengths=mode) for mode in ("nearest", "linear"))
    doubled = build("ez_clip", other_lengths="nearest")
    doubled.temporal_prompts = torch.nn.Parameter(doubled.temporal_prompts.repeat_interleave(2, 1))
    doubled.temporal_embedding = doubled.temporal_embedding.repeat_interleave(2, 1)
    expected = doubled.encode_video(longer)[1]
    assert torch.allclose(nearest.encode_video(longer)[1], expected, atol=1e-6)
    assert not torch.allclose(linear.encode_video(longer)[1], expected, atol=1e-6)
    with pytest.raises(UserError, match="other_lengths=cubic: valid: refuse, nearest"):
        build("ez_clip", other_lengths="cubic")


def test_vita_clip_takes_its_prompts_nearest_in_time() -> None:
    model = build("vita_clip")
    longer = torch.randn(1, 2 * FRAMES, 3, SIZE, SIZE)
    doubled = build("vita_clip")
    doubled.time_embedding = torch.nn.Parameter(doubled.time_embedding.repeat_interleave(2, 0))
    doubled.local_prompts = torch.nn.Parameter(doubled.local_prompts.repeat_interleave(2, 1))
    found, expected = (m.encode_video(longer)[1] for m in (model, doubled))
    assert torch.allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("recompute", ["mlp", "layer"])
@pytest.mark.parametrize("method", ["ez_clip", "vita_clip"])
def test_recomputed_activations_give_the_same_gradients(method: str, recompute: str) -> None:
    grads = []
    for what in ("nothing", recompute):
        options: dict = {"prompt_dropout": 0.0, "stochastic_depth": 0.0}
        torch.manual_seed(0)
        model = create_model(
            method,
            small_backbone(layers=4),
            num_frames=FRAMES,
            class_names=NAMES,
            **(options if method == "ez_clip" else {}),
        ).train()
        randomise_with_seed(model)
        model.recompute = what
        CrossEntropy(model, NAMES, PromptSet())(video(), torch.tensor([0, 2]))["loss"].backward()
        grads.append({n: p.grad for n, p in model.named_parameters() if p.requires_grad})
    for name, gradient in grads[0].items():
        assert torch.allclose(gradient, grads[1][name], rtol=1e-4, atol=1e-6), name
    with pytest.raises(UserError, match="recompute=all: valid: nothing, mlp, layer"):
        build(method).recompute = "all"


def randomise_with_seed(model: VideoCLIP) -> None:
    torch.manual_seed(1)
    randomise(model)


def test_attention_with_dropout_is_attention_in_the_mean_and_differentiable() -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(3, 2, n, 8, dtype=torch.double, requires_grad=True) for n in (5, 7, 7))
    assert torch.autograd.gradcheck(
        lambda q, k, v: _DropoutAttention.apply(q, k, v, None, 0.3, 11), (q, k, v)
    )
    plain = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    with torch.no_grad():
        draws = torch.stack([dropout_attention(q, k, v, 0.3) for _ in range(2000)])
    assert (draws.mean(0) - plain).abs().max() < 0.08
    assert draws.std(0).min() > 0.01


def test_training_as_released_is_the_same_again_with_the_same_seed() -> None:
    model = build("ez_clip", prompt_dropout=0.1, stochastic_depth=0.3).train()
    features = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        features.append(model.encode_video(video())[1])
    assert torch.equal(features[0], features[1])
    assert not torch.allclose(features[0], features[2], atol=1e-4)


@pytest.mark.parametrize("method", ["ez_clip", "vita_clip"])
def test_half_precision_by_autocast_trains_the_same_model(method: str) -> None:
    model = build(method).train()
    randomise_with_seed(model)
    loss = CrossEntropy(model, NAMES, PromptSet(("a {}",)))
    losses = []
    for enabled in (False, True):
        torch.manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            losses.append(loss(video(), torch.tensor([0, 2]))["loss"])
    losses[1].backward()
    assert torch.isfinite(losses[1])
    assert torch.allclose(losses[0], losses[1].float(), rtol=0.1, atol=0.1)
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["ez_clip", "vita_clip"])
def test_one_compilation_serves_every_layer_batch_and_length(method: str) -> None:
    options = {"other_lengths": "nearest"} if method == "ez_clip" else {}
    plain, compiled = build(method, **options).eval(), build(method, **options).eval()
    compiled.compile()
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    for batch, t in ((2, FRAMES), (3, FRAMES), (2, 2 * FRAMES), (4, 3)):
        clips = torch.randn(batch, t, 3, SIZE, SIZE)
        with torch.no_grad():
            expected, found = (m.encode_video(clips)[1] for m in (plain, compiled))
        assert torch.allclose(found, expected, atol=1e-5)
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert graphs <= 6  # and not one a shape and layer


def test_unknown_method_and_option_are_sentences() -> None:
    with pytest.raises(UserError, match="valid: frozen_clip, ez_clip, vita_clip"):
        create_model("ezclip", backbone(), num_frames=4)
    with pytest.raises(UserError, match="ez_clip does not take"):
        create_model("ez_clip", backbone(), num_frames=4, depth=3)


def test_class_names_are_cleaned() -> None:
    assert clean_class_name("HandstandPushups") == "handstand pushups"
    assert clean_class_name("StarTurningClockwise") == "star turning clockwise"
    assert clean_class_name("brush_hair") == "brush hair"


def test_vita_clip_starts_as_its_released_code() -> None:
    """`_initialize_*` of training/VitaCLIP_vision_encoder.py and …_utils.py."""
    torch.manual_seed(1)
    base = small_backbone(layers=6)
    model, normal = (
        create_model("vita_clip", base, num_frames=8, context="shared", prompt_start=start)
        for start in ("released", "normal")
    )
    bound = (6 / (3 * 16 * 16 + WIDTH)) ** 0.5
    for prompts in (model.local_prompts, model.global_prompts):
        assert 0.98 * bound < prompts.abs().max() <= bound
        assert prompts.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)
    assert model.time_embedding.std().item() == pytest.approx(0.02, rel=0.15)
    assert normal.global_prompts.std().item() == pytest.approx(0.02, rel=0.1)
    xavier = (6 / (2 * WIDTH)) ** 0.5
    for summary in model.summaries:
        attention = summary.attention
        for weight in (*attention.in_proj_weight.chunk(3), attention.out_proj.weight):
            assert 0.98 * xavier < weight.abs().max() <= xavier
        assert not attention.in_proj_bias.any()
        assert not attention.out_proj.bias.any()
    for projection in model.class_projections:  # PyTorch's own start of a linear layer
        for tensor in (projection.weight, projection.bias):
            assert 0.9 * WIDTH**-0.5 < tensor.abs().max() <= WIDTH**-0.5
    assert model.log_scale == base.clip.logit_scale
    warm = create_model("vita_clip", base, num_frames=2, context="none", initial_temperature=0.07)
    assert warm.logit_scale.item() == pytest.approx(1 / 0.07)
    for wrong, message in (
        ({"initial_temperature": 0}, "initial_temperature is 0; give one above 0"),
        ({"prompt_start": "xavier"}, "valid: released, normal, ramp"),
    ):
        with pytest.raises(UserError, match=message):
            create_model("vita_clip", base, num_frames=2, context="none", **wrong)
