"""Stage train: one method on one training list → a checkpoint, its loss curve and what was chosen."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch

from vidprompt.config import paths
from vidprompt.config.schema import Config, ReidConfig
from vidprompt.data.clips.augmentation import Augmentation
from vidprompt.data.clips.batch_plan import BatchPlan, PersonBatches, ShuffledBatches, SlicedBatches
from vidprompt.data.clips.testing import TestClips
from vidprompt.data.clips.training import TrainingClips, batches
from vidprompt.data.frames.cache import FrameCache
from vidprompt.data.frames.sampling import Views
from vidprompt.data.splits.split_file import Split, Subset, read_split
from vidprompt.files.atomic import write_json, write_text
from vidprompt.files.hashes import digest, sha256
from vidprompt.metrics.scores import ensemble_mode
from vidprompt.models.backbones.loading import load_backbone
from vidprompt.models.checkpoint import CheckpointMetadata, save_checkpoint
from vidprompt.models.factory import configured_model
from vidprompt.models.methods.video_clip import VideoCLIP
from vidprompt.models.text.prompts import prompt_set
from vidprompt.pipeline.validator import Validator
from vidprompt.provenance.code import code_hash, code_version
from vidprompt.system.errors import DataError, UserError
from vidprompt.system.locks import exclusive_lock
from vidprompt.system.progress import Progress
from vidprompt.training.engine import BatchSource, TrainingLog, Validation, new_accelerator, train
from vidprompt.training.objectives import Objective, ReIdentification, create_objective
from vidprompt.training.processes import Processes
from vidprompt.training.settings import TrainerSettings, trainer_settings
from vidprompt.training.snapshots import Snapshots

logger = logging.getLogger(__name__)

PARTS = ("backbone", "frames", "method", "prompts", "seed", "trainer")  # a run's configuration
WITHOUT_EFFECT = ("workers", "tensorboard", "save_every")  # of the trainer's numbers, on results


def run(config: Config) -> None:
    """Train `config.method` on the training list of `config.split`, or resume it where it was stopped."""
    dataset, method, name = config.dataset.name, config.method, config.split
    lists = _lists(config)
    accelerator = new_accelerator(config.trainer.precision)
    processes = Processes(accelerator)
    torch.manual_seed(config.seed)
    backbone = load_backbone(vars(config.backbone))
    model = configured_model(config, lists.train.classes, backbone)
    model.recompute = config.trainer.recompute
    if config.trainer.compile:
        model.compile()
    if processes.is_main:
        logger.info(_opening(method.name, lists, model, processes.world_size))
    objective = _objective(config, lists.split, model)
    settings, plan = _plan(config, lists)
    fingerprint = _fingerprint(config, lists, backbone.identity())
    processes.assert_equal_across_ranks(fingerprint, "data and settings")
    folder = paths.training(dataset, method.name, name)
    snapshots = Snapshots(folder, fingerprint, logger.info)
    source = _source(config, lists, model, plan, processes)
    title = f"train {method.name} {name}"
    with ExitStack() as stack:
        if processes.is_main:
            stack.enter_context(exclusive_lock(folder))
        progress = stack.enter_context(
            Progress(title, settings.steps, unit="steps", quiet=not processes.is_main)
        )
        log = train(
            objective,
            source,
            settings,
            accelerator=accelerator,
            snapshots=snapshots,
            log_folder=folder,
            progress=progress,
            validation=_validation(config, lists, model, processes),
        )
        if processes.is_main:
            _write(config, lists, model, log, settings, fingerprint)
            snapshots.clear()
    processes.barrier()


@dataclass(frozen=True)
class _Lists:
    """The usable videos a run sees: to train on, to choose by (maybe), and the whole split."""

    split: Split
    train: Subset
    listed: int
    val: Subset | None
    cache: FrameCache


def _lists(config: Config) -> _Lists:
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
    train, val = (_usable(part, cache) if part else None for part in (split.train, split.val))
    if train is None or not train.videos:
        raise DataError(f"no training video of {config.split} is in the frame cache {cache.path}")
    return _Lists(split, train, len(split.train.videos), val if val and val.videos else None, cache)


def _usable(listed: Subset, cache: FrameCache) -> Subset:
    return listed.keep({video for video in listed.videos if video in cache})


def _opening(method: str, lists: _Lists, model: VideoCLIP, processes: int) -> str:
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    held = f", {len(lists.val.videos)} held out" if lists.val else ""
    shared = f", {processes} processes" if processes > 1 else ""
    return (
        f"{method} on {lists.split.id}: {trained:,} trainable parameters, "
        f"{len(lists.train.videos)} of {lists.listed} videos usable{held}{shared}"
    )


def _objective(config: Config, split: Split, model: VideoCLIP) -> Objective:
    if split.train is None:
        raise UserError(f"{split.id} has no training list")
    if isinstance(config.protocol, ReidConfig):
        return ReIdentification(
            model,
            split.train.classes,
            context_length=config.protocol.context_length,
            margin=config.protocol.margin,
            triplet_weight=config.protocol.triplet_weight,
        )
    if config.method.objective is None:
        raise UserError(f"{config.method.name} has nothing to train")
    prompts, options = prompt_set(vars(config.prompts)), dict(config.method.objective_options)
    return create_objective(config.method.objective, model, split.train.classes, prompts, options)


def _plan(config: Config, lists: _Lists) -> tuple[TrainerSettings, BatchPlan]:
    """The run's numbers, and which videos make each batch."""
    trainer, videos, count = config.trainer, lists.train, len(lists.train.videos)
    if isinstance(config.protocol, ReidConfig):
        people, tracklets = config.protocol.people_per_batch, config.protocol.tracklets_per_person
        size = min(people, len(set(videos.labels))) * tracklets
        settings = trainer_settings(trainer, videos=count, batch_size=size, seed=config.seed)
        return settings, PersonBatches(
            videos.labels, people, tracklets, settings.steps, config.seed
        )
    size = min(trainer.batch_size, count)
    settings = trainer_settings(trainer, videos=count, batch_size=size, seed=config.seed)
    cache, streaming = lists.cache, trainer.order == "streaming"
    shards = cache.shards(cache.rows(videos.videos)) if streaming else None
    return settings, ShuffledBatches(count, size, settings.steps, config.seed, shards=shards)


