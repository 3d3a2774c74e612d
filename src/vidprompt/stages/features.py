"""Stage features: a checkpoint over every video and prompt its protocols test."""

from __future__ import annotations

from typing import Any

import torch

from vidprompt.configuration import plain
from vidprompt.data.frames import FrameCache
from vidprompt.data.loading import Clips
from vidprompt.data.splits import Split, read_split
from vidprompt.errors import UserError
from vidprompt.evaluation.encoding import encode_videos
from vidprompt.evaluation.features import write_features
from vidprompt.models import create_model
from vidprompt.models.backbone import Backbone, load_backbone
from vidprompt.models.prompts import PromptSet, prompt_set
from vidprompt.models.video_clip import VideoCLIP
from vidprompt.progress import Progress
from vidprompt.stages import paths
from vidprompt.stages.paths import FLOOR
from vidprompt.training.checkpoint import load_checkpoint


def run(config: Any) -> None:
    """Encode with `config.method` as trained on `config.split` (the frozen floor: all splits)."""
    dataset, method = config.dataset.name, config.method.name
    files = sorted(paths.splits(dataset).glob("*.json"))
    splits = {file.stem: read_split(file) for file in files}
    if method != FLOOR:
        splits = {name: split for name, split in splits.items() if split.run == config.split}
    if not splits:
        raise UserError(f"no split of {dataset} is tested with a model trained on {config.split}")
    model = _model(config, load_backbone(plain(config.backbone)))
    cache = FrameCache(paths.frames(dataset))
    wanted = {v for split in splits.values() for test in split.tests.values() for v in test.videos}
    videos = sorted(wanted & set(cache.ids))
    clips = Clips(
        str(paths.frames(dataset)),
        videos,
        [0] * len(videos),
        num_frames=model.num_frames,
        size=model.backbone.image_size,
    )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    run_name = "frozen" if method == FLOOR else config.split
    with Progress(f"features {method} {run_name}", len(videos), unit="videos") as progress:
        encoded = encode_videos(model, clips, batch_size=64, device=device, progress=progress)
    text = _text(model, splits, prompt_set(plain(config.prompts)))
    out = paths.features(dataset, method, run_name)
    arrays = {name: value.numpy() for name, value in text.items()}
    write_features(out, videos, encoded.numpy(), arrays, float(model.logit_scale.detach()))
    print(f"{len(videos)} of {len(wanted)} videos, {len(text)} label sets")


def _model(config: Any, backbone: Backbone) -> VideoCLIP:
    method = config.method
    if method.name == FLOOR:
        return create_model(FLOOR, backbone, num_frames=method.num_frames)
    path = paths.checkpoint(config.dataset.name, method.name, config.split)
    if not path.is_file():
        raise UserError(
            f"no checkpoint {path}: run `vidprompt train` with the same overrides first"
        )
    return load_checkpoint(path, backbone)[0]


@torch.inference_mode()
def _text(
    model: VideoCLIP, splits: dict[str, Split], prompts: PromptSet
) -> dict[str, torch.Tensor]:
    """(C, P, E) a recognition test; equal label sets are encoded once."""
    encoded: dict[tuple[str, ...], torch.Tensor] = {}
    text = {}
    for name, split in splits.items():
        if split.protocol == "reid":
            continue
        for test_name, test in split.tests.items():
            key = tuple(test.classes)
            if key not in encoded:
                encoded[key] = model.encode_classes(test.classes, prompts).float().cpu()
            text[f"{name}/{test_name}"] = encoded[key].clone()
    return text
