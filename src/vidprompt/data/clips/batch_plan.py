"""Which videos make a batch: every batch is a pure function of (counts, seed, step).

A plan is an iterable of batches that can begin at any step, so that a resumed run goes on where it
stopped without reading what was before, and it holds no more than one epoch's order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Batch = list[tuple[int, int]]  # (epoch, index of the video) of every sample
MIXED_SHARDS = 4  # open at a time when an epoch streams


class BatchPlan:
    """Batches number `start` to `steps` - 1."""

    def __init__(self, steps: int, start: int = 0) -> None:
        self.steps, self.start = steps, start

    def batch(self, step: int) -> Batch:
        raise NotImplementedError

    def __len__(self) -> int:
        return self.steps - self.start

    def __iter__(self) -> Iterator[Batch]:
        for step in range(self.start, self.steps):
            yield self.batch(step)


class SlicedBatches(BatchPlan):
    """One process's share of each batch of a plan, from batch `start` on.

    Raises ValueError when `share` takes nothing of a batch.
    """

    def __init__(self, plan: BatchPlan, share: slice, start: int = 0) -> None:
        super().__init__(plan.steps, start)
        self.plan, self.share = plan, share
        if plan.steps > start and not self.batch(start):
            raise ValueError(f"{share} takes nothing of a batch")

    def batch(self, step: int) -> Batch:
        return self.plan.batch(step)[self.share]


class ShuffledBatches(BatchPlan):
    """Epoch after epoch of shuffled indices below `count`.

    A batch that an epoch cannot fill is completed from the next one, so every batch is full, no video
    is twice in one, and all are seen equally often. Where there are fewer videos than a batch takes,
    batches are as large as there are videos.

    `shards` (the shard of every index) makes an epoch stream: shards come in random order, a few at a
    time, and only the videos of these few are mixed. Disks and networks that are slow at random reads
    then read each shard once an epoch.
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
        # with enough batches an epoch, what is exchanged at its beginning never reaches its end, so
        # the end is known without the epochs before
        self.independent = count >= 4 * self.size
        self._orders: dict[int, NDArray[np.int64]] = {}

    def batch(self, step: int) -> Batch:
        first = step * self.size
        samples = [divmod(first + i, self.count) for i in range(self.size)]
        return [(epoch, int(self._order(epoch)[place])) for epoch, place in samples]

    def _shuffled(self, epoch: int) -> NDArray[np.int64]:
        rng = np.random.default_rng([self.seed, epoch])
        mixed = rng.permutation(self.count)
        if self.shards is None:
            return mixed
        turn = np.empty(int(self.shards.max()) + 1, np.int64)
        turn[rng.permutation(len(turn))] = np.arange(len(turn)) // MIXED_SHARDS
        return mixed[np.argsort(turn[self.shards[mixed]], kind="stable")]

    def _order(self, epoch: int) -> NDArray[np.int64]:
        if epoch not in self._orders:
            known = [e for e in self._orders if e < epoch]
            begin = epoch if self.independent or not epoch else max(known, default=-1) + 1
            for e in range(begin, epoch + 1):
                ordered = self._exchanged(e)
                self._orders = {k: v for k, v in self._orders.items() if k == e - 1} | {e: ordered}
        return self._orders[epoch]

    def _exchanged(self, epoch: int) -> NDArray[np.int64]:
        """An epoch's order: shuffled, with no video in its first batch that the last epoch left there."""
        order = self._shuffled(epoch)
        begun = epoch * self.count % self.size  # samples of the last epoch in the batch
        if not begun:
            return order
        last = self._shuffled(epoch - 1) if self.independent else self._orders[epoch - 1]
        there = np.isin(order, last[-begun:])
        early = self.size - begun
        twice = np.flatnonzero(there[:early])
        instead = early + np.flatnonzero(~there[early:])[: len(twice)]
        order[twice], order[instead] = order[instead], order[twice]
        return order


class PersonBatches(BatchPlan):
    """P×K batches for the triplet loss: `people` persons × `tracklets` tracklets of each.

    A person with fewer tracklets repeats some, as another clip: no two samples of a batch draw alike.
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
