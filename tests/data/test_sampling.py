"""Samplers are pure functions, fair and in order."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vidprompt.data.sampling import clip_rng, person_batches, segment_frames, shuffled_batches


@given(st.integers(1, 500), st.integers(1, 40), st.booleans())
def test_one_frame_of_each_segment(n_frames: int, num_frames: int, random: bool) -> None:
    rng = np.random.default_rng(0) if random else None
    positions = segment_frames(n_frames, num_frames, rng=rng)
    assert len(positions) == num_frames
    edges = np.linspace(0, n_frames, num_frames + 1)
    assert (positions >= np.floor(edges[:-1])).all()
    assert (positions < np.ceil(edges[1:])).all()
    assert (np.diff(positions) >= 0).all()


def test_centres_by_hand() -> None:
    assert segment_frames(24, 8).tolist() == [1, 4, 7, 10, 13, 16, 19, 22]
    assert segment_frames(3, 6).tolist() == [0, 0, 1, 1, 2, 2]


def test_a_video_draws_the_same_whoever_asks_and_another_each_epoch() -> None:
    first = segment_frames(100, 8, rng=clip_rng(1, 0, "a"))
    assert (first == segment_frames(100, 8, rng=clip_rng(1, 0, "a"))).all()
    for other in ((1, 1, "a"), (2, 0, "a"), (1, 0, "b")):
        assert (first != segment_frames(100, 8, rng=clip_rng(*other))).any()


@given(st.integers(1, 40), st.integers(1, 16), st.integers(1, 30))
def test_batches_are_full_and_every_video_is_seen_equally_often(
    count: int, batch_size: int, steps: int
) -> None:
    plan = list(shuffled_batches(count, batch_size, steps, seed=3))
    drawn = [sample for batch in plan for sample in batch]
    assert len(set(drawn)) == len(drawn)  # never the same video in the same epoch twice
    batches = [[index for _, index in batch] for batch in plan]
    assert {len(batch) for batch in batches} == {min(batch_size, count)}
    assert all(len(set(batch)) == len(batch) for batch in batches)
    seen = np.bincount(np.concatenate(batches), minlength=count)
    assert seen.max() - seen.min() <= 2


def test_person_batches_hold_p_people_with_k_tracklets() -> None:
    persons = [0, 0, 0, 1, 1, 2, 3, 3, 3]
    for step, plan in enumerate(person_batches(persons, people=3, tracklets=2, steps=20, seed=0)):
        assert {epoch for epoch, _ in plan} == {step}
        batch = np.array([index for _, index in plan])
        labels = np.asarray(persons)[batch]
        values, counts = np.unique(labels, return_counts=True)
        assert len(values) == 3
        assert (counts == 2).all()
        for value in values:
            if value != 2:  # the only one with a single tracklet repeats it
                assert len(set(batch[labels == value])) == 2
