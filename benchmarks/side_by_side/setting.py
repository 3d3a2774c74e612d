"""What both codes are trained on and with: the demo's lists and frames, texts, and the numbers of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from typing import Any

import numpy as np
import torch
from PIL import Image

from vidprompt.config import paths
from vidprompt.config.compose import compose
from vidprompt.config.schema import Config
from vidprompt.data.annotations.class_names import clean_class_name
from vidprompt.data.clips.testing import TestClips
from vidprompt.data.frames.cache import FrameCache
from vidprompt.models.backbones.loading import Backbone, load_backbone
from vidprompt.models.factory import configured_model
from vidprompt.models.methods.video_clip import VideoCLIP
from vidprompt.models.text.prompts import PromptSet, tokenize
from vidprompt.pipeline.training_data import TrainingLists, training_lists, usable
from vidprompt.published.naming import to_published

SPLIT = "supervised_split1"
FRAMES, STRIDE = (
    8,
    3,
)  # of a clip; Vita-CLIP's frames are 16 apart as released, the demo's videos have 24
CONTEXT = 77  # tokens of a text: fixed in the published code, the demo's backbone has fewer
BRIDGES = {  # where the published code has fixed what the demo's backbone has otherwise
    "positions of a text": "77 in their code: positions 33 to 77 are zeros there; the tower is causal",
    "heads": "width / 64 in their code: given as an argument, or set on the built EZ-CLIP's image tower",
    "activation": "QuickGELU in their code and in ours, although the demo's weights are of GELU",
    "patch bias": "Vita-CLIP's patch embedding has a bias that CLIP has not: zero",
    "flip": "EZ-CLIP's dataset is called something_demo, which turns flips off: left and right are classes",
    "texts": "EZ-CLIP's 16 templates (use_llm: False), Vita-CLIP's learned contexts; names in words, in both",
    "stride": "3 frames instead of Vita-CLIP's 16: the demo's videos have 24",
}
SHARED = (  # of ours, for both methods
    "dataset=demo",
    f"split={SPLIT}",
    "trainer=released",
    "trainer.precision=no",  # their code is float32 where there is no GPU
    "trainer.workers=0",
    "dataset.mirror=false",  # left and right are classes
    "backbone.quick_gelu=true",  # fixed in the published code
    "frames.frames=null",
    "trainer.dtype=float32",
)
OWN = {  # of ours, by method: what their configuration or command line says
    "ez_clip": ("prompts=action_templates_clean", "views=ez_clip"),
    "vita_clip": (
        "prompts=class_name",
        "method.options.clean_names=true",
        "views=vita_clip",
        f"views.stride={STRIDE}",
        "trainer.sampling=dense",
        f"trainer.stride={STRIDE}",
    ),
}


@dataclass(frozen=True)
class Setting:
    """The numbers of a run that the demo needs otherwise than released; all others are as released."""

    method: str
    epochs: int
    warmup: int  # epochs
    batch: int
    lr: float

    def steps(self, videos: int) -> int:
        """Steps of a run: epochs without their last, incomplete batch, as EZ-CLIP's loader has them."""
        return self.epochs * (videos // self.batch)

    def overrides(self, videos: int, seed: int) -> list[str]:
        """Our configuration."""
        epoch = videos // self.batch
        return [
            f"method={self.method}",
            *SHARED,
            *OWN[self.method],
            f"seed={seed}",
            f"trainer.length={self.epochs * epoch}",
            f"trainer.warmup={self.warmup * epoch}",
            f"trainer.batch_size={self.batch}",
            f"trainer.lr={self.lr}",
        ]


SETTINGS = {
    "ez_clip": Setting("ez_clip", epochs=5, warmup=1, batch=24, lr=2e-3),
    "vita_clip": Setting("vita_clip", epochs=5, warmup=0, batch=24, lr=6e-3),
}


@dataclass(frozen=True)
class Demo:
    """The demo's usable videos of the split; the working directory is the benchmark's project."""

    lists: TrainingLists

    @classmethod
    def read(cls, method: str) -> Demo:
        return cls(training_lists(compose([f"method={method}", *SHARED, *OWN[method]])))

    @property
    def videos(self) -> int:
        """How many videos are trained on."""
        return len(self.lists.train.videos)

    @property
    def classes(self) -> list[str]:
        """Class names in words, as the published code gets them; OWN says that ours writes them so."""
        return [clean_class_name(name) for name in self.lists.train.classes]

    @cached_property
    def cache(self) -> FrameCache:
        return self.lists.cache

    def rows(self, part: str) -> list[tuple[int, int, int]]:
        """Row in the frame cache, number of frames and label of each video of "train" or "test"."""
        listed = self.lists.train
        if part == "test":
            listed = usable(self.lists.split.tests["test"], self.cache)
        rows = self.cache.rows(listed.videos).tolist()
        return [(r, self.cache.num_frames(r), k) for r, k in zip(rows, listed.labels, strict=True)]

    def pictures(self, row: int, positions: Sequence[int]) -> list[Image.Image]:
        """Stored frames of a video, decoded by Pillow."""
        stored = self.cache.read_encoded(row, np.asarray(positions))
        return [Image.open(BytesIO(frame)).convert("RGB") for frame in stored]

    def centre_clips(self) -> torch.Tensor:
        """The centre frames and crop of each training video, uint8 (N, T, 3, S, S): nothing is random."""
        clips = TestClips(paths.frames("demo"), self.lists.train.videos, num_frames=FRAMES, size=48)
        return torch.stack([clips[i][0] for i in range(len(clips))])


def our_model(config: Config, demo: Demo) -> VideoCLIP:
    return configured_model(config, demo.lists.train.classes, load_backbone(vars(config.backbone)))


def our_tokens(model: VideoCLIP, prompts: PromptSet, names: Sequence[str]) -> torch.Tensor:
    """Token ids of the texts that ours is trained with, (C, P, CONTEXT); 0 where a vector is learned."""
    if model.context is not None:
        tokens, positions, _ = model.context.layout(names, pad=True)
        tokens = tokens.scatter(1, positions, 0)[:, None]
    else:
        tokens = tokenize(model.backbone.tokenizer, prompts.texts(names))
        tokens = tokens.view(len(names), prompts.per_class, -1)
    return torch.nn.functional.pad(tokens, (0, CONTEXT - tokens.shape[-1]))


def published_values(model: VideoCLIP) -> dict[str, torch.Tensor]:
    """All tensors of our model by their published names, the texts' positions padded to CONTEXT.

    The text tower is causal and read at the end of a text: what is behind it changes no feature.
    """
    state = to_published(model, model.state_dict())
    if model.method == "vita_clip":
        state["logit_scale"] = model.state_dict()["log_scale"]
    name = "positional_embedding" if model.method == "ez_clip" else "textual.positional_embedding"
    positions = state[name]
    state[name] = torch.nn.functional.pad(positions, (0, 0, 0, CONTEXT - len(positions)))
    return {name: value.detach().clone() for name, value in state.items()}


def dimensions(backbone: Backbone) -> dict[str, Any]:
    """Numbers of the towers, which the published code reads from a checkpoint or the command line."""
    clip: Any = backbone.clip
    visual = clip.visual
    return {
        "embed": int(visual.proj.shape[1]),
        "size": backbone.image_size,
        "layers": len(visual.transformer.resblocks),
        "width": int(visual.class_embedding.shape[0]),
        "patch": int(visual.conv1.kernel_size[0]),
        "heads": int(visual.transformer.resblocks[0].attn.num_heads),
        "vocabulary": int(clip.token_embedding.weight.shape[0]),
        "text_width": int(clip.token_embedding.weight.shape[1]),
        "text_heads": int(clip.transformer.resblocks[0].attn.num_heads),
        "text_layers": len(clip.transformer.resblocks),
    }
