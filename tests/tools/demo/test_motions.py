"""The demo's promise: a single frame does not give the motion away, the order of frames does."""

from typing import Any

import numpy as np
import torch
from scipy.stats import ks_2samp
from tools.demo.actions import ACTIONS, draw_videos, is_rare
from tools.demo.motions import MOTIONS, draw_pose, frame_times
from tools.demo.scenes import SHAPES


def poses(motion: str, count: int, seed: int) -> Any:
    generator = torch.Generator().manual_seed(seed)
    which = torch.full((count,), MOTIONS.index(motion))
    return draw_pose(which, frame_times(count, 24), ACTIONS.style, generator)


def test_a_random_frame_is_distributed_alike_under_every_motion() -> None:
    rng = np.random.default_rng(0)
    samples = {}
    for number, motion in enumerate(MOTIONS):
        pose = poses(motion, 1500, number)
        moment = torch.from_numpy(rng.integers(0, 24, 1500))[:, None]
        picked = [f.gather(1, moment)[:, 0] for f in (pose.x, pose.y, pose.radius)]
        samples[motion] = [*picked, pose.angle.gather(1, moment)[:, 0]]
    reference = samples["moving left"]
    for motion in MOTIONS[1:]:
        for ours, theirs in zip(samples[motion], reference, strict=True):
            assert ks_2samp(ours, theirs).pvalue > 1e-4, motion


def test_the_order_of_frames_gives_it_away() -> None:
    channel = {"moving": 0, "growing": 2, "shrinking": 2, "turning": 3}
    for seed, motion in enumerate(MOTIONS):
        pose = poses(motion, 300, seed)
        change = [f[:, -1] - f[:, 0] for f in (pose.x, pose.y, pose.radius.log(), pose.angle)]
        which = channel[motion.split()[0]]
        if motion in ("moving up", "moving down"):
            which = 1
        sign = -1 if motion.split()[-1] in ("left", "up", "shrinking", "anticlockwise") else 1
        assert (sign * change[which] > 0.1).all(), motion


def test_novel_combinations_have_known_objects_and_motions() -> None:
    rare = np.array([[is_rare(s, m) for m in range(8)] for s in range(6)])
    assert (rare.sum(1) == 4).all()  # four motions an object in each half
    assert (rare.sum(0) == 3).all()  # three objects a motion
    assert (rare[:, ::2] == rare[:, 1::2]).all()  # pairs stay together


def test_videos_are_a_function_of_the_seed() -> None:
    one = draw_videos(ACTIONS, "star", "growing", 1, 2, 1)
    assert one.shape == (2, 24, 48, 64, 3)
    assert torch.equal(one, draw_videos(ACTIONS, "star", "growing", 1, 2, 1))
    assert not torch.equal(one, draw_videos(ACTIONS, "star", "growing", 2, 2, 1))
    assert SHAPES[:6] == ACTIONS.style.shapes
