"""The training loop of all methods, protocols and numbers of processes.

Everything in a step is a function of the seed and the step's number: the batch (`data.clips.batch_plan`),
the random numbers and the learning rate. A resumed run therefore ends as one that was never stopped.
"""

from __future__ import annotations

import atexit
import math
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn, Protocol

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import (
    DistributedType,
    GradientAccumulationPlugin,
    GradScalerKwargs,
    broadcast_object_list,
)

from vidprompt.models.precision import TF32
from vidprompt.system.errors import UserError
from vidprompt.system.interruption import Interrupted, Interruption, SignalReceived
from vidprompt.system.progress import Progress
from vidprompt.training.averaging import load_values, temporary_values
from vidprompt.training.half_weights import FP16_WEIGHTS
from vidprompt.training.objectives import Objective
from vidprompt.training.settings import TrainerSettings
from vidprompt.training.snapshots import Snapshots, TrainState
from vidprompt.training.step import Batch, Stepper, StepResult
from vidprompt.training.step_log import StepLog

HELD_OUT = "held_out"
TEST = "test/"  # before the name of a test list, in measures
_SUPPORTED = (
    DistributedType.NO,
    DistributedType.MULTI_CPU,
    DistributedType.MULTI_GPU,
    DistributedType.MULTI_XPU,
    DistributedType.MULTI_NPU,
)


class Validator(Protocol):
    """Measures the current model on a set of videos."""

    def evaluate(self) -> float:
        """The measure, in [0, 1]."""


@dataclass(frozen=True)
class Validation:
    """Validators that run during a training: on held-out videos, which may select the step that is kept,
    and on test lists, which are only reported."""

    held_out: Validator | None = None
    tests: Mapping[str, Validator] = field(default_factory=dict)

    def evaluate(self) -> dict[str, float]:
        """ "held_out" if there are held-out videos, and "test/NAME" of each test list."""
        measures = {HELD_OUT: self.held_out.evaluate()} if self.held_out else {}
        return measures | {TEST + name: test.evaluate() for name, test in self.tests.items()}


@dataclass(frozen=True)
class BatchSource:
    """The data of a run.

    `batches(start)` generates this process's part of every batch from number `start` on: clips uint8
    (b, T, 3, H, W) and labels (b,). It is closed when the training ends, however it ends.
    `videos(step)` returns the ids of a whole batch, for messages.
    """

    batches: Callable[[int], Generator[Batch, None, None]]
    videos: Callable[[int], Sequence[str]]


@dataclass
class TrainingLog:
    """Log of a run."""

    rows: list[dict[str, float]]  # every `log_every` steps: loss terms averaged since the last row
    evaluations: list[dict[str, float]]  # step and measures of every validation
    kept_step: int  # the step whose values the model has
    skipped: list[int]  # steps left out because their loss or gradient was not finite
    done: int  # steps of this process; others were done before it resumed
    seconds: float = 0.0  # of this process


def new_accelerator(precision: str) -> Accelerator:
    """Accelerate's view of devices and processes, as they were launched.

    `fp16_weights` computes in float16 without a loss scale on a CUDA device, and in float32 elsewhere;
    of `tf32` see `models.precision`.

    Raises UserError for a precision that this machine does not support, or a kind of distribution that is not
    plain data parallelism.
    """
    # without a GPU, accelerate finds other processes only if `cpu` is set
    cpu = not (torch.cuda.is_available() or torch.backends.mps.is_available())
    mixed, unscaled = "no" if precision == TF32 else precision, precision == FP16_WEIGHTS
    if unscaled:
        mixed = "fp16" if torch.cuda.is_available() else "no"
    if AcceleratorState._shared_state.get("_mixed_precision", mixed) != mixed:
        AcceleratorState._reset_state()  # of an earlier training in this process
    accumulation = GradientAccumulationPlugin(num_steps=1)  # overrides accelerate's environment
    try:
        accelerator = Accelerator(
            mixed_precision=mixed,
            cpu=cpu,
            gradient_accumulation_plugin=accumulation,
            kwargs_handlers=[GradScalerKwargs(enabled=False)] if unscaled else None,
        )
    except ValueError as error:
        raise UserError(
            f"trainer.precision={precision} is not supported on this machine ({error}): choose no or bf16"
        ) from error
    if accelerator.distributed_type not in _SUPPORTED:
        raise UserError(
            f"accelerate is configured for {accelerator.distributed_type.value}, which is not supported: "
            "launch plain processes (accelerate launch --multi_gpu)"
        )
    if accelerator.num_processes > 1:
        atexit.register(accelerator.state.destroy_process_group)  # twice does no harm
    return accelerator


