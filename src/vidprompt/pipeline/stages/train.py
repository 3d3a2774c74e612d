"""Stage train: one method on one training list → a checkpoint, its loss curve and what was chosen."""

from __future__ import annotations

import csv
import io
import logging
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vidprompt.config import paths
from vidprompt.config.plugins import plugin_record, used_plugins
from vidprompt.config.schema import Config, ReidConfig
from vidprompt.data.splits.split_file import Split
from vidprompt.files.atomic import write_json, write_text
from vidprompt.files.hashes import digest, sha256
from vidprompt.metrics.unknown import UnknownThreshold
from vidprompt.models.backbones.loading import load_backbone
from vidprompt.models.checkpoint import CheckpointMetadata, save_checkpoint
from vidprompt.models.factory import METHODS, configured_model
from vidprompt.models.methods.video_clip import VideoCLIP
from vidprompt.models.text.prompts import prompt_set
from vidprompt.pipeline.feature_fit import check_fit, clear_features, fit_features
from vidprompt.pipeline.starting_point import StartingPoint
from vidprompt.pipeline.training_data import (
    TrainingLists,
    augments_on_device,
    batch_plan,
    batch_source,
    training_lists,
)
from vidprompt.pipeline.validation import (
    MeasuredList,
    build_validation,
    list_identity,
    tested_lists,
)
from vidprompt.pipeline.validator import Validator
from vidprompt.provenance.code import code_hash, code_version
from vidprompt.system.errors import UserError
from vidprompt.system.progress import Progress
from vidprompt.tracking.tracker import Tracker
from vidprompt.training.engine import TEST, TrainingLog, new_accelerator, train
from vidprompt.training.half_weights import FP16_WEIGHTS, half_parameters, round_to_half
from vidprompt.training.objectives import Objective, ReIdentification, create_objective
from vidprompt.training.processes import Processes
from vidprompt.training.settings import TrainerSettings
from vidprompt.training.snapshots import Snapshots

logger = logging.getLogger(__name__)

IMAGE_MODEL = "image_model"  # subfolder for the step log and snapshots of the image model
GROUPS = ("backbone", "frames", "method", "prompts", "seed", "trainer")  # that a run depends on
# keys of the trainer, on results; of what a training starts from, the content counts
WITHOUT_EFFECT = ("workers", "tensorboard", "tracker", "save_every", "start_from")


@dataclass
class _Trained:
    """A finished training."""

    objective: Objective
    log: TrainingLog
    settings: TrainerSettings
    fingerprint: dict[str, Any]
    snapshots: Snapshots
    start: StartingPoint | None
    unknown: UnknownThreshold | None  # from the held-out videos
    augmented_on: str  # "cpu", or the kind of device that augmented its clips


def run(config: Config) -> None:
    """Train `config.method` on the training list of `config.split`; a run that was stopped is resumed.

    With `protocol.image_model` an image model is trained first, in the same folder, and starts the model.
    """
    lists = training_lists(config)
    processes = Processes(new_accelerator(config.trainer.precision))
    folder = paths.training(config.dataset.name, config.method.name, config.split)
    image, of_image = None, image_model_config(config)
    if of_image is not None:
        image = _train(of_image, lists, folder / IMAGE_MODEL, images=True)
        image.objective.to("cpu")
    with _tracker(config, folder, processes) as tracker:
        trained = _train(config, lists, folder, start=image, tracker=tracker)
        if processes.is_main:
            tracker.add_files(_write(config, lists, trained, image))
            for finished in (trained, image):
                if finished:
                    finished.snapshots.clear()
            clear_features(folder)
    processes.barrier()


def _tracker(config: Config, folder: Path, processes: Processes) -> Tracker:
    """The run in the experiment tracker of `trainer.tracker`, in the first process."""
    name = config.trainer.tracker if processes.is_main else "none"
    dataset, split = config.dataset.name, config.split
    inputs = (paths.frames(dataset), paths.splits(dataset), paths.backbone(dataset))
    run = f"{dataset}/{config.method.name}/{split}"
    return Tracker(name, run, folder, config.values, inputs)


