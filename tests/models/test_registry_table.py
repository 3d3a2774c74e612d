"""Every model of open_clip's registry is taken or refused as the written table says."""

from pathlib import Path

import open_clip
import pytest
import torch
import yaml
from open_clip.factory import get_model_config
from tests.models.registry_table import reason

from vidprompt.models import create_model
from vidprompt.models.backbones.loading import load_backbone, unsupported_reason
from vidprompt.reproduce.backbones.catalogue import configured, figures, registered

PARAMS = Path(__file__).parents[2] / "params/backbone"
# one of each kind of answer; the others are slow tests
FAST = {"ViT-B-32", "PE-Core-T-16-384", "ViT-B-16-SigLIP2", "RN50", "convnext_tiny", "MobileCLIP-S1",
        "roberta-ViT-B-32", "coca_ViT-B-32"}  # fmt: skip
NAMES = [
    pytest.param(name, marks=[] if name in FAST else [pytest.mark.slow])
    for name in sorted(registered())
]


def test_the_table_has_every_model() -> None:
    assert set(registered()) == set(open_clip.list_models())


@pytest.mark.parametrize("name", NAMES)
def test_a_model_is_taken_or_refused_as_written(name: str) -> None:
    assert reason(name) == registered()[name]


@pytest.mark.parametrize("name", [name for name in NAMES if not registered()[str(name.values[0])]])
def test_a_taken_model_is_built_upon_with_the_parameters_that_its_shape_says(name: str) -> None:
    with torch.device("meta"):
        model = create_model("ez_clip", load_backbone(name), num_frames=8)
    layers, width = len(model.vision_blocks), model.width
    towers = ((layers, width), (len(model.text_blocks), model.text_width))
    adapters = sum(n * (2 * w * round(w / 4) + round(w / 4) + w) for n, w in towers)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trained == layers * 8 * width + adapters
    for known in figures().values():
        if known.model == name:
            scales = ("clip.logit_scale", "clip.logit_bias")
            every = sum(p.numel() for n, p in model.named_parameters() if n not in scales) - trained
            assert abs(every / 1e6 - float(known.parameters)) < 1
            assert model.backbone.image_size == int(known.pixels)


@pytest.mark.parametrize("path", sorted(PARAMS.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_backbone_of_params_is_a_registered_model_with_this_tag(path: Path) -> None:
    spec = yaml.safe_load(path.read_text("utf-8"))
    if spec["config"]:
        return  # of the demo
    assert registered()[spec["name"]] == ""
    assert spec["pretrained"] in open_clip.list_pretrained_tags_by_model(spec["name"])
    tag = open_clip.get_pretrained_cfg(spec["name"], spec["pretrained"])
    config = get_model_config(spec["name"])
    assert config is not None
    chosen = config.get("quick_gelu") if spec["quick_gelu"] is None else spec["quick_gelu"]
    assert bool(tag.get("quick_gelu")) == bool(chosen)
    assert ("tokenizer" in spec) == ("hf_tokenizer_name" in config["text_cfg"])


def test_figures_are_of_registered_weights_and_have_a_source() -> None:
    for (name, tag), known in figures().items():
        assert tag in open_clip.list_pretrained_tags_by_model(name)
        assert known.licence
        assert known.source or not (known.imagenet or known.kinetics400)
    listed = configured(PARAMS)
    assert {one.file for one in listed} >= {"vit_b_16", "pe_core_b_16", "siglip2_b_16"}
    assert all(one.figures for one in listed)


def test_what_is_more_than_two_towers_is_refused_for_what_it_has_or_lacks() -> None:
    known = get_model_config("ViT-B-32")
    assert known is not None
    generative = {"embed_dim": 64, "vision_cfg": {}, "text_decoder_cfg": {}}
    for config, message in (
        (generative, "has no text_cfg: it is no CLIP"),
        (known | {"decoder_cfg": {}}, "has decoder_cfg: it is more than"),
        (known | {"vision_cfg": {"naflex": True}}, "has naflex, which this version of open_clip"),
    ):
        assert message in unsupported_reason(config)
