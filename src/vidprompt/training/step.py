"""One optimiser step: forward, backward, average of the gradients over the processes, update."""

from __future__ import annotations

import math
import resource
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator

from vidprompt.data.clips.reading import normalise
from vidprompt.models.precision import float32_products
from vidprompt.training.averaging import (
    ExponentialMovingAverage,
    load_values,
    wise_ft,
    wise_ft_start,
)
from vidprompt.training.half_weights import FP16_WEIGHTS, half_parameters, round_to_half
from vidprompt.training.objectives import LossTerms, Objective
from vidprompt.training.optimizer import build_optimizer, learning_rates, lr_factor, set_lr
from vidprompt.training.processes import Processes
from vidprompt.training.settings import TrainerSettings
from vidprompt.training.snapshots import optimizer_tensors, restore_optimizer

Batch = tuple[torch.Tensor, torch.Tensor]
ALL_RANKS = -1  # rank in the seed of random numbers that are equal in all processes
VISION, LOSS = 1, 2  # words of the seeds of what is dropped in the vision tower, and in the loss


@dataclass(frozen=True)
class StepResult:
    """Result of a step.

    `numbers`, for the log, are the loss terms, "lr" (the base rate), "lr/<kind or module>" (with its scale),
    "gradient" (the norm before clipping) and "memory_gb" (peak memory of the GPU, or of this process).
    `finite` is False for a step that changed nothing because its loss or gradient is not finite; `stop` is
    True if any process asked to stop.
    """

    terms: dict[str, float]
    numbers: dict[str, float]
    finite: bool
    stop: bool