def _source(
    config: Config, lists: _Lists, model: VideoCLIP, plan: BatchPlan, processes: Processes
) -> BatchSource:
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
        encoded=trainer.decode == "device",
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


def _validation(
    config: Config, lists: _Lists, model: VideoCLIP, processes: Processes
) -> Validation | None:
    prompts, ensemble = prompt_set(vars(config.prompts)), ensemble_mode(config.prompts.ensemble)
    reid = lists.split.protocol == "reid"

    def clips(videos: Sequence[str]) -> TestClips:
        return TestClips(
            lists.cache.path,
            videos,
            num_frames=model.num_frames,
            size=model.backbone.image_size,
            views=Views(**vars(config.views)),
        )

    def validator(part: Subset) -> Validator:
        return Validator(
            model,
            clips,
            part.videos,
            part.labels,
            classes=None if reid else part.classes,
            prompts=prompts,
            ensemble=ensemble,
            rank=processes.rank,
            count=processes.world_size,
        )

    tests: list[Subset] = []
    if config.trainer.best_on_test:
        tests = [_usable(test, lists.cache) for test in lists.split.tests.values()]
        if reid:  # query and gallery have the same people
            videos = [video for test in tests for video in test.videos]
            labels = [label for test in tests for label in test.labels]
            tests = [Subset(tests[0].classes, videos, labels)]
    if lists.val is None and not tests:
        return None
    return Validation(
        validator(lists.val) if lists.val else None, [validator(t) for t in tests if t.videos]
    )


def _fingerprint(config: Config, lists: _Lists, backbone: str) -> dict[str, Any]:
    """What a run's numbers follow from: a snapshot or checkpoint of another is another."""
    whole = config.values
    fingerprint = {part: whole[part] for part in PARTS}
    fingerprint["trainer"] = {
        k: v for k, v in fingerprint["trainer"].items() if k not in WITHOUT_EFFECT
    }
    fingerprint["mirror"] = config.dataset.mirror
    if lists.split.protocol == "reid":
        fingerprint["protocol"] = whole["protocol"]
    if lists.val is not None or config.trainer.best_on_test:
        fingerprint["views"] = whole["views"]
    val = lists.val
    return fingerprint | {
        "videos": digest([lists.train.videos, lists.train.labels, lists.train.classes]),
        "held_out": digest([val.videos, val.labels, val.classes]) if val else "",
        "weights": backbone,
        "cached_frames": sha256(lists.cache.path / "index.arrow")[:12],
        "code": code_hash("train"),
    }


def _write(
    config: Config,
    lists: _Lists,
    model: VideoCLIP,
    log: TrainingLog,
    settings: TrainerSettings,
    fingerprint: dict[str, Any],
) -> None:
    dataset, method, name = config.dataset.name, config.method, config.split
    followed = {k: v for k, v in fingerprint.items() if k not in ("code", "cached_frames")}
    metadata = CheckpointMetadata(
        method=method.name,
        num_frames=method.num_frames,
        backbone=model.backbone.tag,
        backbone_checksum=model.backbone.identity(),
        class_names=lists.train.classes,
        options=model.options,
        config_hash=digest(followed),
        version=code_version(),
    )
    out = paths.checkpoint(dataset, method.name, name)
    save_checkpoint(out, model, metadata, getattr(torch, config.trainer.dtype))
    write_text(paths.training_log(dataset, method.name, name), _as_csv(log))
    write_json(paths.training_summary(dataset, method.name, name), _summary(lists, log, settings))
    rate = log.done / log.seconds if log.seconds else 0.0
    chosen = "" if log.kept_step == settings.steps else f", of step {log.kept_step}"
    logger.info(f"{rate:.2f} steps/s; checkpoint{chosen} {out.stat().st_size / 1e6:.2f} MB")


def _summary(lists: _Lists, log: TrainingLog, settings: TrainerSettings) -> dict[str, Any]:
    """What a reviewer asks of a run: how long, on what, how it ended, and how its step was chosen."""
    on_test = [one for one in log.evaluations if "test" in one]
    best = max(on_test, key=lambda one: one["test"], default=None)
    return {
        "videos": len(lists.train.videos),
        "listed": lists.listed,
        "held_out": len(lists.val.videos) if lists.val else 0,
        "steps": settings.steps,
        "epochs": round(settings.steps * settings.batch_size / len(lists.train.videos), 2),
        "last": log.rows[-1] if log.rows else None,
        "select": settings.select,
        "kept_step": log.kept_step,
        "skipped_steps": log.skipped,
        "looks": log.evaluations,
        "best_on_test": {"step": best["step"], "value": best["test"]} if best else None,
    }


def _as_csv(log: TrainingLog) -> str:
    text = io.StringIO()
    terms = sorted({name for row in log.rows for name in row} - {"step", "loss", "lr"})
    writer = csv.DictWriter(text, ["step", "loss", *terms, "lr"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(log.rows)
    return text.getvalue()
