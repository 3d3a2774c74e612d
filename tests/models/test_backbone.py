"""Backbones: what fits, where weights come from, and what is recorded of them."""

import json
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import save_file

import vidprompt.models.backbones.specification as module
from vidprompt.files.hashes import sha256
from vidprompt.models import create_model
from vidprompt.models.backbones.loading import load_backbone
from vidprompt.system.errors import UserError

NAME = "ViT-S-32-alt"  # the smallest of open_clip's ViTs


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(3)
    clip = open_clip.create_model(NAME)
    path = tmp_path_factory.mktemp("weights") / "clip.safetensors"
    save_file(clip.state_dict(), path)
    return path


@pytest.mark.parametrize("name", ["RN50", "convnext_base", "roberta-ViT-B-32"])
def test_an_unsupported_model_is_refused_before_it_is_built(name: str) -> None:
    with pytest.raises(UserError, match=f"backbone '{name}' does not fit: its"):
        create_model("ez_clip", name, num_frames=4)


def test_every_fitting_model_can_be_built_upon() -> None:
    with torch.device("meta"):
        for name in ("ViT-B-32", "ViT-L-14", "ViT-H-14-quickgelu", "ViT-M-16-alt"):
            model = create_model("ez_clip", name, num_frames=8)
            layers, width = len(model.vision_blocks), model.width
            trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
            towers = ((layers, width), (len(model.text_blocks), model.text_width))
            adapters = sum(n * (2 * w * (w // 4) + w // 4 + w) for n, w in towers)
            assert trained == layers * 8 * width + adapters


def test_local_weights_of_a_named_model_and_their_checksum(weights: Path) -> None:
    backbone = load_backbone({"name": NAME, "weights": weights})
    assert backbone.checksum == sha256(weights)
    images = torch.randn(2, 3, 224, 224)
    reference = open_clip.create_model(NAME, pretrained=str(weights)).eval()
    with torch.no_grad():
        found = (
            create_model("frozen_clip", backbone, num_frames=2).eval().encode_video(images[None])
        )
        assert torch.allclose(found[0][0], reference.encode_image(images), atol=1e-5)


def test_another_image_size_interpolates_positions_as_open_clip_does(weights: Path) -> None:
    backbone = load_backbone({"name": NAME, "weights": weights, "image_size": 160})
    reference = open_clip.create_model(NAME, pretrained=str(weights), force_image_size=160)
    assert backbone.image_size == 160
    assert backbone.tag == f"{NAME}@160"
    assert torch.equal(
        backbone.clip.visual.positional_embedding, reference.visual.positional_embedding
    )
    model = create_model("ez_clip", backbone, num_frames=2)
    with pytest.raises(UserError, match="frames are 224×224, and the backbone takes 160×160"):
        model.encode_video(torch.zeros(1, 2, 3, 224, 224))


def test_a_tag_brings_file_checksum_activation_and_pixel_statistics(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {"quick_gelu": True, "mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6), "url": "…"}
    monkeypatch.setattr(module, "get_pretrained_cfg", lambda name, tag: known)
    monkeypatch.setattr(module, "download_pretrained", lambda config: str(weights))
    with pytest.warns(UserWarning, match="were trained with QuickGELU"):
        backbone = load_backbone(f"{NAME}:some_tag")
    assert backbone.tag == f"{NAME}:some_tag"
    assert backbone.checksum == sha256(weights)
    assert (backbone.mean, backbone.std) == (known["mean"], known["std"])
    activation = backbone.clip.visual.transformer.resblocks[0].mlp.gelu
    assert type(activation).__name__ == "QuickGELU"


def test_unknown_tags_and_unreachable_hosts_are_sentences(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        UserError,
        match="ViT-B-32 has no weights 'opeanai': .* valid: openai, laion",
    ):
        load_backbone("ViT-B-32:opeanai")

    def unreachable(config: object) -> str:
        raise FileNotFoundError("Failed to download file")

    monkeypatch.setattr(module, "download_pretrained", unreachable)
    with pytest.raises(UserError, match="set backbone.weights to a local safetensors file"):
        load_backbone("ViT-B-32-quickgelu:openai")


def test_damaged_and_wrong_files_are_sentences(weights: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match="cut.safetensors does not fit ViT-S-32-alt"):
        load_backbone({"name": NAME, "weights": cut})
    config = tmp_path / "small.json"
    vision = {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16}
    text = {"context_length": 8, "width": 64, "heads": 1, "layers": 1}
    config.write_text(json.dumps({"embed_dim": 8, "vision_cfg": vision, "text_cfg": text}))
    with pytest.raises(UserError, match="does not fit small"):
        load_backbone({"name": "small", "config": config, "weights": weights})
    config.write_text("{}")
    with pytest.raises(UserError, match="is no open_clip model config"):
        load_backbone({"name": "small", "config": config})


def test_random_weights_have_an_identity_of_their_own() -> None:
    torch.manual_seed(0)
    first, second = load_backbone(NAME), load_backbone(NAME)
    assert first.identity() != second.identity()
    second.clip.load_state_dict(first.clip.state_dict())
    second.checksum = ""
    assert first.identity() == second.identity()


def test_models_on_one_backbone_do_not_touch_it() -> None:
    backbone = load_backbone(NAME)
    vita = create_model("vita_clip", backbone, num_frames=2, context="shared")
    create_model("ez_clip", backbone, num_frames=2)
    assert not any(p.requires_grad for p in backbone.clip.parameters())
    trained = {n for n, p in vita.named_parameters() if p.requires_grad}
    assert "log_scale" in trained
    assert not any(name.startswith("clip.") for name in trained)
