"""Samplers are pure functions, fair and in order."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidprompt.data.frames.sampling import (
    Views,
    clip_rng,
    tracklet_clips,
    training_frames,
)
from vidprompt.system.errors import UserError


def test_a_training_on_centres_sees_what_a_test_sees() -> None:
    for epoch in (0, 1):
        found = training_frames("centre", 24, 8, 1, clip_rng(1, epoch, "a"))
        assert found.tolist() == Views().frames(24, 8)[0].tolist()


def test_a_video_draws_the_same_whoever_asks_and_another_each_epoch() -> None:
    first = training_frames("segment", 100, 8, 1, clip_rng(1, 0, "a"))
    assert (first == training_frames("segment", 100, 8, 1, clip_rng(1, 0, "a"))).all()
    for other in ((1, 1, "a"), (2, 0, "a"), (1, 0, "b")):
        assert (first != training_frames("segment", 100, 8, 1, clip_rng(*other))).any()


@given(st.integers(1, 400), st.integers(1, 16), st.integers(1, 5), st.integers(1, 4))
def test_views_are_in_range_and_spread_over_the_video(
    n_frames: int, num_frames: int, clips: int, stride: int
) -> None:
    for sampling in ("segment", "dense"):
        views = Views(sampling, stride, clips)
        positions = views.frames(n_frames, num_frames)
        assert positions.shape == (clips, num_frames)
        assert positions.min() >= 0
        assert positions.max() < n_frames
        assert (positions == views.frames(n_frames, num_frames)).all()
        assert (np.diff(positions[:, 0]) >= 0).all()
    span = (num_frames - 1) * stride + 1
    if clips > 1 and n_frames >= span:  # from the first frame to the last
        assert (positions[0, 0], positions[-1, -1]) == (0, n_frames - 1)
        assert (np.diff(positions, axis=1) == stride).all()


def test_views_by_hand() -> None:
    assert Views().frames(24, 8)[0].tolist() == [1, 4, 7, 10, 13, 16, 19, 22]
    assert Views().frames(48, 8)[0].tolist() == [2, 8, 14, 20, 26, 32, 38, 44]
    assert Views().frames(3, 6)[0].tolist() == [0, 0, 1, 1, 2, 2]
    assert Views(clips=3).frames(12, 2).tolist() == [[0, 6], [2, 8], [4, 10]]
    assert Views("dense", 2).frames(9, 3).tolist() == [[2, 4, 6]]
    assert Views("dense", 2, clips=2).frames(9, 3).tolist() == [[0, 2, 4], [4, 6, 8]]
    assert Views("dense", 1, clips=3).frames(8, 2).tolist() == [[0, 1], [3, 4], [6, 7]]
    assert Views("dense", 1, clips=3).frames(6, 2).tolist() == [[0, 1], [2, 3], [4, 5]]
    assert Views("dense", 1).frames(2, 5).tolist() == [[0, 1, 1, 1, 1]]


def test_even_indices_by_hand() -> None:
    even = Views(indices="even")
    assert even.frames(48, 8)[0].tolist() == [3, 9, 15, 21, 27, 33, 39, 45]
    assert even.frames(3, 6)[0].tolist() == [0, 0, 1, 1, 2, 2]
    assert Views(clips=3, indices="even").frames(12, 2).tolist() == [[1, 7], [3, 9], [5, 11]]
    dense = Views("dense", 1, clips=3, indices="even")
    assert dense.frames(5, 2).tolist() == [[0, 1], [1, 2], [3, 4]]
    assert dense.frames(2, 5)[0].tolist() == [0, 1, 0, 1, 0]


def test_views_that_make_no_sense() -> None:
    with pytest.raises(UserError, match="sampling=uniform: valid: segment, dense"):
        Views("uniform")
    with pytest.raises(UserError, match="1 or 3 crops"):
        Views(crops=2)
    with pytest.raises(UserError, match="views.resize=200: null, or at least 224"):
        Views(resize=200)
    with pytest.raises(UserError, match="indices=evn: did you mean even"):
        Views(indices="evn")
    with pytest.raises(UserError, match="interpolation=nearest: valid: bilinear, bicubic"):
        Views(interpolation="nearest")


@given(st.integers(1, 60), st.integers(1, 9), st.integers(1, 3), st.text(max_size=5))
def test_an_order_rearranges_each_clip_alone(
    n_frames: int, num_frames: int, clips: int, video: str
) -> None:
    for sampling in ("segment", "dense"):
        forward, backward, shuffled = (
            Views(sampling, 2, clips, order=order).frames(n_frames, num_frames, video)
            for order in ("forward", "reversed", "shuffled")
        )
        assert (backward == forward[:, ::-1]).all()
        assert (np.sort(shuffled) == np.sort(forward)).all()


def test_a_video_is_shuffled_the_same_each_time_and_as_no_other() -> None:
    views = Views(clips=3, order="shuffled")
    first = views.frames(24, 8, "a")
    assert (first == views.frames(24, 8, "a")).all()
    assert (first != views.frames(24, 8, "b")).any()
    ranks = first.argsort().argsort()
    assert (ranks[0] != ranks[1]).any()  # nor do its clips share an order
    both = [Views(order="shuffled").frames(8, 2, f"v{i}")[0].tolist() for i in range(400)]
    assert (
        160 < both.count([1, 5]) < 240
    )  # right and reversed are equally likely: no bias to either
    with pytest.raises(UserError, match="order=random: .*valid: forward, reversed, shuffled"):
        Views(order="random")
    with pytest.raises(UserError, match="precision=fp8: .*valid: no, tf32, bf16, fp16"):
        Views(precision="fp8")


@given(st.integers(1, 200), st.integers(1, 12), st.integers(1, 5))
def test_all_frames_of_a_tracklet_are_in_a_clip(
    n_frames: int, num_frames: int, stride: int
) -> None:
    clips = tracklet_clips(n_frames, num_frames, stride)
    assert clips.shape[1] == num_frames
    assert set(clips.ravel()) == set(range(n_frames))
    assert len(clips) == -(-n_frames // num_frames)


def test_tracklet_clips_by_hand() -> None:
    # a block of 32 in four interleaved clips; 19 left: two clips with stride 2, and three frames
    clips = tracklet_clips(51).tolist()
    assert clips[:4] == [[i + 4 * k for k in range(8)] for i in range(4)]
    assert clips[4:6] == [[32 + i + 2 * k for k in range(8)] for i in range(2)]
    assert clips[6:] == [[48, 49, 50, 48, 49, 50, 48, 49]]
    assert tracklet_clips(3, 4, 2).tolist() == [[0, 1, 2, 0]]


@given(st.integers(1, 100), st.integers(1, 16), st.integers(1, 5), st.integers(0, 9))
def test_training_frames_follow_seed_epoch_and_video_alone(
    n_frames: int, num_frames: int, stride: int, epoch: int
) -> None:
    for sampling in ("segment", "dense"):
        drawn = [
            training_frames(sampling, n_frames, num_frames, stride, clip_rng(1, epoch, "a"))
            for _ in range(2)
        ]
        assert (drawn[0] == drawn[1]).all()
        assert drawn[0].min() >= 0
        assert drawn[0].max() < n_frames