def image_model_config(config: Config) -> Config | None:
    """The configuration of the image model that `config` trains first; None: it trains none.

    It is the method with one frame, a random one of a video (`VideoCLIP.image_options`), without motion loss.
    The source is the baseline of "Colors See, Colors Ignore" (ICCV 2025).
    """
    protocol = config.protocol
    chosen = protocol.image_model if isinstance(protocol, ReidConfig) else None
    if chosen is None or chosen.length in (0, "0"):
        return None
    values = deepcopy(dict(config.values))
    values["method"]["num_frames"] = 1
    values["method"]["options"] = METHODS[config.method.name].image_options(config.method.options)
    values["protocol"] |= {"image_model": None, "motion_weight": 0.0}
    values["trainer"] |= {key: value for key, value in vars(chosen).items() if value is not None}
    values["trainer"] |= {"sampling": "segment", "stride": 1, "select": "last"}
    values["trainer"] |= {"best_on_test": False, "also_tested_on": []}
    return Config.of(values)


@torch.no_grad()
def start_from(objective: nn.Module, other: nn.Module) -> None:
    """Copy the values of the trained parameters that two objectives have in common, by name and shape."""
    values = {name: p for name, p in other.named_parameters() if p.requires_grad}
    for name, parameter in objective.named_parameters():
        value = values.get(name)
        if parameter.requires_grad and value is not None and value.shape == parameter.shape:
            parameter.copy_(value)


def _train(
    config: Config,
    lists: TrainingLists,
    folder: Path,
    *,
    images: bool = False,
    start: _Trained | None = None,
    tracker: Tracker | None = None,
) -> _Trained:
    """Train to the end, the image model (`images`) or the model itself, from the values of `start` if given.

    What was stopped is resumed from the snapshots in `folder`; those of a finished image model stay there.
    """
    accelerator = new_accelerator(config.trainer.precision)
    processes = Processes(accelerator)
    torch.manual_seed(config.seed)
    starting_point = StartingPoint.of(config.trainer.start_from)
    model = _model(config, lists, starting_point, quiet=not processes.is_main)
    if model.fits_features:
        check_fit(config, lists.split.protocol, model)
    what = f"{config.method.name}, image model" if images else config.method.name
    if processes.is_main:
        logger.info(_summary_line(what, lists, model, processes.world_size))
    objective = _objective(config, lists.split, model)
    if start is not None:
        start_from(objective, start.objective)
    by_steps = not model.fits_features or any(p.requires_grad for p in objective.parameters())
    settings, plan = batch_plan(config, lists, by_steps=by_steps)
    tested = tested_lists(config, lists)
    fingerprint = _fingerprint(config, lists, tested, model.backbone.identity())
    if starting_point is not None:
        fingerprint["start"] = starting_point.sha256
    if model.fits_features:
        fingerprint["views"] = config.values["views"]
    processes.assert_equal_across_ranks(fingerprint, "data and settings")
    snapshots = Snapshots(folder, fingerprint, logger.info)
    if model.fits_features:
        fit_features(config, lists, model, folder, processes, fingerprint)
    validation = None if images else build_validation(config, lists, tested, model, processes)
    title, quiet = f"train {what} {config.split}", not processes.is_main
    log = TrainingLog([], [], kept_step=0, skipped=[], done=0)
    if by_steps:
        with Progress(title, settings.steps, unit="steps", quiet=quiet) as progress:
            log = train(
                objective,
                batch_source(config, lists, model, plan, processes),
                settings,
                accelerator=accelerator,
                snapshots=snapshots,
                log_folder=folder,
                progress=progress,
                validation=validation,
                keep_last=images,
                track=tracker.log if tracker else None,
            )
    held_out, unknown = validation.held_out if validation else None, None
    if isinstance(held_out, Validator):
        if (chosen := held_out.choose()) and processes.is_main:
            logger.info(chosen)
        unknown = held_out.unknown_threshold()
    on_device = augments_on_device(config.trainer, processes.device)
    augmented_on = processes.device.type if on_device else "cpu"
    return _Trained(
        objective, log, settings, fingerprint, snapshots, starting_point, unknown, augmented_on
    )


def _model(
    config: Config, lists: TrainingLists, starting_point: StartingPoint | None, *, quiet: bool
) -> VideoCLIP:
    """The method on its backbone, before training."""
    backbone = load_backbone(vars(config.backbone))
    start = starting_point.load(backbone) if starting_point else None
    if start is not None:
        backbone = start.backbone
        torch.manual_seed(config.seed)  # new parameters begin as without it
    if config.trainer.precision == FP16_WEIGHTS:
        backbone.identity()  # of the file's weights
        round_to_half(half_parameters(backbone.clip))
    model = configured_model(config, lists.train.classes, backbone)
    if start is not None:
        taken = start.apply(model)
        logger.log(logging.DEBUG if quiet else logging.INFO, taken)
    model.recompute = config.trainer.recompute
    if config.trainer.compile:
        model.compile()
    return model


