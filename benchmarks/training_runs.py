"""Trainings that benchmarks measure: the engine as the train stage calls it, on batches in memory."""

from __future__ import annotations

import csv
import json
import os
import pty
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

import torch
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from vidprompt.config.compose import compose
from vidprompt.config.schema import Config
from vidprompt.models.factory import configured_model
from vidprompt.models.text.prompts import prompt_set
from vidprompt.system.progress import Progress
from vidprompt.training.engine import BatchSource, new_accelerator, train
from vidprompt.training.objectives import Objective, create_objective
from vidprompt.training.processes import Processes
from vidprompt.training.settings import TrainerSettings, trainer_settings
from vidprompt.training.snapshots import Snapshots
from vidprompt.training.step import Batch

METHODS = ("ez_clip", "vita_clip")
Precision = Literal["no", "tf32", "bf16", "fp16", "fp16_weights"]
DIFFERENT = 4  # batches in memory, that a run goes through again and again
INSIDE = ("forward", "backward", "optimizer")


@dataclass(frozen=True)
class Setting:
    """A run: "demo" (its backbone and recipe) or "vit" (ViT-B/16 with random weights, as released)."""

    backbone: str = "demo"
    method: str = "ez_clip"
    batch: int = 24
    steps: int = 10
    classes: int = 48
    recompute: str = "nothing"
    micro_batches: int = 1
    save_every: int = 0  # steps; 0: the trainer's own
    precision: Precision = "no"

    def config(self) -> Config:
        """The composed configuration; the working directory is the project's root."""
        demo = [f"method={self.method}"]
        released = [f"experiment={self.method}_k400", "backbone.pretrained=null"]
        return compose(demo if self.backbone == "demo" else released)

    def settings(self, config: Config) -> TrainerSettings:
        """The recipe's numbers for so many steps of this batch."""
        trainer = replace(
            config.trainer,
            precision=self.precision,
            micro_batches=self.micro_batches,
            save_every=self.save_every or config.trainer.save_every,
        )
        videos = 100 * self.batch
        full = trainer_settings(trainer, videos=videos, batch_size=self.batch, seed=1)
        return replace(full, steps=self.steps)

    def objective(self, config: Config) -> Objective:
        """The model with its loss, from a fixed seed."""
        torch.manual_seed(0)
        names = class_names(self.classes) if self.backbone == "demo" else kinetics(self.classes)
        model = configured_model(config, names)
        model.recompute = self.recompute
        assert config.method.objective, "a method that is trained"
        options = dict(config.method.objective_options)
        prompts = prompt_set(vars(config.prompts))
        return create_objective(config.method.objective, model, names, prompts, options)


def class_names(count: int) -> list[str]:
    """Names of two and three words, as action classes have."""
    verbs = ("riding", "playing", "opening", "throwing", "washing", "juggling", "tying", "driving")
    things = ("bike", "violin", "a door", "the ball", "dishes", "clubs")
    pairs = [f"{verb} {thing}" for verb in verbs for thing in things]
    return [f"{pairs[i % len(pairs)]}{f' {i}' * (i >= len(pairs))}" for i in range(count)]


def kinetics(count: int) -> list[str]:
    """The first classes of Kinetics-400, which the released recipes have descriptions of."""
    path = Path("params/prompts/descriptions/kinetics400.csv")
    with path.open(encoding="utf-8", newline="") as file:
        return [row["class"] for row in csv.DictReader(file)][:count]


