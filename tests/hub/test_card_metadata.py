"""What a card's metadata say of the backbone and of where the numbers are from."""

from __future__ import annotations

import pytest

from vidprompt.hub.metadata import base_model, metric_names, public_page


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"name": "hf-hub:timm/ViT-B-16-SigLIP"}, "timm/ViT-B-16-SigLIP"),
        (
            {"name": "ViT-B-16-quickgelu", "pretrained": "openai"},
            "timm/vit_base_patch16_clip_224.openai",
        ),
        ({"name": "local-dir:clip"}, ""),
        ({"name": "demo_clip", "pretrained": None}, ""),
    ],
)
def test_the_base_model_is_the_backbone_s_repository(
    spec: dict[str, str | None], expected: str
) -> None:
    assert base_model(spec) == expected


@pytest.mark.parametrize(
    ("url", "page"),
    [
        ("https://me:secret@github.com/me/project.git", "https://github.com/me/project"),
        ("git@github.com:me/project.git", "https://github.com/me/project"),
        ("ssh://git@host:22/me/project", "https://host/me/project"),
        ("/home/me/project", ""),
        ("file:///home/me/project", ""),
        ("http://10.0.0.1/project", ""),
    ],
)
def test_a_remote_s_page_has_no_password_and_is_none_of_this_machine(url: str, page: str) -> None:
    assert public_page(url) == page


def test_measures_have_names_of_the_hub() -> None:
    assert metric_names("top1") == ("accuracy", "Top-1 accuracy")
    assert metric_names("within/pair") == ("accuracy", "Top-1 accuracy within pair")
    assert metric_names("mAP")[0] == "mAP"