def _summary_line(what: str, lists: TrainingLists, model: VideoCLIP, processes: int) -> str:
    """What is trained on what, in one line."""
    trained, of_backbone = trained_parameters(model), trained_parameters(model.clip)
    part = model.backbone_training.describe()
    backbone = f" ({of_backbone:,} of CLIP: {part})" if of_backbone else ""
    held = f", {len(lists.val.videos)} held out" if lists.val else ""
    shared = f", {processes} processes" if processes > 1 else ""
    return (
        f"{what} on {lists.split.id}: {trained:,} trainable parameters{backbone}, "
        f"{len(lists.train.videos)} of {lists.listed} videos usable{held}{shared}"
    )


def trained_parameters(module: nn.Module) -> int:
    """How many numbers of a module are trained."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def _objective(config: Config, split: Split, model: VideoCLIP) -> Objective:
    """The loss of the split's protocol: re-identification's, or the method's."""
    if split.train is None:
        raise UserError(f"{split.id} has no training list")
    if isinstance(config.protocol, ReidConfig):
        return ReIdentification(
            model,
            split.train.classes,
            context_length=config.protocol.context_length,
            margin=config.protocol.margin,
            triplet_weight=config.protocol.triplet_weight,
            head=config.protocol.head,
            triplet_normalised=config.protocol.triplet_normalised,
            motion_weight=config.protocol.motion_weight,
        )
    if config.method.objective is None:
        raise UserError(
            f"{config.method.name} has nothing to train: all others are compared with it; method=vifi_clip "
            "is the same model with a trained backbone"
        )
    prompts, options = prompt_set(vars(config.prompts)), dict(config.method.objective_options)
    return create_objective(config.method.objective, model, split.train.classes, prompts, options)


def _fingerprint(
    config: Config, lists: TrainingLists, tested: dict[str, MeasuredList], backbone: str
) -> dict[str, Any]:
    """All that the results of a run depend on: a snapshot is resumed only where it is equal."""
    whole = config.values
    fingerprint = {part: whole[part] for part in GROUPS}
    fingerprint["trainer"] = {
        k: v for k, v in fingerprint["trainer"].items() if k not in WITHOUT_EFFECT
    }
    fingerprint["mirror"] = config.dataset.mirror
    if lists.split.protocol == "reid":
        fingerprint["protocol"] = whole["protocol"]
    if lists.val is not None or tested:
        fingerprint["views"] = whole["views"]
    if tested:
        fingerprint["tested"] = {name: list_identity(one) for name, one in tested.items()}
    val = lists.val
    return fingerprint | {
        "videos": digest([lists.train.videos, lists.train.labels, lists.train.classes]),
        "held_out": digest([val.videos, val.labels, val.classes]) if val else "",
        "weights": backbone,
        "cached_frames": sha256(lists.cache.path / "index.arrow")[:12],
        "code": code_hash("train", used_plugins(config, "train")),
    }


def _write(
    config: Config, lists: TrainingLists, trained: _Trained, image: _Trained | None
) -> list[Path]:
    """Write the checkpoint, loss.csv and training.json; with an image model its image_loss.csv too.

    Returns the files that every run has.
    """
    dataset, method, name = config.dataset.name, config.method, config.split
    model, log = trained.objective.model, trained.log
    metadata = CheckpointMetadata(
        method=method.name,
        num_frames=method.num_frames,
        backbone=model.backbone.tag,
        backbone_checksum=model.backbone.identity(),
        class_names=lists.train.classes,
        options=model.options,
        config_hash=_config_hash(trained),
        version=code_version("train", used_plugins(config, "train")),
        image_model=_config_hash(image) if image else "",
        start_from=trained.start.record() if trained.start else {},
        backbone_spec=dict(model.backbone.spec),
        input=_input(config, lists.split),
        prompts=_prompts(config),
        trained_on={"dataset": dataset, "split": name, "protocol": lists.split.protocol},
        unknown=trained.unknown.to_dict() if trained.unknown else {},
        plugins=plugin_record(used_plugins(config)),
    )
    out = paths.checkpoint(dataset, method.name, name)
    save_checkpoint(out, model, metadata, getattr(torch, config.trainer.dtype))
    write_text(paths.training_log(dataset, method.name, name), _as_csv(log))
    summary = _summary(lists, trained) | {"image_model": None}
    image_log = paths.image_model_log(dataset, method.name, name)
    if image:
        summary["image_model"] = _summary(lists, image)
        write_text(image_log, _as_csv(image.log))
    else:
        image_log.unlink(missing_ok=True)
    write_json(paths.training_summary(dataset, method.name, name), summary)
    rate = log.done / log.seconds if log.seconds else 0.0
    chosen = "" if log.kept_step == trained.settings.steps else f", of step {log.kept_step}"
    logger.info(f"{rate:.2f} steps/s; checkpoint{chosen} {out.stat().st_size / 1e6:.2f} MB")
    written = (paths.training_log, paths.training_summary)
    return [out, *(path_of(dataset, method.name, name) for path_of in written)]


