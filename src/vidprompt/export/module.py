"""The module that is exported: from pixels in [0, 255] to features and class probabilities."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import nn

from vidprompt.export.metadata import FEATURES, INPUT, PROBABILITIES, TEXT_FEATURES
from vidprompt.metrics.scores import Ensemble
from vidprompt.models.methods.video_clip import VideoCLIP


class ExportedModel(nn.Module):
    """Clips (n, T, 3, S, S) in [0, 255] → features, and with classes probabilities and text features.

    Args:
        encoder: the model, whose weights are shared; it is set to evaluation mode.
        text: features of the classes' prompts, (C, P, E), not normalised; None: no classes.
        logit_scale: the factor of cosine similarities.
        ensemble: as of `metrics.scores.class_probabilities`.
    """

    mean: torch.Tensor
    std: torch.Tensor
    directions: torch.Tensor
    text: torch.Tensor

    def __init__(
        self,
        encoder: VideoCLIP,
        text: torch.Tensor | None = None,
        *,
        logit_scale: float = 100.0,
        ensemble: Ensemble = "softmax_sum",
    ) -> None:
        super().__init__()
        self.encoder = encoder.eval()
        self.dtype = torch.float32
        self.logit_scale = logit_scale
        for name, values in (("mean", encoder.backbone.mean), ("std", encoder.backbone.std)):
            self.register_buffer(name, torch.tensor(values)[:, None, None])
        self.has_classes = text is not None
        if text is not None:
            text = text.detach().float()
            directions = F.normalize(text, dim=-1)
            if ensemble == "mean_feature":
                directions = F.normalize(directions.mean(1, keepdim=True), dim=-1)
            self.register_buffer("directions", directions.permute(1, 2, 0).contiguous())  # P, E, C
            self.register_buffer("text", text)

    def forward(self, clips: torch.Tensor) -> dict[str, torch.Tensor]:
        """Encode clips and classify each.

        Returns `features` (n, E), not normalised; with classes also `probabilities` (n, C), and
        `text_features` (C, P, E), which are the same in every call.
        """
        pixels = (clips.to(torch.float32) / 255 - self.mean) / self.std
        frames = self.encoder.encode_video(pixels.to(self.dtype))[0].float()
        features = self.encoder.video_features(frames)
        if not self.has_classes:
            return {FEATURES: features}
        logits = self.logit_scale * (F.normalize(features, dim=-1) @ self.directions)  # P, n, C
        probabilities = logits.softmax(-1).mean(0)
        return {
            FEATURES: features,
            PROBABILITIES: probabilities,
            TEXT_FEATURES: self.text.clone(),
        }

    def in_half_precision(self) -> ExportedModel:
        """A copy that computes in float16 between the normalised pixels and the frames' features."""
        half = copy.copy(self)
        half._modules = {"encoder": copy.deepcopy(self.encoder).half()}
        half.dtype = torch.float16
        return half


def example_clips(module: ExportedModel, n: int, dtype: torch.dtype) -> torch.Tensor:
    """n clips of random pixels for a module, the same in each call, (n, T, 3, S, S)."""
    generator = torch.Generator().manual_seed(0)
    size = module.encoder.backbone.image_size
    shape = (n, module.encoder.num_frames, 3, size, size)
    return torch.randint(0, 256, shape, generator=generator).to(dtype)


def trace(module: ExportedModel, dtype: torch.dtype) -> torch.export.ExportedProgram:
    """The module as a graph for clips of `dtype`, any number of them, without weights it does not use.

    Nothing of this machine's paths stays in it.
    """
    batch = torch.export.Dim("n", min=1)
    with torch.no_grad():
        program = torch.export.export(
            module,
            (example_clips(module, 2, dtype),),
            dynamic_shapes={INPUT: {0: batch}},
            strict=True,  # len() of a batch stays a variable
        )
    signature = program.graph_signature
    used = {*signature.inputs_to_parameters.values(), *signature.inputs_to_buffers.values()}
    for name in set(program.state_dict) - used:  # the text tower
        del program.state_dict[name]
    for node in program.graph.nodes:
        for key in ("stack_trace", "nn_module_stack", "source_fn_stack", "from_node"):
            node.meta.pop(key, None)
    return program
