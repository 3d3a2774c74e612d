"""Augmentation treats all frames of a clip alike and changes only what it is asked to."""

import itertools

import numpy as np
import torch

from vidprompt.data.loading import Augmentation, training_view


def clip_of_one_picture() -> torch.Tensor:
    picture = torch.randint(0, 256, (3, 48, 64), generator=torch.Generator().manual_seed(0))
    return picture.to(torch.uint8).expand(8, 3, 48, 64).clone()


def view(seed: int, **options: object) -> torch.Tensor:
    chosen = Augmentation(**options)  # type: ignore[arg-type]
    return training_view(clip_of_one_picture(), 48, chosen, np.random.default_rng(seed))


def test_all_frames_of_a_clip_are_augmented_alike_and_clips_differently() -> None:
    everything = {
        "scales": (1.0, 0.75), "flip": True, "jitter": 1.0, "channels": 1.0, "greyscale": 0.5
    }  # fmt: skip
    views = [view(seed, **everything) for seed in range(12)]
    for one in views:
        assert one.shape == (8, 3, 48, 48)
        assert one.dtype == torch.uint8
        assert (one == one[:1]).all()
    assert len({one.numpy().tobytes() for one in views}) == 12
    assert torch.equal(views[3], view(3, **everything))


def test_what_is_off_changes_nothing() -> None:
    source = clip_of_one_picture()
    plain = view(5)
    assert any(torch.equal(plain, source[..., left : left + 48]) for left in range(17))
    assert torch.equal(view(5, jitter=1.0, jitter_strength=(0, 0, 0, 0)), plain)


def test_shuffled_channels_are_the_same_three_planes() -> None:
    source = clip_of_one_picture()[..., :48]
    orders = set()
    for seed in range(40):
        rng = np.random.default_rng(seed)
        shuffled = training_view(source, 48, Augmentation(channels=1.0), rng)[0]
        planes = [[torch.equal(new, old) for old in source[0]] for new in shuffled]
        orders.add(tuple(plane.index(True) for plane in planes))
    assert orders == set(itertools.permutations(range(3)))
