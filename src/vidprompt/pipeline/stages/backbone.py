"""Stage backbone: fetch the frozen weights and write down what they are."""

from __future__ import annotations

from typing import Any

from vidprompt.config import paths
from vidprompt.config.compose import plain
from vidprompt.files.atomic import write_json
from vidprompt.models.backbones.loading import load_backbone


def run(config: Any) -> None:
    """Load the dataset's backbone (a tag is downloaded once) and record its checksum."""
    backbone = load_backbone(plain(config.backbone))
    about = {"name": backbone.tag, "sha256": backbone.identity()}
    write_json(paths.backbone(config.dataset.name), about)
    print(f"{backbone.tag}: {about['sha256'][:16]}…")