class Clock:
    """Seconds of each step from one asking for a batch to the next, and of what was timed meanwhile."""

    def __init__(self) -> None:
        self.began: list[float] = []
        self.spent: list[dict[str, float]] = []
        self._inside = False

    def next_step(self) -> None:
        self.began.append(time.perf_counter())
        self.spent.append(dict.fromkeys(INSIDE, 0.0))

    def add(self, name: str, seconds: float) -> None:
        self.spent[-1][name] += seconds

    def timed(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """`call`, its seconds counted; of calls within timed calls the outermost counts."""

        def timing(*args: Any, **kwargs: Any) -> Any:
            if self._inside:
                return call(*args, **kwargs)
            self._inside, began = True, time.perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                self._inside = False
                self.add(name, time.perf_counter() - began)

        return timing

    def steps(self) -> list[dict[str, float]]:
        """All steps but the last, whose end nobody saw: "whole" and what was timed."""
        ends = zip(self.began, self.began[1:], strict=False)
        return [
            {"whole": end - began} | spent
            for (began, end), spent in zip(ends, self.spent, strict=False)
        ]


@contextmanager
def timing(objective: Objective, clock: Clock) -> Iterator[None]:
    """Within, the clock hears of the model's forward and backward and of torch's own optimiser step.

    What accelerate adds around the last two is the engine's.
    """
    begun = [0.0]

    def before(*_: Any) -> None:
        begun[0] = time.perf_counter()

    def after(*_: Any) -> None:
        clock.add("optimizer", time.perf_counter() - begun[0])

    with ExitStack() as stack:
        for owner, name, kind in (
            (objective, "prepare", "forward"),
            (objective.model, "encode_video", "forward"),
            (objective, "loss_terms", "forward"),
            (torch.autograd, "backward", "backward"),  # which Tensor.backward calls
        ):
            wrapped = clock.timed(kind, getattr(owner, name))
            stack.enter_context(patch.object(owner, name, wrapped))
        stack.callback(register_optimizer_step_pre_hook(before).remove)
        stack.callback(register_optimizer_step_post_hook(after).remove)
        yield


@contextmanager
def terminal() -> Iterator[None]:
    """Within, stderr is a terminal, so that the live bar is drawn; what it shows is dropped."""
    master, slave = pty.openpty()

    def drop() -> None:
        with suppress(OSError):  # the other end is closed
            while os.read(master, 65536):
                pass

    reader = threading.Thread(target=drop, daemon=True)
    reader.start()
    with patch.dict(os.environ, {"TERM": "xterm-256color"}):
        with os.fdopen(slave, "w") as stream, redirect_stderr(stream):
            yield
        reader.join()
    os.close(master)


def in_memory(
    setting: Setting, settings: TrainerSettings, objective: Objective, first: int | None = None
) -> BatchSource:
    """A few different batches of noise, again and again; this process's share of each.

    `first`: so many clips of the first one, where that step only has to be over.
    """
    size, frames = objective.model.backbone.image_size, objective.model.num_frames
    generator = torch.Generator().manual_seed(0)
    share = Processes(new_accelerator(settings.precision)).local_slice(setting.batch)
    shape = (setting.batch, frames, 3, size, size)
    made: list[Batch] = []
    for _ in range(min(DIFFERENT, settings.steps)):
        clips = torch.randint(256, shape, generator=generator, dtype=torch.uint8)
        labels = torch.randint(setting.classes, (setting.batch,), generator=generator)
        made.append((clips[share].clone(), labels[share].clone()))

    def batches(start: int) -> Generator[Batch, None, None]:
        for step in range(start, settings.steps):
            clips, labels = made[step % len(made)]
            yield (clips, labels) if step else (clips[:first], labels[:first])

    return BatchSource(batches, lambda step: [f"noise {step}"])


def watched(source: BatchSource, clock: Clock) -> BatchSource:
    """The same batches; the clock is told when one is asked for."""

    def batches(start: int) -> Generator[Batch, None, None]:
        inner = source.batches(start)
        while True:
            clock.next_step()
            batch = next(inner, None)
            if batch is None:
                return
            yield batch

    return BatchSource(batches, source.videos)


def trained(
    objective: Objective, source: BatchSource, settings: TrainerSettings
) -> list[dict[str, float]]:
    """Run the engine as the stage does; the lines of its step log (of the first process)."""
    accelerator = new_accelerator(settings.precision)
    main = bool(accelerator.is_main_process)
    with tempfile.TemporaryDirectory(prefix="vidprompt-") as name:
        folder = Path(name)
        with Progress("benchmark", settings.steps, unit="steps", quiet=not main) as progress:
            train(
                objective,
                source,
                settings,
                accelerator=accelerator,
                snapshots=Snapshots(folder / "snapshots", {}, lambda _: None),
                log_folder=folder,
                progress=progress,
            )
        lines = (folder / "steps.jsonl").read_text("utf-8").splitlines() if main else []
    return [json.loads(line) for line in lines]
