"""EZ-CLIP and Vita-CLIP against their definitions, on a tiny backbone."""

import open_clip
import pytest
import torch

from vidprompt.errors import UserError
from vidprompt.models import create_model
from vidprompt.models.backbone import Backbone, load_backbone
from vidprompt.models.prompts import PromptSet, clean_class_name
from vidprompt.models.video_clip import VideoCLIP

FRAMES, SIZE, WIDTH, LAYERS, TEXT = 4, 32, 64, 2, 32
NAMES = ["StarGrowing", "StarShrinking", "CrossMovingLeft"]


def backbone() -> Backbone:
    torch.manual_seed(0)
    clip = open_clip.CLIP(
        embed_dim=32,
        vision_cfg={
            "image_size": SIZE,
            "layers": LAYERS,
            "width": WIDTH,
            "head_width": 16,
            "patch_size": 16,
        },
        text_cfg={
            "context_length": 24,
            "vocab_size": 49408,
            "width": TEXT,
            "heads": 2,
            "layers": 2,
        },
    )
    clip.requires_grad_(False)
    tokenizer = open_clip.SimpleTokenizer(context_length=24)
    mean, std = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
    return Backbone(clip, tokenizer, "tiny", "", SIZE, mean, std)


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


@pytest.mark.parametrize("method", ["ez_clip", "vita_clip"])
def test_gradients_reach_everything_that_is_trained(method: str) -> None:
    model = build(method).train()
    _, features = model.encode_video(video())
    text = model.encode_classes(NAMES, PromptSet(("{}",))).mean(1)
    (features @ text.T * model.logit_scale).square().sum().backward()
    # W2 = 0 at the start keeps the gradient from W1 alone
    silent = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert silent == []
    frozen = [n for n, p in model.named_parameters() if not p.requires_grad and p.grad is not None]
    assert frozen == []


def test_unknown_method_and_option_are_sentences() -> None:
    with pytest.raises(UserError, match="choose one of frozen_clip, ez_clip, vita_clip"):
        create_model("ezclip", backbone(), num_frames=4)
    with pytest.raises(UserError, match="ez_clip does not take"):
        create_model("ez_clip", backbone(), num_frames=4, depth=3)


def test_class_names_are_cleaned() -> None:
    assert clean_class_name("HandstandPushups") == "handstand pushups"
    assert clean_class_name("StarTurningClockwise") == "star turning clockwise"
    assert clean_class_name("brush_hair") == "brush hair"