def _input(config: Config, split: Split) -> dict[str, Any]:
    """How a video becomes the model's clips in tests: the views, and how its frames are stored."""
    reid = split.protocol == "reid"
    source = config.dataset.roles.get("reid" if reid else "recognition")
    stored = vars(config.frames) | dict(config.frames.per_source.get(source or "", {}))
    frames = {key: stored[key] for key in ("short_side", "stretch", "format", "quality")}
    tracklet = config.protocol.tracklet if isinstance(config.protocol, ReidConfig) else None
    return {"views": dict(vars(config.views)), "frames": frames, "tracklet": tracklet}


def _prompts(config: Config) -> dict[str, Any]:
    """The texts of classes in tests: templates, or the descriptions' own."""
    chosen, prompts = config.prompts, prompt_set(vars(config.prompts))
    return {
        "templates": list(chosen.templates),
        "descriptions": {key: list(texts) for key, texts in (prompts.descriptions or {}).items()},
        "clean_names": chosen.clean_names,
        "ensemble": chosen.ensemble,
    }


def _config_hash(trained: _Trained) -> str:
    """Hash of what a training followed from, but for its code and how frames are stored."""
    left_out = ("code", "cached_frames")
    return digest({k: v for k, v in trained.fingerprint.items() if k not in left_out})


def _summary(lists: TrainingLists, trained: _Trained) -> dict[str, Any]:
    """training.json: what was trained, videos, steps, the last row of the log, how the step was chosen.

    With the precision of the computation, and on what clips were augmented: "cpu", or a kind of device.
    """
    log, settings, model = trained.log, trained.settings, trained.objective.model
    started = {"start_from": trained.start.record()} if trained.start else {}
    return started | {
        "trained_parameters": trained_parameters(model),
        "train_backbone": model.backbone_training.train_backbone,
        "videos": len(lists.train.videos),
        "listed": lists.listed,
        "held_out": len(lists.val.videos) if lists.val else 0,
        "steps": settings.steps,
        "epochs": round(settings.steps * settings.batch_size / len(lists.train.videos), 2),
        "last": log.rows[-1] if log.rows else None,
        "precision": settings.precision,
        "augmented_on": trained.augmented_on,
        "select": settings.select,
        "kept_step": log.kept_step,
        "skipped_steps": log.skipped,
        "looks": log.evaluations,
        "best_on_test": _best_on_test(log),
    }


def _best_on_test(log: TrainingLog) -> dict[str, dict[str, float]] | None:
    """Test list → its best step (the first of equal ones) and value there; None where none is measured.

    EZ-CLIP's code (`train.py`, `train_base_to_novel.py`) keeps such a checkpoint for each test list apart.
    """
    names = sorted({key for one in log.evaluations for key in one if key.startswith(TEST)})
    best = {name: max(log.evaluations, key=lambda one: one[name]) for name in names}
    chosen = {
        name.removeprefix(TEST): {"step": one["step"], "value": one[name]}
        for name, one in best.items()
    }
    return chosen or None


def _as_csv(log: TrainingLog) -> str:
    """loss.csv: step, loss, its terms, and the base learning rate."""
    text = io.StringIO()
    terms = sorted({name for row in log.rows for name in row} - {"step", "loss", "lr"})
    writer = csv.DictWriter(text, ["step", "loss", *terms, "lr"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(log.rows)
    return text.getvalue()
