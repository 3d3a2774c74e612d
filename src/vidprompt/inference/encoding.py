"""Encode test videos: the features of all their views by a model."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from itertools import accumulate, pairwise
from typing import Any, TypeVar

import numpy as np
import torch

from vidprompt.data.clips.loading import load_batches
from vidprompt.data.clips.reading import normalise
from vidprompt.data.clips.shared_batches import Stack
from vidprompt.data.clips.testing import TestClips
from vidprompt.models.methods.video_clip import VideoCLIP
from vidprompt.models.precision import computing_in
from vidprompt.system.progress import Progress

Item = TypeVar("Item")
Value = TypeVar("Value")
MIN_CLIPS_FOR_WORKERS = 5_000  # for fewer, starting worker processes takes longer than they save


def encode_videos(
    model: VideoCLIP,
    clips: TestClips,
    *,
    batch_size: int,
    device: torch.device,
    progress: Progress,
    workers: int = 0,
) -> np.ndarray:
    """Features of all videos at once, float32 (N, views, E): see `encode_blocks`."""
    sizes = [len(clips.rows)]
    (features,) = encode_blocks(
        model,
        clips,
        sizes,
        batch_size=batch_size,
        device=device,
        progress=progress,
        workers=workers,
    )
    return features


def encode_blocks(
    model: VideoCLIP,
    clips: TestClips,
    sizes: Sequence[int],
    *,
    batch_size: int,
    device: torch.device,
    progress: Progress,
    workers: int = 0,
) -> Generator[np.ndarray, None, None]:
    """Features of the first `sizes[0]` videos, then of the next `sizes[1]`, and so on.

    Each is float32 (n, views, E), in the order of the videos, not normalised. Views are clips × crops.
    Of whole tracklets, whose numbers of clips differ, the mean over clips is kept: (n, 1, E).
    `batch_size` counts clips. No batch has videos of two blocks, and on a CPU each batch is computed by
    one thread (several batches at once), so that a block's features depend on its videos only.
    """
    edges = clips.first[[0, *accumulate(sizes)]].tolist()
    batches: list[Any] = [  # ranges, for millions of clips
        range(start, min(start + batch_size, end))
        for begin, end in pairwise(edges)
        for start in range(begin, end, batch_size)
    ]
    model.eval().to(device)
    with single_threaded(device) as threads:
        loader = load_batches(
            clips,
            batches,
            workers,
            collate=_collate,
            pin_memory=device.type == "cuda",
            batch_bytes=clips.item_bytes * batch_size,
            in_use=threads + 1,
        )
        encoded = map_ahead(lambda frames: _encode(model, frames, clips, device), loader, threads)
        with closing(loader), closing(encoded):
            for begin, end in pairwise(edges):
                parts = list[torch.Tensor]()
                for _ in range(begin, end, batch_size):
                    parts.append(next(encoded))
                    progress.advance(len(parts[-1]) // clips.crops)
                owner = torch.from_numpy(clips.owner[begin:end])
                yield _by_video(torch.cat(parts), owner, clips.whole)


def _collate(items: Sequence[torch.Tensor], stack: Stack) -> torch.Tensor:
    return stack(items)


def _by_video(features: torch.Tensor, owner: torch.Tensor, whole: bool) -> np.ndarray:
    """Features of clips × crops in order → (n, views, E); of whole tracklets their means, (n, 1, E)."""
    owner = owner - owner[0]
    n = int(owner[-1]) + 1
    if not whole:
        return features.reshape(n, -1, features.shape[1]).numpy()
    total = torch.zeros(n, features.shape[1]).index_add_(0, owner, features)
    return (total / torch.bincount(owner)[:, None])[:, None].numpy()


@torch.inference_mode()
def _encode(
    model: VideoCLIP, frames: torch.Tensor, clips: TestClips, device: torch.device
) -> torch.Tensor:
    """(b, crops, T, 3, S, S) in [0, 255] → float32 (b · crops, E) on the CPU."""
    frames = frames.to(device, non_blocking=True).flatten(0, 1)
    with computing_in(clips.views.precision, device):
        video = normalise(frames, model.backbone.mean, model.backbone.std, device)
        return model.encode_video(video)[1].float().cpu()


@contextmanager
def single_threaded(device: torch.device) -> Iterator[int]:
    """On a CPU, limit PyTorch to one thread; yields how many batches to compute at once instead.

    Sums of several threads differ in the last bits with their number, and features would differ with the
    number of processes that share the cores.
    """
    threads = torch.get_num_threads()
    if device.type != "cpu":
        yield 1
        return
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)


def map_ahead(
    function: Callable[[Item], Value], items: Iterable[Item], threads: int
) -> Generator[Value, None, None]:
    """`map` with threads, in order; the next item is loaded while they compute."""
    waiting: deque[Future[Value]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:  # after an error
                future.cancel()
