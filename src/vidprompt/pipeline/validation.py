"""What a training measures while it runs: held-out videos, and test lists for comparison with papers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from vidprompt.config import paths
from vidprompt.config.compose import compose
from vidprompt.config.schema import Config, PromptsConfig
from vidprompt.data.clips.testing import TestClips
from vidprompt.data.frames.cache import FrameCache
from vidprompt.data.frames.sampling import Views
from vidprompt.data.splits.split_file import Subset, read_split
from vidprompt.files.hashes import digest, sha256
from vidprompt.models.methods.video_clip import VideoCLIP
from vidprompt.models.text.prompts import prompt_set
from vidprompt.pipeline.training_data import TrainingLists, usable
from vidprompt.pipeline.validator import Validator
from vidprompt.system.errors import UserError
from vidprompt.training.engine import Validation
from vidprompt.training.processes import Processes


@dataclass(frozen=True)
class MeasuredList:
    """Videos that a training is measured on, where their frames are, and the texts of their classes."""

    videos: Subset  # usable ones
    cache: FrameCache
    prompts: PromptsConfig
    retrieval: bool  # of persons, instead of classification


def tested_lists(config: Config, lists: TrainingLists) -> dict[str, MeasuredList]:
    """Name → test list of `trainer.best_on_test`: of the split itself, then of `also_tested_on`.

    Names are those of the split's tests ("base", "novel", "test"), with `DATASET/SPLIT/` before them for
    other datasets. Raises UserError for a list without a usable video.
    """
    trainer, reid = config.trainer, lists.split.protocol == "reid"
    if not trainer.best_on_test:
        if trainer.also_tested_on:
            raise UserError("trainer.also_tested_on needs trainer.best_on_test=true")
        return {}
    tests = lists.split.tests
    if reid:  # query and gallery have the same people
        parts = list(tests.values())
        videos = [video for part in parts for video in part.videos]
        labels = [label for part in parts for label in part.labels]
        tests = {"reid": Subset(parts[0].classes, videos, labels)}
    tested = {
        name: MeasuredList(usable(test, lists.cache), lists.cache, config.prompts, reid)
        for name, test in tests.items()
    }
    for where in trainer.also_tested_on:
        tested |= dict(_other_dataset(config, where))
    if empty := [name for name, one in tested.items() if not one.videos.videos]:
        raise UserError(f"no video of the test list {empty[0]} is in the frame cache: run `frames`")
    return tested


def _other_dataset(config: Config, where: str) -> Iterator[tuple[str, MeasuredList]]:
    """The test lists of `DATASET/SPLIT`, with the texts that the method's tests have there."""
    dataset, slash, name = where.partition("/")
    if not slash:
        raise UserError(f"trainer.also_tested_on={where}: write DATASET/SPLIT, a split file's name")
    there = compose([f"dataset={dataset}", f"method={config.method.name}"])
    split = read_split(paths.splits(dataset) / f"{name}.json")
    cache = FrameCache(paths.frames(dataset))
    for test, subset in split.tests.items():
        yield f"{where}/{test}", MeasuredList(usable(subset, cache), cache, there.prompts, False)


def list_identity(measured: MeasuredList) -> dict[str, Any]:
    """What the measures on a list depend on beside the model: its videos, frames and texts."""
    videos, texts = measured.videos, prompt_set(vars(measured.prompts))
    return {
        "videos": digest([videos.videos, videos.labels, videos.classes]),
        "frames": sha256(measured.cache.path / "index.arrow")[:12],
        "texts": "" if measured.retrieval else digest(texts.texts(videos.classes)),
    }


def build_validation(
    config: Config,
    lists: TrainingLists,
    tested: dict[str, MeasuredList],
    model: VideoCLIP,
    processes: Processes,
) -> Validation | None:
    """The validators of a training: of the held-out videos and of the `tested` lists; None without both."""

    def validator(measured: MeasuredList) -> Validator:
        def clips(videos: Sequence[str]) -> TestClips:
            return TestClips(
                measured.cache.path,
                videos,
                num_frames=model.num_frames,
                size=model.backbone.image_size,
                views=Views(**vars(config.views)),
            )

        videos = measured.videos
        return Validator(
            model,
            clips,
            videos.videos,
            videos.labels,
            classes=None if measured.retrieval else videos.classes,
            prompts=prompt_set(vars(measured.prompts)),
            ensemble=measured.prompts.ensemble,
            workers=config.trainer.workers,
            rank=processes.rank,
            count=processes.world_size,
        )

    if lists.val is None and not tested:
        return None
    held_out = None
    if lists.val is not None:
        reid = lists.split.protocol == "reid"
        held_out = validator(MeasuredList(lists.val, lists.cache, config.prompts, reid))
    return Validation(held_out, {name: validator(one) for name, one in tested.items()})
