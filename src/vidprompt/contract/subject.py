"""The method that is checked: how it is built and trained, on which backbone and input."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from vidprompt.models.backbones.loading import Backbone, load_backbone
from vidprompt.models.factory import create_model
from vidprompt.models.methods.video_clip import VideoCLIP
from vidprompt.models.text.prompts import PromptSet
from vidprompt.training.objectives import Objective, create_objective
from vidprompt.training.optimizer import build_optimizer

NAMES = ("opening a door", "closing a door", "moving left")  # of the training classes
PROMPTS = PromptSet(("a video of {}.", "{}"))
FRAMES = 4
# 32×32 pixels in patches of 16, two layers a tower: a step takes milliseconds
SMALL: Mapping[str, Any] = {
    "name": "small random CLIP",
    "config": {
        "embed_dim": 32,
        "vision_cfg": {
            "image_size": 32,
            "layers": 2,
            "width": 64,
            "head_width": 16,
            "patch_size": 16,
        },
        "text_cfg": {"context_length": 24, "width": 32, "heads": 2, "layers": 2},
    },
}


@dataclass(frozen=True)
class Subject:
    """A method with its options, on a backbone, with the objective that trains it.

    `method` is a name, or a class that is not registered. `objective` None: nothing is trained.
    """

    method: str | type[VideoCLIP]
    options: Mapping[str, Any] = field(default_factory=dict)
    objective: str | None = "cross_entropy"
    objective_options: Mapping[str, Any] = field(default_factory=dict)
    num_frames: int = FRAMES
    spec: Mapping[str, Any] = field(default_factory=lambda: SMALL)

    @cached_property
    def backbone(self) -> Backbone:
        """The backbone that all models share; the small one has the same random weights each time."""
        torch.manual_seed(0)
        return load_backbone(self.spec)

    def model(
        self, seed: int = 0, backbone: Backbone | None = None, *, fitted: bool = True
    ) -> VideoCLIP:
        """A new model in evaluation mode; its start values are drawn with `seed`.

        One that learns from features is `fitted` to those of `clips`, a video a class.
        """
        backbone = backbone or self.backbone
        torch.manual_seed(seed)
        if isinstance(self.method, str):
            model = create_model(
                self.method,
                backbone,
                num_frames=self.num_frames,
                class_names=NAMES,
                **self.options,
            )
        else:
            model = self.method(backbone, self.num_frames, class_names=list(NAMES), **self.options)
        model.eval()
        if fitted and model.fits_features:
            with torch.no_grad():
                model.fit(model.encode_video(self.clips())[1], torch.arange(len(NAMES)))
        return model

    def clips(self, num_frames: int | None = None, batch: int = 3) -> torch.Tensor:
        """Normalised clips (batch, T, 3, S, S), the same in each call."""
        size = self.backbone.image_size
        shape = (batch, num_frames or self.num_frames, 3, size, size)
        return torch.randn(shape, generator=torch.Generator().manual_seed(1))

    @torch.no_grad()
    def outputs(self, model: VideoCLIP) -> list[torch.Tensor]:
        """Features of frames, of videos and of the classes' texts, in evaluation mode."""
        model.eval()
        return [*model.encode_video(self.clips()), model.encode_classes(NAMES, PROMPTS)]

    def new_objective(self, model: VideoCLIP) -> Objective:
        """The loss that trains the method."""
        name = self.objective or "cross_entropy"
        return create_objective(name, model, NAMES, PROMPTS, self.objective_options)

    def train(self, objective: Objective, steps: int, seed: int = 0) -> Iterator[Objective]:
        """Train for some steps; yields after each backward pass, before the optimiser changes anything."""
        objective.train()
        objective.generator = torch.Generator().manual_seed(seed)
        optimizer = build_optimizer(objective, lr=1e-2, weight_decay=0.0, betas=(0.9, 0.999))
        for step in range(steps):
            backward(objective, self.clips(), range(len(NAMES)), seed + step)
            yield objective
            optimizer.step()
            optimizer.zero_grad()


def backward(
    objective: Objective, clips: torch.Tensor, labels: Sequence[int], seed: int
) -> torch.Tensor:
    """The forward and backward pass of a training step, as the engine runs it; returns the loss."""
    torch.manual_seed(seed)
    video, truth = objective.prepare(clips, torch.tensor(list(labels)))
    frames, features = objective.model.encode_video(video, batch_seed=seed)
    loss = objective.loss_terms(frames, features, truth)["loss"]
    loss.backward()
    return loss.detach()
