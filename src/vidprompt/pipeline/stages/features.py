"""Stage features: encode every test video and prompt of a checkpoint, in one or more processes."""

from __future__ import annotations

import atexit
import logging
import warnings
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import timedelta
from itertools import groupby
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, parse_flag_from_env

from vidprompt.config import paths
from vidprompt.config.plugins import used_plugins
from vidprompt.config.schema import Config
from vidprompt.data.clips.testing import TestClips
from vidprompt.data.frames.cache import PARAMETERS, FrameCache
from vidprompt.data.frames.sampling import Views
from vidprompt.data.splits.split_file import Split, read_splits
from vidprompt.files.hashes import sha256
from vidprompt.inference.encoding import MIN_CLIPS_FOR_WORKERS, encode_blocks, single_threaded
from vidprompt.inference.feature_blocks import Block, BlockRows, BlockStore, plan_blocks
from vidprompt.inference.feature_store import all_frames, takes_all_frames, write_features
from vidprompt.models.backbones.loading import Backbone, load_backbone
from vidprompt.models.checkpoint import load_checkpoint
from vidprompt.models.factory import untrained_model
from vidprompt.models.methods.video_clip import VideoCLIP
from vidprompt.models.text.prompts import PromptSet, prompt_set
from vidprompt.pipeline.lineage import checkpoint_hash, lineage
from vidprompt.provenance.code import code_hash
from vidprompt.system.errors import DataError, UserError
from vidprompt.system.progress import Progress

logger = logging.getLogger(__name__)

BLOCK = 256  # videos: what a killed run loses at most, and what processes share out
BATCH = {"cpu": 8, "cuda": 64}  # clips encoded at once (by each thread of a CPU)


@dataclass
class _Encoding:
    """What a process needs to encode its blocks."""

    config: Config
    model: VideoCLIP
    cache: FrameCache
    views: Views
    state: PartialState
    title: str


def run(config: Config) -> None:
    """Encode with `config.method` as trained on `config.split`; with nothing to train, all splits.

    Processes launched together share the blocks. A run that was killed goes on after its last block.
    """
    dataset, method = config.dataset.name, config.method.name
    run_name = config.method.encoding_of(config.split)
    splits, views = _tested(config), Views(**vars(config.views))
    state = _processes()
    with warnings.catch_warnings():
        if not state.is_main_process:
            warnings.simplefilter("ignore")  # one process says it
        model = _model(config, load_backbone(vars(config.backbone)))
    _check_tracklets(splits, model.num_frames)
    cache = FrameCache(paths.frames(dataset))
    encoding = _Encoding(config, model, cache, views, state, f"features {method} {run_name}")
    listed, tracklets = (_listed(splits, whole) for whole in (False, True))
    blocks = plan_blocks(_cached(cache, listed), _cached(cache, tracklets), BLOCK)
    count = len(listed) + len(tracklets)
    if not blocks:
        raise DataError(f"none of the {count} test videos of {run_name} is in {cache.path}")
    store = BlockStore(paths.encoding(dataset, method, run_name), blocks, _identity(encoding))
    with closing(_encoded(encoding, _own_blocks(store, state))) as encoded:
        for block, features in encoded:
            store.write(block, features)
    state.wait_for_everyone()
    if state.is_main_process:
        text = _text(encoding, splits, prompt_set(vars(config.prompts)))
        rows = BlockRows(store)
        videos = [video for block in blocks for video in block.videos]
        whole = [block.whole for block in blocks for _ in block.videos]
        scale = float(model.logit_scale.detach())
        out, made_with = (
            paths.features(dataset, method, run_name),
            lineage(config, config.split, splits),
        )
        write_features(out, videos, rows, text, scale, whole, made_with)
        store.remove()
        logger.info(
            f"{len(videos):,} of {count:,} videos × {rows.shape[1]} views, "
            f"{len({id(array) for array in text.values()})} label sets for {len(text)} tests"
        )
    state.wait_for_everyone()  # else the others' leaving would look like a failure to who launched them


def _processes() -> PartialState:
    """This process among those launched together. They wait long for each other: shares differ."""
    cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.cuda.is_available()
    state = PartialState(cpu=cpu, timeout=timedelta(days=1))
    if state.num_processes > 1:
        atexit.register(state.destroy_process_group)
    return state


def _tested(config: Config) -> dict[str, Split]:
    """Name of the split file → split, of those that are tested with this model."""
    splits = read_splits(paths.splits(config.dataset.name))
    if config.method.trained:
        splits = {name: split for name, split in splits.items() if split.run == config.split}
    if not splits:
        raise UserError(
            f"no split of {config.dataset.name} is tested with a model trained on {config.split}"
        )
    return splits


