"""One optimiser step: forward, backward, gradients of all processes, AdamW."""

from __future__ import annotations

import math
import resource
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator

from vidprompt.data.clips.reading import normalise
from vidprompt.training.averaging import RunningMean, mixed_with_start
from vidprompt.training.objectives import Objective, Terms
from vidprompt.training.optimizer import build_optimizer, rate_factor, set_rates
from vidprompt.training.processes import Processes
from vidprompt.training.settings import TrainerSettings
from vidprompt.training.snapshots import optimizer_tensors, restore_optimizer

Batch = tuple[torch.Tensor, torch.Tensor]
ALL = -1  # in a step's seed: what all processes draw alike


@dataclass(frozen=True)
class Outcome:
    """What a step gave. `numbers` are the terms, "lr", "gradient" (its norm before clipping) and
    "memory_gb" (the most that was held: of the GPU, or of this process)."""

    terms: dict[str, float]
    numbers: dict[str, float]
    finite: bool
    stop: bool


class Stepper:
    """What is trained, and how a step changes it."""

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
                lr_scale=settings.lr_scale,
                no_decay=settings.no_decay,
            )
        )
        self.names, self.parameters = [name for name, _ in named], [p for _, p in named]
        self.processes.start_alike(self.parameters)
        self.start = [p.detach().clone() for p in self.parameters] if settings.wise_ft < 1 else []
        self.mean = RunningMean(self.parameters, settings.ema) if settings.ema else None

    # -- a step -------------------------------------------------------------------------------

    def step(self, step: int, batch: Batch, stop: bool) -> Outcome:
        """Step number `step` (0 …) with this process's share. `stop`: does it want to end?

        A step whose loss or gradient is not finite changes nothing.
        """
        factor = rate_factor(self.settings, step)
        set_rates(self.optimizer, factor)
        terms = self._backward(step, *batch)
        stop = self.processes.mean_gradients(self.parameters, stop)
        norm = self.accelerator.clip_grad_norm_(
            self.parameters, self.settings.clip_grad or math.inf
        )
        scaler = self.accelerator.scaler
        # the one moment in which the processor waits for the device
        *values, length = torch.stack([*terms.values(), norm]).detach().float().tolist()
        shown = dict(zip(terms, values, strict=True))
        whole = math.isfinite(shown["loss"]) and math.isfinite(length)
        # a scaler leaves out a step that overflows itself, and lowers its scale: until that is 1, and
        # nothing is left to lower, no fault
        overflow = scaler is not None and math.isfinite(shown["loss"]) and scaler.get_scale() >= 1
        if whole or scaler is not None:
            self.optimizer.step()
        self.optimizer.zero_grad()
        if whole and self.mean is not None:
            self.mean.update(self.parameters, step + 1)
        finite = whole or overflow
        rate = round(self.settings.lr * factor, 12)
        numbers = {**shown, "lr": rate, "gradient": length, "memory_gb": _memory_gb()}
        return Outcome(shown, numbers, finite, stop)

    def _backward(self, step: int, clips: torch.Tensor, labels: torch.Tensor) -> Terms:
        objective, backbone = self.objective, self.objective.model.backbone
        if objective.generator is not None:
            objective.generator.manual_seed(self._seed(step, ALL))
        self._draw_from(step, 0)
        video = normalise(clips, backbone.mean, backbone.std, self.processes.device)
        labels = labels.to(self.processes.device, non_blocking=True)
        with self.accelerator.autocast():
            video, labels = objective.prepare(video, labels)
        parts = video.chunk(self.settings.micro_batches)
        if len(parts) > 1:
            return self._backward_in_parts(step, parts, labels)
        with self.accelerator.autocast():
            terms = objective.loss_terms(*objective.model.encode_video(video), labels)
        self.accelerator.backward(terms["loss"])
        return terms

    def _backward_in_parts(
        self, step: int, parts: Sequence[torch.Tensor], labels: torch.Tensor
    ) -> Terms:
        """Encode the parts without a graph; the loss of the whole batch from their features; then each
        part again, with the loss's gradient for its features (Gao et al., 2021: gradient caching).

        A contrastive loss of parts alone would see fewer negatives; this is the batch's own.
        """
        encode, found = self.objective.model.encode_video, []
        for number, part in enumerate(parts):
            self._draw_from(step, 1 + number)
            with torch.no_grad(), self.accelerator.autocast():
                found.append(encode(part))
        frames, features = (
            torch.cat(side).detach().requires_grad_() for side in zip(*found, strict=True)
        )
        with self.accelerator.autocast():
            terms = self.objective.loss_terms(frames, features, labels)
        self.accelerator.backward(terms["loss"])
        sizes = [len(part) for part in parts]
        gradients = [
            (torch.zeros_like(side) if side.grad is None else side.grad).split(sizes)
            for side in (frames, features)
        ]
        for number, part in enumerate(parts):
            self._draw_from(step, 1 + number)
            with self.accelerator.autocast():
                outputs = encode(part)
            torch.autograd.backward(outputs, [side[number] for side in gradients])
        return terms

    def _draw_from(self, step: int, part: int) -> None:
        """What dropout and mixing draw: of the step, the process and the part."""
        torch.manual_seed(self._seed(step, self.processes.rank, part))

    def _seed(self, *of: int) -> int:
        words = [self.settings.seed, *(number + 1 for number in of)]
        return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> 1)

    # -- values -------------------------------------------------------------------------------

    @torch.no_grad()
    def kept(self) -> list[torch.Tensor]:
        """The values a checkpoint of now would have: their running mean, mixed with the start."""
        values = self.mean.values if self.mean else [p.detach() for p in self.parameters]
        return mixed_with_start(values, self.start, self.settings.wise_ft) if self.start else values

    @torch.no_grad()
    def hold(self, values: Sequence[torch.Tensor]) -> None:
        """Give the parameters these values."""
        for parameter, value in zip(self.parameters, values, strict=True):
            parameter.copy_(value)

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
        """All that later steps depend on: tensors, and the numbers of the loss scaler."""
        tensors: dict[str, torch.Tensor] = {
            f"value/{n}": p for n, p in zip(self.names, self.parameters, strict=True)
        }
        if self.mean is not None:
            tensors |= {f"mean/{n}": v for n, v in zip(self.names, self.mean.values, strict=True)}
        tensors |= optimizer_tensors(self.optimizer.optimizer)
        scaler = self.accelerator.scaler
        return tensors, dict(scaler.state_dict()) if scaler is not None else {}

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, torch.Tensor], scaler: Mapping[str, float]) -> None:
        """Undo `state`."""
        self.hold([tensors[f"value/{name}"] for name in self.names])
        if self.mean is not None:
            for value, name in zip(self.mean.values, self.names, strict=True):
                value.copy_(tensors[f"mean/{name}"])
        restore_optimizer(self.optimizer.optimizer, tensors)
        if self.accelerator.scaler is not None and scaler:
            self.accelerator.scaler.load_state_dict(dict(scaler))


def _memory_gb() -> float:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
