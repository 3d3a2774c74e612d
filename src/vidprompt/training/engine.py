"""The training loop: one for all methods, protocols and numbers of processes.

Everything a step does is a function of the seed and the step's number: its batch (`data.batch_plan`),
its random numbers and its learning rate. A run that goes on from a snapshot is therefore the run that
was never stopped.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType, GradientAccumulationPlugin, broadcast_object_list

from vidprompt.system.errors import UserError
from vidprompt.system.interruption import Interrupted, Interruption
from vidprompt.system.progress import Progress
from vidprompt.training.averaging import holding
from vidprompt.training.objectives import Objective
from vidprompt.training.settings import TrainerSettings
from vidprompt.training.snapshots import Snapshots, Standing
from vidprompt.training.step import Batch, Outcome, Stepper
from vidprompt.training.step_log import StepLog

HELD_OUT = "held_out"
_KINDS = (
    DistributedType.NO,
    DistributedType.MULTI_CPU,
    DistributedType.MULTI_GPU,
    DistributedType.MULTI_XPU,
    DistributedType.MULTI_NPU,
)


@dataclass(frozen=True)
class Looks:
    """What is measured from time to time, each in [0, 1]: on held-out videos, by which a step may be
    chosen, and on test lists, by which none is."""

    held_out: Callable[[], float] | None = None
    tests: Sequence[Callable[[], float]] = ()

    def __call__(self) -> dict[str, float]:
        """ "held_out" where there are such videos, and "test": the mean over the test lists."""
        found = {HELD_OUT: self.held_out()} if self.held_out else {}
        values = [test() for test in self.tests]
        return found | ({"test": sum(values) / len(values)} if values else {})


@dataclass(frozen=True)
class Source:
    """A run's data. `batches(start)`: this process's share of every batch from number `start` on,
    uint8 (b, T, 3, H, W) and labels (b,); `videos(step)`: the ids of a whole batch, for messages."""

    batches: Callable[[int], Iterator[Batch]]
    videos: Callable[[int], Sequence[str]]


@dataclass
class TrainingLog:
    """What was seen: a row every `log_every` steps, terms averaged since the row before; every look at
    held-out videos; the step whose values are kept; steps left out; steps and seconds of
    this process."""

    rows: list[dict[str, float]]
    looks: list[dict[str, float]]
    kept_step: int
    skipped: list[int]
    done: int  # steps of this process, the others were an earlier one's
    seconds: float = 0.0


def new_accelerator(precision: str) -> Accelerator:
    """Devices and processes as they were launched. Raises UserError for a precision it cannot do."""
    # accelerate looks for other processes without a GPU only when it is told that there is none
    cpu = not (torch.cuda.is_available() or torch.backends.mps.is_available())
    if AcceleratorState._shared_state.get("_mixed_precision", precision) != precision:
        AcceleratorState._reset_state()  # of a training before this one, in the same process
    alone = GradientAccumulationPlugin(num_steps=1)  # whatever accelerate's environment says
    try:
        accelerator = Accelerator(
            mixed_precision=precision, cpu=cpu, gradient_accumulation_plugin=alone
        )
    except ValueError as error:
        raise UserError(
            f"trainer.precision={precision} does not go on this machine ({error}): choose no or bf16"
        ) from error
    if accelerator.distributed_type not in _KINDS:
        raise UserError(
            f"accelerate is set up for {accelerator.distributed_type.value}: a few million numbers are "
            "trained here, launch plain processes (accelerate launch --multi_gpu)"
        )
    return accelerator


def train(
    objective: Objective,
    source: Source,
    settings: TrainerSettings,
    *,
    accelerator: Accelerator,
    snapshots: Snapshots,
    log_folder: Path,
    progress: Progress,
    looks: Looks | None = None,
) -> TrainingLog:
    """Train `objective` in place; afterwards its model holds the values that are kept.

    Raises UserError when the loss or gradient is no number more often than `skip_non_finite` allows,
    and Interrupted after SIGTERM or SIGINT, with a snapshot written.
    """
    if settings.select == "best" and not (looks and looks.held_out):
        raise UserError(
            "trainer.select=best needs held-out videos: set protocol.held_out and build the splits "
            "again, or trainer.select=last"
        )
    run = _Run(objective, source, settings, Stepper(objective, settings, accelerator), snapshots)
    run.go_on()
    began = time.monotonic()
    with Interruption() as interruption:
        run.steps(interruption, log_folder, progress, looks)
    log = run.finish()
    log.seconds = time.monotonic() - began
    return log


class _Run:
    """A run under way: the stepper, and what is known beside its values."""

    def __init__(
        self,
        objective: Objective,
        source: Source,
        settings: TrainerSettings,
        stepper: Stepper,
        snapshots: Snapshots,
    ) -> None:
        self.objective, self.source, self.settings = objective, source, settings
        self.stepper, self.snapshots = stepper, snapshots
        self.processes = stepper.processes
        self.standing = Standing()
        self.best: list[torch.Tensor] | None = None
        self.began_at = 0

    # -- snapshots ----------------------------------------------------------------------------

    def go_on(self) -> None:
        """From the newest snapshot, which the first process reads for all."""
        found = [self.snapshots.newest() if self.processes.main else None]
        if self.processes.count > 1:
            found = broadcast_object_list(found)
        if found[0] is None:
            return
        self.standing, tensors = found[0]
        self.began_at = self.standing.step
        self.stepper.restore(tensors, self.standing.scaler)
        names = self.stepper.names
        if f"best/{names[0]}" in tensors:
            self.best = [tensors[f"best/{name}"].to(self.processes.device) for name in names]

    def save(self) -> None:
        """A snapshot, by the first process."""
        if not self.processes.main:
            return
        tensors, self.standing.scaler = self.stepper.state()
        for name, value in zip(self.stepper.names, self.best or [], strict=False):
            tensors[f"best/{name}"] = value
        self.snapshots.save(self.standing, tensors)

    # -- steps --------------------------------------------------------------------------------

    def steps(
        self, interruption: Interruption, log_folder: Path, progress: Progress, looks: Looks | None
    ) -> None:
        """All steps that are left."""
        start, total = self.standing.step, self.settings.steps
        if start == total:
            return
        progress.begin_at(start)
        batches = self.source.batches(start)
        tensorboard = self.settings.tensorboard
        with ExitStack() as opened:
            log: StepLog | None = None
            if self.processes.main:
                log = opened.enter_context(StepLog(log_folder, start, tensorboard=tensorboard))
            for step in range(start, total):
                asked = time.monotonic()
                batch = next(batches)
                got = time.monotonic()
                outcome = self.stepper.step(step, batch, interruption.requested)
                self._check(step, outcome)
                self._note(outcome)
                seconds = {"data_s": got - asked, "step_s": time.monotonic() - got}
                looked = self._look(looks)
                if log is not None:
                    log.write({"step": self.standing.step, **outcome.numbers, **seconds, **looked})
                progress.advance(1, self._shown(outcome, sum(seconds.values())))
                self._save_or_stop(outcome.stop, interruption)

    def _check(self, step: int, outcome: Outcome) -> None:
        if outcome.finite:
            return
        self.standing.skipped.append(step + 1)
        if len(self.standing.skipped) > self.settings.skip_non_finite:
            videos = ", ".join(self.source.videos(step))
            what = "loss" if not math.isfinite(outcome.numbers["loss"]) else "gradient"
            raise UserError(
                f"the {what} of step {step + 1} is no finite number. Videos of the batch: {videos}. "
                f"Last good snapshot: {self.snapshots.last_good()}. Try a smaller trainer.lr or "
                "trainer.precision=no, or leave out such steps: trainer.skip_non_finite=N"
            )

    def _note(self, outcome: Outcome) -> None:
        """Count the step; a row of the log every `log_every` steps."""
        standing = self.standing
        standing.step += 1
        if outcome.finite:
            standing.summed += 1
            for name, value in outcome.terms.items():
                standing.sums[name] = standing.sums.get(name, 0.0) + value
        if standing.step % self.settings.log_every and standing.step != self.settings.steps:
            return
        if standing.summed:
            means = {k: round(total / standing.summed, 6) for k, total in standing.sums.items()}
            standing.rows.append({"step": standing.step, **means, "lr": outcome.numbers["lr"]})
        standing.sums, standing.summed = {}, 0

    def _look(self, looks: Looks | None) -> dict[str, float]:
        """At held-out videos, every `evaluate_every` steps and after the last."""
        standing, settings = self.standing, self.settings
        due = not standing.step % settings.evaluate_every or standing.step == settings.steps
        if looks is None or not due:
            return {}
        kept = self.stepper.kept()
        self.objective.eval()
        with holding(self.stepper.parameters, kept):
            found = {name: round(value, 6) for name, value in looks().items()}
        self.objective.train()
        before = [one[HELD_OUT] for one in standing.looks if HELD_OUT in one]
        standing.looks.append({"step": standing.step, **found})
        better = HELD_OUT in found and found[HELD_OUT] > max(before, default=-math.inf)
        if settings.select == "best" and better:
            self.best = [value.clone() for value in kept]
        return found

    def _shown(self, outcome: Outcome, seconds: float) -> str:
        """What stands beside the bar."""
        parts = [f"{name} {value:.3f}" for name, value in outcome.terms.items()]
        rate = self.settings.batch_size / max(seconds, 1e-9)
        return (
            f"{' '.join(parts)} lr {outcome.numbers['lr']:.1e} {rate:.0f} clips/s "
            f"{outcome.numbers['memory_gb']:.1f} GB"
        )

    def _save_or_stop(self, stop: bool, interruption: Interruption) -> None:
        done = self.standing.step == self.settings.steps
        if stop and not done:
            self.save()
            self.processes.wait()  # who ends first ends the others, and the first is still saving
            number = interruption.number or 15
            raise Interrupted(
                f"stopped by signal {number} after step {self.standing.step} of "
                f"{self.settings.steps}, which is saved: run the same again to go on",
                number,
            )
        if not self.standing.step % self.settings.save_every and not done:
            self.save()

    def finish(self) -> TrainingLog:
        """Give the model the values that are kept."""
        standing, kept_step = self.standing, self.settings.steps
        values = self.stepper.kept()
        if self.settings.select == "best" and self.best is not None:
            values = self.best
            kept_step = int(max(standing.looks, key=lambda one: one.get(HELD_OUT, -1.0))["step"])
        self.stepper.hold(values)
        self.objective.eval()
        done = self.settings.steps - self.began_at
        return TrainingLog(standing.rows, standing.looks, kept_step, standing.skipped, done)