class Stepper:
    """An objective with its optimiser and averages, and the computation of a step."""

    def __init__(
        self, objective: Objective, settings: TrainerSettings, accelerator: Accelerator
    ) -> None:
        self.objective, self.settings, self.accelerator = objective, settings, accelerator
        self.processes = Processes(accelerator)
        objective.to(accelerator.device).train()
        objective.gather = self.processes.gather
        objective.generator = torch.Generator()
        named = [(name, p) for name, p in objective.named_parameters() if p.requires_grad]
        self.optimizer = accelerator.prepare(
            build_optimizer(
                objective,
                lr=settings.lr,
                weight_decay=settings.weight_decay,
                betas=settings.betas,
                eps=settings.eps,
                lr_scale=settings.lr_scale,
                no_decay=settings.no_decay,
                optimizer=settings.optimizer,
                momentum=settings.momentum,
            )
        )
        self.names, self.parameters = [name for name, _ in named], [p for _, p in named]
        self.processes.broadcast_parameters(self.parameters)
        self.halves: list[torch.nn.Parameter] = []
        if settings.precision == FP16_WEIGHTS:
            self.halves = [p for p in half_parameters(objective) if p.requires_grad]
            round_to_half(self.halves)
        self.initial = wise_ft_start(named) if settings.wise_ft < 1 else []
        self.ema = ExponentialMovingAverage(self.parameters, settings.ema) if settings.ema else None

    # -- a step -------------------------------------------------------------------------------

    def step(self, step: int, batch: Batch, stop: bool) -> StepResult:
        """Train on this process's part of batch number `step` (0 …); `stop` if this process is to end.

        A step whose loss or gradient is not finite changes nothing.
        """
        with float32_products(self.settings.precision):
            return self._step(step, batch, stop)

    def _step(self, step: int, batch: Batch, stop: bool) -> StepResult:
        factor = lr_factor(self.settings, step)
        set_lr(self.optimizer, factor)
        terms = self._backward(step, *batch)
        stop = self.processes.all_reduce_gradients(self.parameters, stop)
        norm = self.accelerator.clip_grad_norm_(
            self.parameters, self.settings.clip_grad or math.inf
        )
        scaler = self._scaler()
        # the only point at which the CPU waits for the device
        *values, gradient = torch.stack([*terms.values(), norm]).detach().float().tolist()
        losses = dict(zip(terms, values, strict=True))
        finite = math.isfinite(losses["loss"]) and math.isfinite(gradient)
        # A loss scaler skips a step whose gradient overflows and lowers its scale, which is no error until
        # the scale is below 1.
        overflow = scaler is not None and math.isfinite(losses["loss"]) and scaler.get_scale() >= 1
        if finite or scaler is not None:
            self.optimizer.step()
            round_to_half(self.halves)
        self.optimizer.zero_grad()
        if finite and self.ema is not None:
            self.ema.update(self.parameters, step + 1)
        lr = round(self.settings.lr * factor, 12)
        rates = {f"lr/{name}": rate for name, rate in learning_rates(self.optimizer).items()}
        numbers = {**losses, "lr": lr, **rates, "gradient": gradient, "memory_gb": _memory_gb()}
        return StepResult(losses, numbers, finite or overflow, stop)

    def _scaler(self) -> torch.amp.GradScaler | None:
        """The loss scaler of float16; None without one."""
        scaler = self.accelerator.scaler
        return scaler if scaler is not None and scaler.is_enabled() else None

    def _backward(self, step: int, clips: torch.Tensor, labels: torch.Tensor) -> LossTerms:
        objective, backbone = self.objective, self.objective.model.backbone
        if objective.generator is not None:
            objective.generator.manual_seed(self._seed(step, ALL_RANKS))
        self._seed_step(step, 0)
        video = normalise(clips, backbone.mean, backbone.std, self.processes.device)
        labels = labels.to(self.processes.device, non_blocking=True)
        with self.accelerator.autocast():
            video, labels = objective.prepare(video, labels)
        micro_batches = video.chunk(self.settings.micro_batches)
        if len(micro_batches) > 1:
            return self._backward_micro_batches(step, micro_batches, labels)
        seed = self._seed(step, ALL_RANKS, VISION)
        with self.accelerator.autocast():
            encoded = objective.model.encode_video(video, batch_seed=seed)
            terms = self._loss_terms(step, *encoded, labels)
        self.accelerator.backward(terms["loss"])
        return terms

    def _loss_terms(self, step: int, *encoded: torch.Tensor) -> LossTerms:
        """Loss terms of the whole batch, with the same random numbers in all processes."""
        torch.manual_seed(self._seed(step, ALL_RANKS, LOSS))
        return self.objective.loss_terms(*encoded)

    def _backward_micro_batches(
        self, step: int, micro_batches: Sequence[torch.Tensor], labels: torch.Tensor
    ) -> LossTerms:
        """Gradient caching (Gao et al., 2021): the loss of the whole batch with the memory of a micro-batch.

        Encodes the micro-batches without gradients, computes the loss of all features, and encodes each
        micro-batch again to backpropagate the loss's gradient of its features. Plain accumulation would
        change a contrastive loss, whose negatives are the whole batch.
        """
        model, seed, outputs = self.objective.model, self._seed(step, ALL_RANKS, VISION), []
        for number, video in enumerate(micro_batches):
            self._seed_step(step, 1 + number)
            with torch.no_grad(), self.accelerator.autocast():
                outputs.append(model.encode_video(video, batch_seed=seed))
        frames, features = (
            torch.cat(side).detach().requires_grad_() for side in zip(*outputs, strict=True)
        )
        with self.accelerator.autocast():
            terms = self._loss_terms(step, frames, features, labels)
        self.accelerator.backward(terms["loss"])
        sizes = [len(video) for video in micro_batches]
        gradients = [
            (torch.zeros_like(side) if side.grad is None else side.grad).split(sizes)
            for side in (frames, features)
        ]
        for number, video in enumerate(micro_batches):
            self._seed_step(step, 1 + number)
            with self.accelerator.autocast():
                output = model.encode_video(video, batch_seed=seed)
            torch.autograd.backward(output, [side[number] for side in gradients])
        return terms

    def _seed_step(self, step: int, micro_batch: int) -> None:
        """Seed dropout and mixup by step, process and micro-batch."""
        torch.manual_seed(self._seed(step, self.processes.rank, micro_batch))

    def _seed(self, *numbers: int) -> int:
        words = [self.settings.seed, *(number + 1 for number in numbers)]
        return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> 1)

    # -- values -------------------------------------------------------------------------------

    @torch.no_grad()
    def checkpoint_values(self) -> list[torch.Tensor]:
        """The values that a checkpoint of this step has: the EMA if there is one, then WiSE-FT."""
        values = self.ema.values if self.ema else [p.detach() for p in self.parameters]
        return wise_ft(values, self.initial, self.settings.wise_ft) if self.initial else values

    def state_dict(self) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
        """All state that later steps depend on: tensors, and the numbers of the loss scaler."""
        tensors: dict[str, torch.Tensor] = {
            f"value/{n}": p for n, p in zip(self.names, self.parameters, strict=True)
        }
        if self.ema is not None:
            tensors |= {f"mean/{n}": v for n, v in zip(self.names, self.ema.values, strict=True)}
        tensors |= optimizer_tensors(self.optimizer.optimizer)
        scaler = self._scaler()
        return tensors, dict(scaler.state_dict()) if scaler is not None else {}

    @torch.no_grad()
    def load_state_dict(
        self, tensors: Mapping[str, torch.Tensor], scaler: Mapping[str, float]
    ) -> None:
        """Load what `state_dict` returned."""
        load_values(self.parameters, [tensors[f"value/{name}"] for name in self.names])
        if self.ema is not None:
            for value, name in zip(self.ema.values, self.names, strict=True):
                value.copy_(tensors[f"mean/{name}"])
        restore_optimizer(self.optimizer.optimizer, tensors)
        own = self._scaler()
        if own is not None and scaler:
            own.load_state_dict(dict(scaler))


def _memory_gb() -> float:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
