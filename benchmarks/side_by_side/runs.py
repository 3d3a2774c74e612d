"""One run of the benchmark, in a process of its own: a published or our training, or both without chance."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from benchmarks.side_by_side.published_ez_clip import PublishedEZCLIP, seed_all
from benchmarks.side_by_side.published_vita_clip import PublishedVitaCLIP
from benchmarks.side_by_side.setting import (
    SETTINGS,
    SPLIT,
    Demo,
    Setting,
    dimensions,
    our_model,
    our_tokens,
    published_values,
)
from benchmarks.training_runs import trained

from vidprompt.config import paths
from vidprompt.config.compose import compose
from vidprompt.config.schema import Config
from vidprompt.data.clips.batch_plan import ShuffledBatches
from vidprompt.data.clips.reading import normalise
from vidprompt.models.methods.video_clip import VideoCLIP
from vidprompt.models.text.prompts import PromptSet, prompt_set
from vidprompt.pipeline.sandbox import make_sandbox
from vidprompt.pipeline.stages import evaluate, features, train
from vidprompt.system.errors import UserError
from vidprompt.training.engine import BatchSource
from vidprompt.training.half_weights import FP16_WEIGHTS, half_parameters, round_to_half
from vidprompt.training.objectives import Objective, create_objective
from vidprompt.training.settings import trainer_settings
from vidprompt.training.step import Batch

INPUTS = ("data", "cache/manifest", "cache/frames", "cache/splits", "cache/unpacked")
EPOCH, EPOCHS = 10, 5  # steps an epoch, epochs of a run without chance
WITHOUT_CHANCE = {  # switches off what ours draws in training; clips, texts and order are given to it
    "ez_clip": (
        "method.options.prompt_dropout=0",
        "method.options.stochastic_depth=0",
        "method.options.text_stochastic_depth=0",
    ),
    "vita_clip": (),
}
Result = dict[str, Any]


def published_run(method: str, seed: int, checkout: Path, setting: Setting) -> Result:
    """Their training and test."""
    demo = Demo.read(method)
    config = compose(setting.overrides(demo.videos, seed))
    model = our_model(config, demo)
    ours = our_tokens(model, prompt_set(vars(config.prompts)), demo.lists.train.classes)
    shape, values = dimensions(model.backbone), published_values(model)
    seed_all(seed)
    if method == "ez_clip":
        ez = PublishedEZCLIP(checkout, setting, demo, shape, chance=True)
        ez.load(values, trained=False)
        check_texts(demo, ours, ez.tokens())
        steps = ez.train(ez.loader(), ez.texts())
        predicted = ez.predict()
    else:
        vita = PublishedVitaCLIP(checkout, setting, demo, shape, values)
        check_texts(demo, ours, vita.tokens())
        steps = vita.train(vita.loader(), setting.steps(demo.videos))
        predicted = vita.predict()
    return _figures(steps, predicted, [label for _, _, label in demo.rows("test")], demo.classes)


def check_texts(demo: Demo, ours: torch.Tensor, published: torch.Tensor) -> None:
    """Raises UserError where the texts of both codes, token ids (C, P, CONTEXT), are not the same."""
    if ours.shape != published.shape:
        shapes = f"{tuple(ours.shape)}, {tuple(published.shape)}"
        raise UserError(f"classes, texts and tokens of ours and of the published code: {shapes}")
    if len(apart := (ours != published).nonzero()):
        row, text, _ = apart[0].tolist()
        raise UserError(
            f"text {text} of class {demo.lists.train.classes[row]!r}: ours has the tokens "
            f"{ours[row, text].tolist()}, the published code {published[row, text].tolist()}"
        )


def our_run(method: str, seed: int, folder: Path, setting: Setting) -> Result:
    """Our training and test, by the stages of the pipeline in a folder of their own."""
    demo = Demo.read(method)
    overrides = setting.overrides(demo.videos, seed)
    make_sandbox(folder, INPUTS)
    os.chdir(folder)
    config = compose(overrides)
    train.run(config)
    log = paths.training("demo", method, SPLIT) / "steps.jsonl"
    steps = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    features.run(config)
    evaluate.run(config)
    table = pd.read_parquet(paths.predictions("demo", method, "supervised"))
    number = {name: i for i, name in enumerate(demo.lists.train.classes)}
    predicted, labels = (table[name].map(number).tolist() for name in ("predicted", "label"))
    return _figures(steps, predicted, labels, demo.classes)


def _figures(
    steps: list[dict[str, float]], predicted: list[int], labels: list[int], classes: list[str]
) -> Result:
    """Losses and rates by step, hits by test video, milliseconds a step and the process's memory.

    `object`: the share of videos whose predicted class has the true one's first word, what is shown moving.
    """
    objects = np.array([name.split()[0] for name in classes])
    right = [int(a == b) for a, b in zip(predicted, labels, strict=True)]
    return {
        "loss": [round(one["loss"], 6) for one in steps],
        "lr": [round(one["lr"], 9) for one in steps],
        "right": right,
        "top1": float(np.mean(right)),
        "object": float(np.mean(objects[predicted] == objects[labels])),
        "step_ms": 1000 * float(np.median([one["step_s"] for one in steps])),
        "data_ms": 1000 * float(np.median([one["data_s"] for one in steps])),
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
    }


# -- without chance -------------------------------------------------------------------------------


def without_chance(method: str, checkout: Path) -> Result:
    """Losses of both codes from equal values, batches, texts and rates, all random parts off.

    For EZ-CLIP also with weights that are rounded to float16 after each step, as on a GPU.
    """
    result = _both_losses(method, checkout, half=False)
    if method == "ez_clip":
        result["float16 weights"] = _both_losses(method, checkout, half=True)
    return result


def _both_losses(method: str, checkout: Path, *, half: bool) -> Result:
    setting = replace(SETTINGS[method], epochs=EPOCHS, warmup=min(1, SETTINGS[method].warmup))
    demo = Demo.read(method)
    overrides = setting.overrides(EPOCH * setting.batch, 1)
    overrides += WITHOUT_CHANCE[method]
    if half:
        overrides.append(f"trainer.precision={FP16_WEIGHTS}")
    config = compose(overrides)
    torch.manual_seed(1)
    model = our_model(config, demo)
    if half:
        round_to_half(half_parameters(model))
    values, shape = published_values(model), dimensions(model.backbone)
    prompts = prompt_set(vars(config.prompts))
    if prompts.descriptions is None:  # one text is nothing to draw from
        prompts = replace(prompts, templates=prompts.templates[:1])
    tokens = our_tokens(model, prompts, demo.lists.train.classes)
    batches = _batches(demo, setting)
    ours = _our_losses(config, model, demo, setting, prompts, batches)
    mean, std = model.backbone.mean, model.backbone.std
    same = [(normalise(clips, mean, std, torch.device("cpu")), k) for clips, k in batches]
    if method == "ez_clip":
        ez = PublishedEZCLIP(checkout, setting, demo, shape, chance=False)
        ez.load(values, trained=True)
        check_texts(demo, tokens, ez.tokens(templates=1))
        by_epoch = _Epochs([(clips.flatten(1, 2), k) for clips, k in same])
        theirs = ez.train(by_epoch, ez.texts(templates=1), half=half)
    else:
        vita = PublishedVitaCLIP(checkout, setting, demo, shape, values)
        vita.load(values)
        check_texts(demo, tokens, vita.tokens())
        theirs = vita.train([(clips.transpose(1, 2), k) for clips, k in same], len(same))
    pairs = list(zip(ours, theirs, strict=True))
    return {
        "ours": [round(a["loss"], 6) for a, _ in pairs],
        "published": [round(b["loss"], 6) for _, b in pairs],
        "lr": [round(b["lr"], 9) for _, b in pairs],
        "largest difference of a loss": max(abs(a["loss"] - b["loss"]) for a, b in pairs),
        "largest difference of a rate": max(abs(a["lr"] - b["lr"]) for a, b in pairs),
    }


class _Epochs:
    """A loader that goes through its batches once, so many an epoch."""

    def __init__(self, batches: list[Batch]) -> None:
        self.batches, self.begun = batches, 0

    def __len__(self) -> int:
        return EPOCH

    def __iter__(self) -> Iterator[Batch]:
        first = self.begun * EPOCH
        self.begun += 1
        return iter(self.batches[first : first + EPOCH])


def _batches(demo: Demo, setting: Setting) -> list[Batch]:
    """Batches of centre clips in our order, uint8 (B, T, 3, S, S) and labels (B,)."""
    clips, labels = demo.centre_clips(), torch.tensor(demo.lists.train.labels)
    plan = ShuffledBatches(len(labels), setting.batch, EPOCH * EPOCHS, 1)
    rows = [[row for _, row in plan.batch(step)] for step in range(EPOCH * EPOCHS)]
    return [(clips[one], labels[one]) for one in rows]


def _our_losses(
    config: Config,
    model: Any,
    demo: Demo,
    setting: Setting,
    prompts: PromptSet,
    batches: list[Batch],
) -> list[dict[str, float]]:
    """Our engine on these batches. Raises UserError where something is still drawn at random."""
    options = dict(config.method.objective_options)
    names = demo.lists.train.classes
    assert config.method.objective is not None
    objective = create_objective(config.method.objective, model, names, prompts, options)
    _check_without_chance(objective, model, batches[0])
    videos = EPOCH * setting.batch
    settings = trainer_settings(config.trainer, videos=videos, batch_size=setting.batch, seed=1)
    source = BatchSource(
        lambda start: (batch for batch in batches[start:]), lambda step: [f"batch {step}"]
    )
    return trained(objective, source, settings)


@torch.no_grad()
def _check_without_chance(objective: Objective, model: VideoCLIP, batch: Batch) -> None:
    mean, std = model.backbone.mean, model.backbone.std
    clips = normalise(batch[0], mean, std, torch.device("cpu"))
    objective.train()
    first, second = (objective(clips, batch[1])["loss"].item() for _ in range(2))
    if first != second:
        raise UserError(
            f"the same batch has the losses {first} and {second}: ours draws something at random that "
            "WITHOUT_CHANCE does not switch off"
        )
