"""Batch samplers: the videos of every batch, a pure function of (counts, seed, step).

A plan is an iterable of batches that can start at any step, so that a resumed run continues without
computing the batches before; it holds at most one epoch's order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Batch = list[tuple[int, int]]  # (epoch, index of the video) of every sample
MIXED_SHARDS = 4  # open at a time when an epoch streams


class BatchPlan:
    """Base class: the batches number `start` to `steps` - 1."""

    def __init__(self, steps: int, start: int = 0) -> None:
        self.steps, self.start = steps, start

    def batch(self, step: int) -> Batch:
        """The samples of one batch."""
        raise NotImplementedError

    def __len__(self) -> int:
        return self.steps - self.start

    def __iter__(self) -> Iterator[Batch]:
        for step in range(self.start, self.steps):
            yield self.batch(step)


class SlicedBatches(BatchPlan):
    """One process's slice of each batch of a plan, from batch `start` on.

    Raises ValueError when `share` selects nothing of a batch.
    """

    def __init__(self, plan: BatchPlan, share: slice, start: int = 0) -> None:
        super().__init__(plan.steps, start)
        self.plan, self.share = plan, share
        if plan.steps > start and not self.batch(start):
            raise ValueError(f"{share} selects nothing of a batch")

    def batch(self, step: int) -> Batch:
        return self.plan.batch(step)[self.share]


class ShuffledBatches(BatchPlan):
    """Shuffled indices below `count`, epoch after epoch.

    A batch that an epoch cannot fill is completed from the next one, so every batch is full, no video
    occurs twice in one, and all occur equally often. With fewer videos than the batch size, a batch has
    all videos.

    With `shards` (the shard of every index) an epoch reads shard by shard: shards come in random order,
    MIXED_SHARDS at a time, and only their videos are shuffled together. Disks and networks that are slow
    at random reads then read each shard once an epoch.
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        steps: int,
        seed: int,
        start: int = 0,
        shards: NDArray[np.int64] | None = None,
    ) -> None:
        super().__init__(steps, start)
        self.shards = shards
        self.count, self.size, self.seed = count, min(batch_size, count), seed
        # with enough batches an epoch, exchanges at its beginning never reach its end, so the end
        # is known without computing earlier epochs
        self.independent = count >= 4 * self.size
        self._orders: dict[int, NDArray[np.int64]] = {}

    def batch(self, step: int) -> Batch:
        first = step * self.size
        samples = [divmod(first + i, self.count) for i in range(self.size)]
        return [(epoch, int(self._order(epoch)[place])) for epoch, place in samples]

    def _shuffled(self, epoch: int) -> NDArray[np.int64]:
        """The random order of an epoch, by groups of shards if there are shards."""
        rng = np.random.default_rng([self.seed, epoch])
        mixed = rng.permutation(self.count)
        if self.shards is None:
            return mixed
        group = np.empty(int(self.shards.max()) + 1, np.int64)
        group[rng.permutation(len(group))] = np.arange(len(group)) // MIXED_SHARDS
        return mixed[np.argsort(group[self.shards[mixed]], kind="stable")]

    def _order(self, epoch: int) -> NDArray[np.int64]:
        """An epoch's final order; the latest one is kept."""
        if epoch not in self._orders:
            known = [e for e in self._orders if e < epoch]
            begin = epoch if self.independent or not epoch else max(known, default=-1) + 1
            for e in range(begin, epoch + 1):
                ordered = self._exchanged(e)
                self._orders = {k: v for k, v in self._orders.items() if k == e - 1} | {e: ordered}
        return self._orders[epoch]

    def _exchanged(self, epoch: int) -> NDArray[np.int64]:
        """The shuffled order, in which no video of an unfinished batch occurs twice.

        Repeated videos of the last epoch are exchanged with later ones.
        """
        order = self._shuffled(epoch)
        carried = epoch * self.count % self.size  # samples of the last epoch in the first batch
        if not carried:
            return order
        last = self._shuffled(epoch - 1) if self.independent else self._orders[epoch - 1]
        repeated = np.isin(order, last[-carried:])
        early = self.size - carried
        twice = np.flatnonzero(repeated[:early])
        instead = early + np.flatnonzero(~repeated[early:])[: len(twice)]
        order[twice], order[instead] = order[instead], order[twice]
        return order


class PersonBatches(BatchPlan):
    """P×K batches for the triplet loss: `people` persons × `tracklets` tracklets of each.

    `persons`: the person of every index. A person with fewer tracklets repeats some under another epoch
    number, so that each sample of a batch is another random clip.
    """

    def __init__(
        self,
        persons: Sequence[int],
        people: int,
        tracklets: int,
        steps: int,
        seed: int,
        start: int = 0,
    ) -> None:
        super().__init__(steps, start)
        labels = np.asarray(persons)
        self.by_person = [np.flatnonzero(labels == person) for person in np.unique(labels)]
        self.people, self.tracklets, self.seed = min(people, len(self.by_person)), tracklets, seed

    def batch(self, step: int) -> Batch:
        rng = np.random.default_rng([self.seed, step])
        batch: Batch = []
        for person in rng.choice(len(self.by_person), self.people, replace=False):
            rows = self.by_person[person]
            order = np.concatenate(
                [rng.permutation(rows) for _ in range(-(-self.tracklets // len(rows)))]
            )
            for place, row in enumerate(order[: self.tracklets]):
                batch.append((step * self.tracklets + place // len(rows), int(row)))
        return batch
