"""Micro-batches take the memory of one of them, not of the batch."""

from __future__ import annotations

from dataclasses import replace

import open_clip
import torch
from benchmarks.peak_memory import peak_bytes
from tests.training.small_run import CLASSES, SETTINGS

from vidprompt.models import create_model
from vidprompt.models.backbones.loading import from_clip
from vidprompt.models.text.prompts import PromptSet
from vidprompt.training.engine import new_accelerator
from vidprompt.training.objectives import create_objective
from vidprompt.training.step import Stepper

MOST = 1.25


def peak_of_a_step(clips: int, micro_batches: int) -> int:
    """Bytes of the tensors of EZ-CLIP's second step, when AdamW has its moments, at their most."""
    torch.manual_seed(0)
    vision = {"image_size": 32, "layers": 4, "width": 64, "head_width": 16, "patch_size": 4}
    text = {"context_length": 16, "width": 32, "heads": 2, "layers": 2}
    backbone = from_clip(open_clip.CLIP(32, vision, text), "small", "")
    model = create_model("ez_clip", backbone, num_frames=2)
    objective = create_objective("contrastive_motion", model, CLASSES, PromptSet(("a {}",)), {})
    settings = replace(SETTINGS, batch_size=clips, micro_batches=micro_batches)
    stepper = Stepper(objective, settings, new_accelerator("no"))
    video = torch.zeros(clips, 2, 3, 32, 32, dtype=torch.uint8)
    batch = video, torch.arange(clips) % len(CLASSES)
    stepper.step(0, batch, False)
    return peak_bytes(lambda: stepper.step(1, batch, False), torch.device("cpu"))


def test_four_micro_batches_of_two_clips_take_the_memory_of_two_clips(on_the_cpu: None) -> None:
    del on_the_cpu
    two, in_parts, at_once = peak_of_a_step(2, 1), peak_of_a_step(8, 4), peak_of_a_step(8, 1)
    assert in_parts <= MOST * two
    assert at_once > 2 * in_parts
