"""Stage backbone: fetch the frozen weights and write down what they are."""

from __future__ import annotations

import logging

from vidprompt.config import paths
from vidprompt.config.plugins import used_plugins
from vidprompt.config.schema import Config
from vidprompt.files.atomic import write_json
from vidprompt.models.backbones.loading import load_backbone
from vidprompt.provenance.code import plugin_hash

logger = logging.getLogger(__name__)


def run(config: Config) -> None:
    """Load the dataset's backbone (a tag is downloaded once) and record its checksum, and its tokenizer's."""
    backbone = load_backbone(vars(config.backbone))
    found = {"name": backbone.tag, "sha256": backbone.identity()}
    if tokenizer := backbone.spec.get("tokenizer_digest"):
        found["tokenizer"] = tokenizer
    if used := used_plugins(config, "backbone"):  # trainings and features depend on this file
        found |= {one.origin: plugin_hash(one) for one in used}
    write_json(paths.backbone(config.dataset.name), found)
    logger.info(f"{backbone.tag}: {found['sha256'][:16]}…")
