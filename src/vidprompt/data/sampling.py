"""Which frames and which videos: pure functions of (counts, seed, epoch or step, video)."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence

import numpy as np

Batch = list[tuple[int, int]]  # (epoch, index of the video) of every sample


def segment_frames(
    n_frames: int, num_frames: int, *, rng: np.random.Generator | None = None
) -> np.ndarray:
    """One frame a segment (TSN): `num_frames` positions in [0, n_frames), ascending.

    The video is cut into `num_frames` equal segments; with `rng` a random frame of each (training),
    without it the segment's centre (test). Short videos repeat frames.
    """
    if rng is None:
        return (2 * np.arange(num_frames) + 1) * n_frames // (2 * num_frames)
    edges = np.linspace(0, n_frames, num_frames + 1)
    positions = edges[:-1] + rng.random(num_frames) * (edges[1:] - edges[:-1])
    return np.minimum(positions.astype(np.int64), n_frames - 1)


def clip_rng(seed: int, epoch: int, video_id: str) -> np.random.Generator:
    """The random numbers of one video in one epoch, whatever process or worker asks."""
    return np.random.default_rng([seed, epoch, zlib.crc32(video_id.encode())])


def shuffled_batches(count: int, batch_size: int, steps: int, seed: int) -> Iterator[Batch]:
    """`steps` batches: epoch after epoch of shuffled indices.

    The last batch of an epoch is completed from the next one, so every batch is full and every video
    is seen equally often.
    """
    size = min(batch_size, count)
    pending, epoch = np.empty((0, 2), np.int64), 0
    for _ in range(steps):
        if len(pending) < size:
            order = np.random.default_rng([seed, epoch]).permutation(count)
            # what is left of the old epoch comes first; no video twice in one batch
            late = np.isin(order, pending[:, 1])
            order = np.concatenate([order[~late], order[late]])
            fresh = np.stack([np.full(count, epoch), order], 1)
            pending = np.concatenate([pending, fresh])
            epoch += 1
        yield [(int(e), int(i)) for e, i in pending[:size]]
        pending = pending[size:]


def person_batches(
    persons: Sequence[int], people: int, tracklets: int, steps: int, seed: int
) -> Iterator[Batch]:
    """P×K batches for the triplet loss: `people` persons × `tracklets` tracklets of each.

    A person with fewer tracklets repeats some.
    """
    labels = np.asarray(persons)
    by_person = [np.flatnonzero(labels == p) for p in np.unique(labels)]
    people = min(people, len(by_person))
    for step in range(steps):
        rng = np.random.default_rng([seed, step])
        chosen = rng.choice(len(by_person), people, replace=False)
        rows = [
            rng.choice(by_person[p], tracklets, replace=len(by_person[p]) < tracklets)
            for p in chosen
        ]
        yield [(step, int(i)) for i in np.concatenate(rows)]
