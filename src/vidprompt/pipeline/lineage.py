"""What features were made with, written beside them: evaluation believes no others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vidprompt.config import paths
from vidprompt.config.names import FLOOR
from vidprompt.config.schema import Config
from vidprompt.data.splits.split_file import Split
from vidprompt.files.hashes import digest, sha256
from vidprompt.system.errors import DataError

LISTS = "lists"


def lineage(config: Config, run: str, splits: Mapping[str, Split]) -> dict[str, Any]:
    """Of a model trained on `run` (of the floor: nothing) and the tests of `splits`: what its features
    follow from. `prompts` without how they are ensembled, which is evaluation's."""
    method = config.method.name
    prompts = {k: v for k, v in config.values["prompts"].items() if k != "ensemble"}
    checkpoint = paths.checkpoint(config.dataset.name, method, run)
    return {
        "checkpoint": FLOOR if method == FLOOR else sha256(checkpoint),
        "prompts": prompts,
        "views": config.values["views"],
        LISTS: {
            f"{name}/{test}": digest([subset.classes, subset.videos])
            for name, split in splits.items()
            for test, subset in split.tests.items()
        },
    }


def check_lineage(stored: Mapping[str, Any], wanted: Mapping[str, Any], folder: object) -> None:
    """Raises DataError where stored features are of something else, naming it."""
    other = [key for key, value in wanted.items() if key != LISTS and stored.get(key) != value]
    lists = stored.get(LISTS, {})
    other += [f"list {test}" for test, value in wanted[LISTS].items() if lists.get(test) != value]
    if other:
        raise DataError(
            f"{folder} was made with another {', '.join(other[:3])}: run the features stage again"
        )
