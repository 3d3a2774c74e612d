"""What stored features are made with: written beside them, and checked before evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vidprompt.config import paths
from vidprompt.config.schema import Config, MethodConfig
from vidprompt.data.splits.split_file import Split
from vidprompt.files.hashes import digest, sha256
from vidprompt.system.errors import DataError

LISTS = "lists"


def checkpoint_hash(dataset: str, method: MethodConfig, run: str) -> str:
    """The SHA-256 of the checkpoint's file; a method with nothing to train has its name."""
    return sha256(paths.checkpoint(dataset, method.name, run)) if method.trained else method.name


def lineage(config: Config, run: str, splits: Mapping[str, Split]) -> dict[str, Any]:
    """What the features of a model trained on `run`, for the tests of `splits`, are made with.

    The checkpoint (if anything is trained), views, test lists, and prompts except their ensemble, which is
    evaluation's.
    """
    prompts = {k: v for k, v in config.values["prompts"].items() if k != "ensemble"}
    return {
        "checkpoint": checkpoint_hash(config.dataset.name, config.method, run),
        "prompts": prompts,
        "views": config.values["views"],
        LISTS: {
            f"{name}/{test}": digest([subset.classes, subset.videos])
            for name, split in splits.items()
            for test, subset in split.tests.items()
        },
    }


def check_lineage(stored: Mapping[str, Any], wanted: Mapping[str, Any], folder: object) -> None:
    """Raises DataError where `stored`, read from `folder`, differs from `wanted`, with the differences."""
    differing = [key for key, value in wanted.items() if key != LISTS and stored.get(key) != value]
    lists = stored.get(LISTS, {})
    differing += [
        f"list {test}" for test, value in wanted[LISTS].items() if lists.get(test) != value
    ]
    if differing:
        raise DataError(
            f"{folder} was made with another {', '.join(differing[:3])}: run the features stage again"
        )
