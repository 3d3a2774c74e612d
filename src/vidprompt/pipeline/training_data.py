"""The videos of a training run: its usable lists, the batches of its steps, and their clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from vidprompt.config import paths
from vidprompt.config.schema import Config, ReidConfig, TrainerConfig
from vidprompt.data.clips.augmentation import Augmentation
from vidprompt.data.clips.batch_plan import BatchPlan, PersonBatches, ShuffledBatches, SlicedBatches
from vidprompt.data.clips.training import TrainingClips, batches
from vidprompt.data.frames.cache import FrameCache
from vidprompt.data.splits.split_file import Split, Subset, read_split
from vidprompt.models.methods.video_clip import VideoCLIP
from vidprompt.system.errors import DataError, UserError
from vidprompt.training.engine import BatchSource
from vidprompt.training.processes import Processes
from vidprompt.training.settings import TrainerSettings, trainer_settings


@dataclass(frozen=True)
class TrainingLists:
    """A split, and its lists without the videos that are not in the frame cache."""

    split: Split
    train: Subset
    listed: int  # videos of the training list, usable or not
    val: Subset | None  # videos that are held out; None: there are none
    cache: FrameCache


def training_lists(config: Config) -> TrainingLists:
    """The lists of `config.split`.

    Raises UserError where the split, the method or the protocol does not fit the others, DataError where no
    training video is cached.
    """
    dataset, method = config.dataset.name, config.method
    split = read_split(paths.splits(dataset) / f"{config.split}.json")
    if split.train is None:
        raise UserError(f"split {config.split} is for testing: train on {split.run}")
    if method.objective is None:
        raise UserError(f"{method.name} has nothing to train")
    if config.protocol.name != split.protocol:
        raise UserError(
            f"split {config.split} is of protocol {split.protocol}: leave out "
            f"protocol={config.protocol.name}, or set it to that"
        )
    cache = FrameCache(paths.frames(dataset))
    train, val = (usable(part, cache) if part else None for part in (split.train, split.val))
    if train is None or not train.videos:
        raise DataError(f"no training video of {config.split} is in the frame cache {cache.path}")
    return TrainingLists(
        split, train, len(split.train.videos), val if val and val.videos else None, cache
    )


def usable(listed: Subset, cache: FrameCache) -> Subset:
    """The videos of a list that are in the frame cache."""
    return listed.keep({video for video in listed.videos if video in cache})


def batch_plan(
    config: Config, lists: TrainingLists, *, by_steps: bool = True
) -> tuple[TrainerSettings, BatchPlan]:
    """The numbers of the run, and the videos of each batch; without `by_steps` there is none."""
    trainer, videos, count = config.trainer, lists.train, len(lists.train.videos)
    if isinstance(config.protocol, ReidConfig):
        people, tracklets = config.protocol.people_per_batch, config.protocol.tracklets_per_person
        size = min(people, len(set(videos.labels))) * tracklets
        settings = trainer_settings(trainer, videos=count, batch_size=size, seed=config.seed)
        return settings, PersonBatches(
            videos.labels, people, tracklets, settings.steps, config.seed
        )
    size = min(trainer.batch_size, count)
    settings = trainer_settings(
        trainer, videos=count, batch_size=size, seed=config.seed, by_steps=by_steps
    )
    cache, streaming = lists.cache, trainer.order == "streaming"
    shards = cache.shards(cache.rows(videos.videos)) if streaming else None
    return settings, ShuffledBatches(count, size, settings.steps, config.seed, shards=shards)


def augments_on_device(trainer: TrainerConfig, device: torch.device) -> bool:
    """True if batches are augmented on the device of the training, False in its loading processes."""
    return trainer.augment_on == "device" or (
        trainer.augment_on == "auto" and device.type == "cuda"
    )


def batch_source(
    config: Config, lists: TrainingLists, model: VideoCLIP, plan: BatchPlan, processes: Processes
) -> BatchSource:
    """This process's part of every batch, as augmented clips."""
    trainer, videos = config.trainer, lists.train
    augmentation = dict(vars(trainer.augmentation))
    augmentation["flip"] = augmentation["flip"] and config.dataset.mirror
    clips = TrainingClips(
        str(lists.cache.path),
        videos.videos,
        videos.labels,
        num_frames=model.num_frames,
        size=model.backbone.image_size,
        seed=config.seed,
        augmentation=Augmentation(**augmentation),
        sampling=trainer.sampling,
        stride=trainer.stride,
        indices=trainer.indices,
        drawn=augments_on_device(trainer, processes.device),
    )
    share = processes.local_slice(len(plan.batch(0)))

    def names(step: int) -> Sequence[str]:
        return [videos.videos[index] for _, index in plan.batch(step)]

    return BatchSource(
        lambda start: batches(
            clips, SlicedBatches(plan, share, start), trainer.workers, processes.device
        ),
        names,
    )