def train(
    objective: Objective,
    source: BatchSource,
    settings: TrainerSettings,
    *,
    accelerator: Accelerator,
    snapshots: Snapshots,
    log_folder: Path,
    progress: Progress,
    validation: Validation | None = None,
    keep_last: bool = False,
    track: Callable[[Mapping[str, float]], None] | None = None,
) -> TrainingLog:
    """Train `objective` in place, from its newest snapshot if there is one, to the values that are kept.

    `keep_last` writes a snapshot after the last step too, from which the same run is finished at once.
    `track` is called in the first process with each step's numbers, as the step log gets them.

    Raises UserError when the loss or gradient is not finite in more steps than `skip_non_finite` allows, and
    Interrupted after SIGTERM or SIGINT, with a snapshot written.
    """
    if settings.select == "best" and not (validation and validation.held_out):
        raise UserError(
            "trainer.select=best needs held-out videos: set protocol.held_out and build the splits "
            "again, or trainer.select=last"
        )
    stepper = Stepper(objective, settings, accelerator)
    run = _Run(objective, source, settings, stepper, snapshots, validation, keep_last)
    run.resume()
    start = time.monotonic()
    with Interruption() as interruption:
        run.train_steps(interruption, log_folder, progress, track)
    log = run.finish()
    log.seconds = time.monotonic() - start
    return log


