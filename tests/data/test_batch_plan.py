"""Batches: full, fair, and the same from wherever a run begins."""

from __future__ import annotations

import pickle

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vidprompt.data.clips.batch_plan import MIXED_SHARDS, PersonBatches, ShuffledBatches


@given(st.integers(1, 200), st.integers(1, 16), st.integers(1, 60), st.integers(0, 3))
def test_batches_are_full_and_every_video_is_seen_equally_often(
    count: int, batch_size: int, steps: int, seed: int
) -> None:
    plan = list(ShuffledBatches(count, batch_size, steps, seed))
    drawn = [sample for batch in plan for sample in batch]
    assert len(set(drawn)) == len(drawn)  # never the same video in the same epoch twice
    batches = [[index for _, index in batch] for batch in plan]
    assert {len(batch) for batch in batches} == {min(batch_size, count)}
    assert all(len(set(batch)) == len(batch) for batch in batches)
    seen = np.bincount(np.concatenate(batches), minlength=count)
    assert seen.max() - seen.min() <= 1
    assert sorted(epoch for epoch, _ in drawn) == [epoch for epoch, _ in drawn]


@given(st.integers(1, 200), st.integers(1, 16), st.integers(1, 60), st.data())
def test_a_run_that_begins_later_has_the_same_batches(
    count: int, batch_size: int, steps: int, data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, steps))
    whole = list(ShuffledBatches(count, batch_size, steps, 3))
    plan = pickle.loads(pickle.dumps(ShuffledBatches(count, batch_size, steps, 3, start=start)))
    assert len(plan) == steps - start
    assert list(plan) == whole[start:]
    assert list(plan) == whole[start:]  # and again


def test_epochs_differ_and_seeds_do() -> None:
    one, other = (list(ShuffledBatches(50, 10, 10, seed)) for seed in (0, 1))
    assert one != other
    assert [i for b in one[:5] for _, i in b] != [i for b in one[5:] for _, i in b]


def test_an_epoch_of_millions_is_not_listed() -> None:
    plan = ShuffledBatches(1_000_000, 64, 10_000_000, 0, start=9_999_990)
    assert len(list(plan)) == 10
    assert len(plan._orders) <= 2


def test_a_streamed_epoch_reads_few_shards_at_a_time() -> None:
    shards = np.repeat(np.arange(10), [7, 3, 30, 11, 9, 5, 20, 1, 8, 6])
    plan = ShuffledBatches(len(shards), 5, 40, seed=2, shards=shards)
    drawn = [sample for batch in plan for sample in batch]
    seen: dict[int, list[int]] = {}
    for place, (epoch, index) in enumerate(drawn[:100]):
        assert epoch == 0
        seen.setdefault(int(shards[index]), []).append(place)
    assert sorted(index for _, index in drawn[:100]) == list(range(100))
    for place in range(100):
        assert sum(min(at) <= place <= max(at) for at in seen.values()) <= MIXED_SHARDS
    orders = [[int(shards[index]) for _, index in drawn[e * 100 : e * 100 + 100]] for e in (0, 1)]
    assert orders[0] != orders[1]
    again = ShuffledBatches(len(shards), 5, 40, seed=2, start=27, shards=shards)
    assert list(again) == list(plan)[27:]


def test_person_batches_hold_p_people_with_k_tracklets() -> None:
    persons = [0, 0, 0, 1, 1, 2, 3, 3, 3]
    plan = PersonBatches(persons, people=3, tracklets=2, steps=20, seed=0)
    draws: set[tuple[int, int]] = set()
    for batch in plan:
        assert len(set(batch)) == len(batch) == 6  # nobody twice, or as another clip
        assert not draws & set(batch)  # and never as in a batch before
        draws |= set(batch)
        labels = np.asarray(persons)[[index for _, index in batch]]
        values, counts = np.unique(labels, return_counts=True)
        assert (len(values), set(counts)) == (3, {2})
        for value in set(values) - {2}:  # the only one with a single tracklet repeats it
            assert len({index for _, index in batch if persons[index] == value}) == 2
    assert list(PersonBatches(persons, 3, 2, 20, 0, start=7)) == list(plan)[7:]
    assert len(PersonBatches(persons, 9, 2, 20, 0).batch(0)) == 8  # of four people
