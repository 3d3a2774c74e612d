"""Stage features: a checkpoint over every video and prompt its protocols test."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from vidprompt.configuration import plain
from vidprompt.data.frame_cache import FrameCache
from vidprompt.data.loading import TestClips
from vidprompt.data.sampling import Views
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

ALL_FRAMES = "all-frames"  # in the id of a re-identification split
BATCH = 64  # clips encoded at once
WORTH_WORKERS = 5_000  # clips; for fewer, starting processes takes longer than they save


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
    _check_tracklets(splits, model.num_frames)
    cache = FrameCache(paths.frames(dataset))
    run_name = "frozen" if method == FLOOR else config.split
    sides = [_listed(splits, whole) for whole in (False, True)]
    encoded = [
        _encode(config, model, cache, videos, whole, f"features {method} {run_name}")
        for whole, videos in zip((False, True), sides, strict=True)
        if videos
    ]
    videos = [video for names, _ in encoded for video in names]
    views = max(features.shape[1] for _, features in encoded)
    # a tracklet's one feature stands in every view: their mean is itself
    video = np.concatenate([np.broadcast_to(f, (len(f), views, f.shape[2])) for _, f in encoded])
    text = _text(model, splits, prompt_set(plain(config.prompts)))
    arrays = {name: value.numpy() for name, value in text.items()}
    out = paths.features(dataset, method, run_name)
    write_features(out, videos, video, arrays, float(model.logit_scale.detach()))
    listed = sum(map(len, sides))
    print(f"{len(videos):,} of {listed:,} videos × {views} views, {len(text)} label sets")


def _check_tracklets(splits: dict[str, Split], num_frames: int) -> None:
    """An id must say what is done: all frames, or as many as the model takes."""
    for name, split in splits.items():
        how = split.id.partition("@")[2]
        if split.protocol == "reid" and how not in (ALL_FRAMES, f"{num_frames}-frames"):
            raise UserError(
                f"{name} says {how!r} and the model takes {num_frames} frames: set the protocol's "
                f"tracklet to {num_frames}-frames or {ALL_FRAMES}, and build the splits again"
            )


def _listed(splits: dict[str, Split], whole: bool) -> list[str]:
    """Test videos to encode by views, or (`whole`) those of which all frames are."""
    return sorted(
        {
            video
            for split in splits.values()
            if (split.id.partition("@")[2] == ALL_FRAMES) == whole
            for test in split.tests.values()
            for video in test.videos
        }
    )


def _encode(
    config: Any, model: VideoCLIP, cache: FrameCache, listed: list[str], whole: bool, title: str
) -> tuple[list[str], np.ndarray]:
    """The cached ones of the listed videos, and their features (n, views, E)."""
    videos = [v for v, row in zip(listed, cache.rows(listed), strict=True) if row >= 0]
    clips = TestClips(
        cache.path,
        videos,
        num_frames=model.num_frames,
        size=model.backbone.image_size,
        views=Views(**plain(config.views)),
        whole=whole,
    )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with Progress(title, len(clips), unit="clips") as progress:
        encoded = encode_videos(
            model,
            clips,
            batch_size=BATCH,
            device=device,
            progress=progress,
            workers=config.workers if len(clips) >= WORTH_WORKERS else 0,
        )
    return videos, encoded.numpy()


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