class _Run:
    """A run in progress: the stepper, and the state beside its values."""

    def __init__(
        self,
        objective: Objective,
        source: BatchSource,
        settings: TrainerSettings,
        stepper: Stepper,
        snapshots: Snapshots,
        validation: Validation | None,
        keep_last: bool,
    ) -> None:
        self.objective, self.source, self.settings = objective, source, settings
        self.keep_last = keep_last
        self.stepper, self.snapshots, self.validation = stepper, snapshots, validation
        self.processes = stepper.processes
        self.state = TrainState()
        self.best: list[torch.Tensor] | None = None
        self.first_step = 0

    # -- snapshots ----------------------------------------------------------------------------

    def resume(self) -> None:
        """Load the newest snapshot, if there is one; the first process reads it for all."""
        snapshot = [self.snapshots.load_newest() if self.processes.is_main else None]
        if self.processes.world_size > 1:
            snapshot = broadcast_object_list(snapshot)
        if snapshot[0] is None:
            return
        self.state, tensors = snapshot[0]
        self.first_step = self.state.step
        self.stepper.load_state_dict(tensors, self.state.scaler)
        names = self.stepper.names
        if f"best/{names[0]}" in tensors:
            self.best = [tensors[f"best/{name}"].to(self.processes.device) for name in names]

    def save(self) -> None:
        """Write a snapshot, in the first process."""
        if not self.processes.is_main:
            return
        tensors, self.state.scaler = self.stepper.state_dict()
        for name, value in zip(self.stepper.names, self.best or [], strict=False):
            tensors[f"best/{name}"] = value
        self.snapshots.save(self.state, tensors)

    # -- steps --------------------------------------------------------------------------------

    def train_steps(
        self,
        interruption: Interruption,
        log_folder: Path,
        progress: Progress,
        track: Callable[[Mapping[str, float]], None] | None = None,
    ) -> None:
        """Do all remaining steps."""
        first, total = self.state.step, self.settings.steps
        if first == total:
            return
        progress.begin_at(first)
        with ExitStack() as stack:
            batches = stack.enter_context(closing(self.source.batches(first)))
            log: StepLog | None = None
            if self.processes.is_main:
                tensorboard = self.settings.tensorboard
                log = stack.enter_context(StepLog(log_folder, first, tensorboard=tensorboard))
            for step in range(first, total):
                start = time.monotonic()
                batch = self._next_batch(batches, interruption)
                loaded = time.monotonic()
                result = self.stepper.step(step, batch, interruption.requested)
                self._check(step, result)
                self._record(result)
                seconds = {"data_s": loaded - start, "step_s": time.monotonic() - loaded}
                measures = self._evaluate()
                if log is not None:
                    numbers = {"step": self.state.step, **result.numbers, **seconds, **measures}
                    log.write(numbers)
                    if track is not None:
                        track(numbers)
                progress.advance(1, self._progress_text(result, sum(seconds.values())))
                self._save_or_stop(result.stop, interruption)

    def _next_batch(
        self, batches: Generator[Batch, None, None], interruption: Interruption
    ) -> Batch:
        """The next batch. If it does not come after a signal, the run stops without it."""
        try:
            with interruption.waiting(limited=self.processes.world_size == 1):
                return next(batches)
        except SignalReceived:
            if self.state.step > self.first_step:
                self.save()
            self._stop(interruption)

    def _check(self, step: int, result: StepResult) -> None:
        """Raise UserError if too many steps had a loss or gradient that is not finite."""
        if result.finite:
            return
        self.state.skipped.append(step + 1)
        if len(self.state.skipped) > self.settings.skip_non_finite:
            videos = ", ".join(self.source.videos(step))
            what = "loss" if not math.isfinite(result.numbers["loss"]) else "gradient"
            raise UserError(
                f"the {what} of step {step + 1} is not finite. Videos of the batch: {videos}. "
                f"Last good snapshot: {self.snapshots.newest_path()}. Try a smaller trainer.lr or "
                "trainer.precision=no, or skip such steps: trainer.skip_non_finite=N"
            )

    def _record(self, result: StepResult) -> None:
        """Count the step; add a row to the log every `log_every` steps."""
        state = self.state
        state.step += 1
        if result.finite:
            state.summed += 1
            for name, value in result.terms.items():
                state.sums[name] = state.sums.get(name, 0.0) + value
        if state.step % self.settings.log_every and state.step != self.settings.steps:
            return
        if state.summed:
            means = {k: round(total / state.summed, 6) for k, total in state.sums.items()}
            state.rows.append({"step": state.step, **means, "lr": result.numbers["lr"]})
        state.sums, state.summed = {}, 0

    def _evaluate(self) -> dict[str, float]:
        """Validate every `evaluate_every` steps and after the last; {} in other steps."""
        state, settings = self.state, self.settings
        due = not state.step % settings.evaluate_every or state.step == settings.steps
        if self.validation is None or not due:
            return {}
        values = self.stepper.checkpoint_values()
        self.objective.eval()
        with temporary_values(self.stepper.parameters, values):
            measures = {k: round(value, 6) for k, value in self.validation.evaluate().items()}
        self.objective.train()
        before = [one[HELD_OUT] for one in state.evaluations if HELD_OUT in one]
        state.evaluations.append({"step": state.step, **measures})
        better = HELD_OUT in measures and measures[HELD_OUT] > max(before, default=-math.inf)
        if settings.select == "best" and better:
            self.best = [value.clone() for value in values]
        return measures

    def _progress_text(self, result: StepResult, seconds: float) -> str:
        """Text beside the progress bar."""
        terms = " ".join(f"{name} {value:.3f}" for name, value in result.terms.items())
        rate = self.settings.batch_size / max(seconds, 1e-9)
        memory = result.numbers["memory_gb"]
        return f"{terms} {_lr_text(result.numbers)} {rate:.0f} clips/s {memory:.1f} GB"

    def _save_or_stop(self, stop: bool, interruption: Interruption) -> None:
        """Write a snapshot if it is due; raise Interrupted if a process is to stop."""
        done = self.state.step == self.settings.steps
        if stop and not done:
            self.save()
            self.processes.barrier()  # a process that ends stops the others, and the first may be saving
            self._stop(interruption)
        if self.keep_last if done else not self.state.step % self.settings.save_every:
            self.save()

    def _stop(self, interruption: Interruption) -> NoReturn:
        number, step = interruption.number or 15, self.state.step
        where = (
            f"after step {step} of {self.settings.steps}, which is saved"
            if step
            else "at the start"
        )
        raise Interrupted(
            f"stopped by signal {number} {where}: run the same again to resume", number
        )

    def finish(self) -> TrainingLog:
        """Load the values that are kept into the model, and return the log."""
        state, kept_step = self.state, self.settings.steps
        values = self.stepper.checkpoint_values()
        if self.settings.select == "best" and self.best is not None:
            values = self.best
            best = max(state.evaluations, key=lambda one: one.get(HELD_OUT, -1.0))
            kept_step = int(best["step"])
        load_values(self.stepper.parameters, values)
        self.objective.eval()
        done = self.settings.steps - self.first_step
        return TrainingLog(state.rows, state.evaluations, kept_step, state.skipped, done)


def _lr_text(numbers: Mapping[str, float]) -> str:
    """`lr 6.0e-03`; where groups differ, `lr 6.0e-03 (weights) 1.8e-02 (prompts, context)`."""
    groups: dict[float, list[str]] = {}
    for key, rate in numbers.items():
        if key.startswith("lr/"):
            groups.setdefault(rate, []).append(key.removeprefix("lr/"))
    if len(groups) == 1:
        return f"lr {next(iter(groups)):.1e}"
    return "lr " + " ".join(f"{rate:.1e} ({', '.join(names)})" for rate, names in groups.items())
