"""RandAugment: timm's operations and strengths, the same for all frames of a clip."""

import numpy as np
import pytest
import torch
from PIL import Image

from vidprompt.data.clips.rand_augment import (
    OPERATIONS,
    DrawnOperation,
    RandAugment,
    apply_operation,
    draw_operations,
)
from vidprompt.system.errors import UserError

TIMM = {
    "auto_contrast": "AutoContrast", "equalise": "Equalize", "invert": "Invert", "rotate": "Rotate",
    "posterise": "PosterizeIncreasing", "solarise": "SolarizeIncreasing", "solarise_add": "SolarizeAdd",
    "colour": "ColorIncreasing", "contrast": "ContrastIncreasing",
    "brightness": "BrightnessIncreasing", "sharpness": "SharpnessIncreasing",
    "shear_x": "ShearX", "shear_y": "ShearY",
    "translate_x": "TranslateXRel", "translate_y": "TranslateYRel",
}  # fmt: skip
MOVING = {"rotate", "shear_x", "shear_y", "translate_x", "translate_y"}


def picture() -> np.ndarray:
    """uint8 (120, 160, 3), smooth with some noise, not using the whole range."""
    y, x = np.mgrid[0:120, 0:160]
    waves = [np.sin(x / 18 + y / 26), np.cos(x / 14 - y / 22), np.sin(x / 10) * np.cos(y / 12)]
    noise = np.random.default_rng(0).normal(0, 5, (120, 160, 3))
    return (128 + 90 * np.stack(waves, -1) + noise).clip(10, 245).astype(np.uint8)


def clip_of(*pictures: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)


def augment(clip: torch.Tensor, name: str, magnitude: float, sign: int = 1) -> torch.Tensor:
    return apply_operation(clip, DrawnOperation(name, magnitude, sign))


def rand_augment(
    clip: torch.Tensor, settings: RandAugment, rng: np.random.Generator
) -> torch.Tensor:
    for drawn in draw_operations(settings, rng):
        clip = apply_operation(clip, drawn)
    return clip


def test_the_operations_are_those_of_timms_increasing_set() -> None:
    timm = pytest.importorskip("timm.data.auto_augment")
    assert [TIMM[name] for name in OPERATIONS] == timm._RAND_INCREASING_TRANSFORMS


@pytest.mark.parametrize("name", TIMM)
@pytest.mark.parametrize("magnitude", [0.0, 3.3, 7.0, 9.9])
def test_an_operation_does_what_timms_does(
    name: str, magnitude: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    timm = pytest.importorskip("timm.data.auto_augment")
    for sign in (1, -1):
        monkeypatch.setattr(timm, "_randomly_negate", lambda level, sign=sign: sign * level)
        options = {"interpolation": Image.Resampling.BILINEAR}
        theirs = timm.AugmentOp(TIMM[name], prob=1.0, magnitude=magnitude, hparams=options)
        want = np.asarray(theirs(Image.fromarray(picture()))).astype(int)
        ours = augment(clip_of(picture()), name, magnitude, sign)[0].permute(1, 2, 0)
        difference = np.abs(want - ours.numpy().astype(int)).max(-1)
        # where a moved picture ends, torchvision blends with the grey behind it
        edge = 0.02 if name in MOVING else 0.0
        assert (difference > 2).mean() <= edge, (name, sign)


def test_what_a_magnitude_means_without_timm() -> None:
    source = clip_of(picture())
    assert torch.equal(augment(source, "posterise", 7), source & 0b11000000)  # 2 bits are kept
    bright = torch.where(source >= 256 - 179, 255 - source, source)
    assert torch.equal(augment(source, "solarise", 7), bright)
    assert torch.equal(
        augment(source, "translate_x", 10 / 0.45 * 0.25)[..., :120], source[..., 40:]
    )
    dimmer, brighter = [augment(source, "brightness", 7, sign).float().mean() for sign in (-1, 1)]
    assert float(dimmer) == pytest.approx(0.37 * float(source.float().mean()), rel=0.02)
    assert brighter > source.float().mean()
    for name in (
        "rotate",
        "shear_x",
        "colour",
        "contrast",
        "brightness",
        "sharpness",
        "solarise_add",
    ):
        assert torch.equal(augment(source, name, 0), source), name


def test_all_frames_are_changed_alike_and_clips_differently() -> None:
    still = clip_of(*[picture()] * 3)
    views = [rand_augment(still, RandAugment(), np.random.default_rng(n)) for n in range(20)]
    for one in views:
        assert one.shape == still.shape
        assert one.dtype == torch.uint8
        assert (one == one[:1]).all()
    assert len({one.numpy().tobytes() for one in views}) > 15  # half of the layers do nothing
    assert torch.equal(still, clip_of(*[picture()] * 3))  # the source is left as it was


def test_equal_random_numbers_give_equal_clips() -> None:
    moving = clip_of(picture(), picture()[::-1].copy())
    one, other = (rand_augment(moving, RandAugment(), np.random.default_rng(5)) for _ in "ab")
    assert torch.equal(one, other)
    assert not torch.equal(one, moving)


def test_probability_and_layers_are_followed() -> None:
    source = clip_of(picture())
    never = RandAugment(layers=8, probability=0.0)
    assert torch.equal(rand_augment(source, never, np.random.default_rng(0)), source)
    always = RandAugment(layers=1, std=0.0, probability=1.0)
    seen = {
        name
        for seed in range(120)
        for done in [rand_augment(source, always, np.random.default_rng(seed))]
        for name in OPERATIONS
        if any(torch.equal(done, augment(source, name, 7, sign)) for sign in (1, -1))
    }
    assert seen == set(OPERATIONS)


@pytest.mark.parametrize(
    ("numbers", "says"),
    [
        (
            {"layer": 4},
            "rand_augment has no 'layer': did you mean layers\\? valid: layers, magnitude, std, probability",
        ),
        ({"magnitude": 11}, "a magnitude in \\[0, 10\\]"),
        ({"probability": 1.5}, "a probability in \\[0, 1\\]"),
    ],
)
def test_a_wrong_number_is_a_sentence(numbers: dict[str, float], says: str) -> None:
    with pytest.raises(UserError, match=says):
        RandAugment.of(numbers)
