"""Fit a method to the features of its training videos, seen as tests see them: without augmentation."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list

from vidprompt.config.schema import Config
from vidprompt.data.clips.testing import TestClips
from vidprompt.data.frames.sampling import Views
from vidprompt.files.hashes import digest
from vidprompt.inference.encoding import MIN_CLIPS_FOR_WORKERS, encode_blocks
from vidprompt.inference.feature_blocks import Block, BlockStore, plan_blocks
from vidprompt.models.methods.video_clip import VideoCLIP
from vidprompt.pipeline.training_data import TrainingLists
from vidprompt.system.errors import UserError
from vidprompt.system.progress import Progress
from vidprompt.training.processes import Processes

logger = logging.getLogger(__name__)

BLOCK = 256  # videos: what a killed run loses at most, and what processes share out
FOLDER = "fit"  # of the blocks, in that of an unfinished training
BATCH = {"cpu": 8, "cuda": 64}  # clips encoded at once (by each thread of a CPU)


def check_fit(config: Config, protocol: str, model: VideoCLIP) -> None:
    """Raise UserError for re-identification, which has no classes, and for `method.fitted=false`."""
    if not config.method.fitted:  # what depends on `views` is known by it
        raise UserError(f"method.fitted=false: {model.method} is fitted to features, so it is true")
    if protocol == "reid":
        raise UserError(f"{model.method} classifies videos: it has no re-identification")


def fit_features(
    config: Config,
    lists: TrainingLists,
    model: VideoCLIP,
    folder: Path,
    processes: Processes,
    fingerprint: Mapping[str, Any],
) -> None:
    """Encode the training list once and hand its features to `model.fit`, in every process.

    Processes share the videos; a run that was killed goes on after its last block in `folder`, if its
    `fingerprint` is the same. Of a video's views the mean is taken.
    """
    blocks = plan_blocks(lists.train.videos, [], BLOCK)
    store = BlockStore(folder / FOLDER, blocks, _identity(fingerprint, processes.device))
    pending: list[Any] = [None]
    if processes.is_main:
        numbers, message = store.prepare()
        if message:
            logger.info(message)
        pending = [numbers]
    if processes.world_size > 1:
        broadcast_object_list(pending)
    own = [blocks[number] for number in pending[0][processes.rank :: processes.world_size]]
    _encode(config, lists, model, store, own, processes)
    processes.barrier()
    features = [torch.from_numpy(store.read(block)).mean(1) for block in blocks]
    model.to(processes.device).fit(torch.cat(features), torch.tensor(lists.train.labels))
    processes.barrier()
    if processes.is_main:
        classes = len(set(lists.train.labels))
        logger.info(f"fitted to {len(lists.train.videos):,} videos of {classes} classes")


def clear_features(folder: Path) -> None:
    """Remove the features that were kept in a training's folder: it is finished."""
    shutil.rmtree(folder / FOLDER, ignore_errors=True)


def _identity(fingerprint: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    return {
        "training": digest(fingerprint),
        "sizes": [BLOCK, BATCH[device.type]],
        "device": device.type,
        "torch": torch.__version__,
    }


def _encode(
    config: Config,
    lists: TrainingLists,
    model: VideoCLIP,
    store: BlockStore,
    blocks: list[Block],
    processes: Processes,
) -> None:
    """Encode blocks of videos by views and keep their features."""
    if not blocks:
        return
    clips = TestClips(
        str(lists.cache.path),
        [video for block in blocks for video in block.videos],
        num_frames=model.num_frames,
        size=model.backbone.image_size,
        views=Views(**vars(config.views)),
    )
    title = f"fit {config.method.name} {config.split}"
    with Progress(title, len(clips), unit="clips", quiet=not processes.is_main) as progress:
        features = encode_blocks(
            model,
            clips,
            [len(block.videos) for block in blocks],
            batch_size=BATCH[processes.device.type],
            device=processes.device,
            progress=progress,
            workers=config.trainer.workers if len(clips) >= MIN_CLIPS_FOR_WORKERS else 0,
        )
        with closing(features):
            for block, encoded in zip(blocks, features, strict=True):
                store.write(block, encoded)