def _check_tracklets(splits: dict[str, Split], num_frames: int) -> None:
    """An id must say what is done: all frames in the model's clips, or as many as the model takes."""
    valid = (f"{num_frames}-frames", all_frames(num_frames))
    for name, split in splits.items():
        how = split.id.partition("@")[2]
        if split.protocol == "reid" and how not in valid:
            raise UserError(
                f"{name} says {how!r} and the model takes {num_frames} frames: set the protocol's "
                f"tracklet to {' or '.join(valid)}, and build the splits again"
            )


def _listed(splits: dict[str, Split], whole: bool) -> list[str]:
    """Test videos to encode by views, or (`whole`) those of which all frames are; each once."""
    return sorted(
        {
            video
            for split in splits.values()
            if takes_all_frames(split) == whole
            for test in split.tests.values()
            for video in test.videos
        }
    )


def _cached(cache: FrameCache, videos: Sequence[str]) -> list[str]:
    return [video for video, row in zip(videos, cache.rows(videos), strict=True) if row >= 0]


def _own_blocks(store: BlockStore, state: PartialState) -> list[Block]:
    """This process's share of the blocks that are still to be encoded."""
    pending: list[Any] = [None]
    if state.is_main_process:
        numbers, message = store.prepare()
        if message:
            logger.info(message)
        pending = [numbers]
    broadcast_object_list(pending)
    numbers = pending[0]
    return [store.blocks[i] for i in numbers[state.process_index :: state.num_processes]]


def _encoded(
    encoding: _Encoding, own: Sequence[Block]
) -> Generator[tuple[Block, np.ndarray], None, None]:
    """Blocks with their features, in order."""
    for whole, group in groupby(own, key=lambda block: block.whole):
        blocks = list(group)
        clips = TestClips(
            encoding.cache.path,
            [video for block in blocks for video in block.videos],
            num_frames=encoding.model.num_frames,
            size=encoding.model.backbone.image_size,
            views=encoding.views,
            whole=whole,
        )
        quiet = not encoding.state.is_main_process
        with Progress(encoding.title, len(clips), unit="clips", quiet=quiet) as progress:
            features = encode_blocks(
                encoding.model,
                clips,
                [len(block.videos) for block in blocks],
                batch_size=BATCH[encoding.state.device.type],
                device=encoding.state.device,
                progress=progress,
                workers=encoding.config.workers if len(clips) >= MIN_CLIPS_FOR_WORKERS else 0,
            )
            with closing(features):
                yield from zip(blocks, features, strict=True)


def _model(config: Config, backbone: Backbone) -> VideoCLIP:
    method = config.method
    if not method.trained:
        return untrained_model(config, backbone)
    path = paths.checkpoint(config.dataset.name, method.name, config.split)
    if not path.is_file():
        raise UserError(
            f"no checkpoint {path}: run `vidprompt train` with the same overrides first"
        )
    model, metadata = load_checkpoint(path, backbone)
    if metadata.method != method.name:  # it would be tested as another method is
        raise UserError(f"{path} is of {metadata.method}: put it into its folder, or set method=…")
    return model


def _identity(encoding: _Encoding) -> dict[str, Any]:
    """All that features depend on, besides the videos; blocks of a run are reused only if it is equal."""
    config, backbone = encoding.config, encoding.model.backbone
    return {
        "checkpoint": checkpoint_hash(config.dataset.name, config.method, config.split),
        "backbone": [backbone.tag, backbone.identity()],
        "num_frames": encoding.model.num_frames,
        "views": asdict(encoding.views),
        "frames": sha256(encoding.cache.path / PARAMETERS),  # it has every shard's checksum
        "sizes": [BLOCK, BATCH[encoding.state.device.type]],
        "device": encoding.state.device.type,
        "code": code_hash("features", used_plugins(config, "features")),
        "torch": torch.__version__,
    }


@torch.inference_mode()
def _text(
    encoding: _Encoding, splits: dict[str, Split], prompts: PromptSet
) -> dict[str, np.ndarray]:
    """(C, P, E) a recognition test; equal label sets are encoded once, and are one array."""
    model = encoding.model.eval().to(encoding.state.device)
    encoded: dict[tuple[str, ...], np.ndarray] = {}
    text = {}
    with single_threaded(encoding.state.device):
        for name, split in splits.items():
            if split.protocol == "reid":
                continue
            for test_name, test in split.tests.items():
                key = tuple(test.classes)
                if key not in encoded:
                    encoded[key] = model.encode_classes(test.classes, prompts).float().cpu().numpy()
                text[f"{name}/{test_name}"] = encoded[key]
    return text
