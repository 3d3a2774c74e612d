"""Stage train: one method on one training list → a checkpoint and its loss curve."""

from __future__ import annotations

import csv
import io
from typing import Any

import torch
from accelerate import Accelerator

from vidprompt.atomic import write_text
from vidprompt.configuration import config_hash, plain
from vidprompt.data.batch_plan import BatchPlan, PersonBatches, ShuffledBatches
from vidprompt.data.frame_cache import FrameCache
from vidprompt.data.loading import Augmentation, Clips, batches
from vidprompt.data.splits import Split, Subset, read_split
from vidprompt.errors import UserError
from vidprompt.models.backbone import load_backbone
from vidprompt.models.factory import configured_model
from vidprompt.models.prompts import prompt_set
from vidprompt.models.video_clip import VideoCLIP
from vidprompt.progress import Progress
from vidprompt.stages import paths
from vidprompt.training.checkpoint import CheckpointMetadata, save_checkpoint
from vidprompt.training.engine import TrainerSettings, TrainingLog, train
from vidprompt.training.metadata import code_version
from vidprompt.training.objectives import Identity, Objective, create_objective

PARTS = ("backbone", "frames", "method", "prompts", "seed", "trainer")  # a run's configuration


def run(config: Any) -> None:
    """Train `config.method` on the training list of `config.split`."""
    dataset, method = config.dataset.name, config.method
    split = read_split(paths.splits(dataset) / f"{config.split}.json")
    if split.train is None:
        raise UserError(f"split {config.split} is for testing: train on {split.run}")
    if method.objective is None:
        raise UserError(f"{method.name} has nothing to train")
    if config.trainer.decode not in ("workers", "device"):
        raise UserError(f"trainer.decode={config.trainer.decode}: choose workers or device")
    torch.manual_seed(config.seed)
    cache = FrameCache(paths.frames(dataset))
    listed = split.train
    videos = listed.keep({video for video in listed.videos if video in cache})
    backbone = load_backbone(plain(config.backbone))
    model = configured_model(config, listed.classes, backbone)
    model.recompute = config.trainer.recompute
    if config.trainer.compile:
        model.compile()
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    print(
        f"{method.name} on {split.id}: {trained:,} trainable parameters, "
        f"{len(videos.videos)} of {len(listed.videos)} videos usable"
    )
    chosen = config.protocol if split.protocol == "reid" else config.trainer
    objective = _objective(config, split, model)
    settings, plan = _plan(config, split, videos, cache)
    clips = Clips(
        str(paths.frames(dataset)),
        videos.videos,
        videos.labels,
        num_frames=method.num_frames,
        size=backbone.image_size,
        seed=config.seed,
        augmentation=Augmentation(**plain(chosen.augmentation)),
        sampling=config.trainer.sampling,
        stride=config.trainer.stride,
        encoded=config.trainer.decode == "device",
    )
    title = f"train {method.name} {config.split}"
    with Progress(title, settings.steps, unit="steps") as progress:
        device = Accelerator().device if clips.encoded else None
        source = batches(clips, plan, settings.workers, device)
        log = train(objective, source, settings, progress)
    metadata = CheckpointMetadata(
        method=method.name,
        num_frames=method.num_frames,
        backbone=backbone.tag,
        backbone_checksum=backbone.identity(),
        class_names=listed.classes,
        options=model.options,
        config_hash=config_hash(
            config, *PARTS, *(["protocol"] if split.protocol == "reid" else [])
        ),
        version=code_version(),
    )
    out = paths.checkpoint(dataset, method.name, config.split)
    save_checkpoint(out, model, metadata, getattr(torch, config.trainer.dtype))
    write_text(paths.training_log(dataset, method.name, config.split), _as_csv(log))
    print(
        f"{settings.steps / log.seconds:.2f} steps/s; checkpoint {out.stat().st_size / 1e6:.2f} MB"
    )


def _objective(config: Any, split: Split, model: VideoCLIP) -> Objective:
    if split.train is None:
        raise UserError(f"{split.id} has no training list")
    prompts = prompt_set(plain(config.prompts))
    if split.protocol == "reid":
        return Identity(
            model,
            split.train.classes,
            context_length=config.protocol.context_length,
            margin=config.protocol.margin,
            triplet_weight=config.protocol.triplet_weight,
        )
    options = plain(config.method.objective_options)
    return create_objective(config.method.objective, model, split.train.classes, prompts, options)


def _plan(
    config: Any, split: Split, videos: Subset, cache: FrameCache
) -> tuple[TrainerSettings, BatchPlan]:
    trainer = plain(config.trainer)
    if not isinstance(trainer["steps"], dict):
        raise UserError(
            f"how long is {config.method.name} trained? write params/schedule/"
            f"{config.method.name}.yaml (lr, prompt_lr_scale, steps) as of another method"
        )
    steps = trainer["steps"][split.protocol]
    scale = config.protocol.lr_scale if split.protocol == "reid" else 1.0
    settings = TrainerSettings(
        steps=steps,
        lr=scale * trainer["lr"],
        prompt_lr_scale=trainer["prompt_lr_scale"][split.protocol],
        betas=tuple(trainer["betas"]),
        **{
            key: trainer[key]
            for key in (
                "batch_size", "weight_decay", "warmup", "clip_grad", "precision",
                "log_every", "workers",
            )
        },
    )  # fmt: skip
    if split.protocol == "reid":
        people, tracklets = config.protocol.people_per_batch, config.protocol.tracklets_per_person
        return settings, PersonBatches(videos.labels, people, tracklets, steps, config.seed)
    if trainer["order"] not in ("random", "streaming"):
        raise UserError(f"trainer.order={trainer['order']}: choose random or streaming")
    shards = cache.shards(cache.rows(videos.videos)) if trainer["order"] == "streaming" else None
    size = settings.batch_size
    return settings, ShuffledBatches(len(videos.videos), size, steps, config.seed, shards=shards)


def _as_csv(log: TrainingLog) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(log.rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(log.rows)
    return text.getvalue()
