"""Say of a split, before anything is trained on it, which of its lists are too small to be of use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import pandas as pd

from vidprompt.data.manifest.health import Health
from vidprompt.data.splits.split_file import Split, Subset
from vidprompt.system.errors import DataError
from vidprompt.system.suggestions import first_names

USABLE = (Health.OK, Health.UNOPENED)
NAMED = 5


def check_lists(split: Split) -> None:
    """Raise DataError where a split's training list, or one of its tests, is empty."""
    for part, listed in split.lists():
        if not listed.videos:
            raise DataError(
                f"{split.id} ({part}): it has no {_noun(part)} video: each class needs two videos, or "
                "groups, for a drawn test set, or roles (folders train/ and test/, or lists): "
                "docs/datasets/own-videos.md"
            )


def list_notes(split: Split, health: Mapping[str, str]) -> Iterator[str]:
    """Sentences on lists of which nothing is usable, and on those whose results say little.

    `health`: video id → `Health`, of the manifest.
    """
    for part, listed in split.lists():
        if part == "val":
            continue
        if not any(health.get(video) in USABLE for video in listed.videos):
            reasons = Counter(health.get(video, "not in the manifest") for video in listed.videos)
            counts = ", ".join(f"{reason} {count:,}" for reason, count in sorted(reasons.items()))
            yield (
                f"{split.id} ({part}): none of its {len(listed.videos):,} {_noun(part)} videos is usable "
                f"({counts}){_advice(set(reasons))}"
            )
        if split.protocol != "reid" and len(set(listed.labels)) == 1:
            result = "there is nothing to tell apart" if part == "train" else "top-1 is always 1"
            yield f"{split.id} ({part}): all videos are of one class, so {result}"
        if part != "train" and (untested := _absent(listed)):
            yield (
                f"{split.id} ({part}): {len(untested)} of {len(listed.classes)} classes have no video to "
                f"test: {first_names(untested, NAMED)}"
            )


def _noun(part: str) -> str:
    return "test" if part.startswith("tests.") else "training"


def _advice(reasons: set[str]) -> str:
    if reasons == {Health.TOO_FEW_FRAMES.value}:
        return ": every video is shorter than dataset.min_frames, the frames that a clip needs"
    return ": the column `detail` of the manifest says why"


def batch_note(splits: Iterable[Split], batch_size: object) -> str:
    """A sentence where a batch is more than the training lists of some splits; "" elsewhere, and where
    `batch_size` is no number because the recipe leaves it open."""
    if not isinstance(batch_size, int):
        return ""
    counts = [
        (len(split.train.videos), split.id)
        for split in splits
        if split.train and split.protocol != "reid" and len(split.train.videos) < batch_size
    ]
    if not counts:
        return ""
    fewest, name = min(counts)
    where = name if len(counts) == 1 else f"{len(counts)} splits, the fewest of {name}"
    return (
        f"trainer.batch_size={batch_size} is more than the training videos of {where} ({fewest:,}): a batch "
        "there is all of them"
    )


def frames_note(manifest: pd.DataFrame, num_frames: int) -> str:
    """A sentence where no usable video has the frames of a clip; "" elsewhere, and where none was opened."""
    longest = max(manifest.loc[manifest["health"] == Health.OK, "n_frames"], default=0)
    if not 0 < longest < num_frames:
        return ""
    return (
        f"method.num_frames={num_frames} is more than any video has (the longest: {longest}), so every clip "
        "repeats frames"
    )


def _absent(listed: Subset) -> list[str]:
    present = set(listed.labels)
    return [name for index, name in enumerate(listed.classes) if index not in present]
