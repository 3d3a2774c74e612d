"""Random crops: boxes inside the picture, of the shares and shapes asked for."""

import numpy as np
import pytest

from vidprompt.data.clips.crops import erased_box, multi_scale_box, resized_box

HEIGHT, WIDTH = 256, 340


def test_squares_of_the_short_side_anywhere() -> None:
    rng = np.random.default_rng(0)
    boxes = [multi_scale_box(HEIGHT, WIDTH, rng, scales=(1, 0.875, 0.75)) for _ in range(300)]
    assert {(tall, wide) for _, _, tall, wide in boxes} == {(256, 256), (224, 224), (192, 192)}
    assert all(0 <= top <= HEIGHT - tall for top, _, tall, _ in boxes)
    assert all(0 <= left <= WIDTH - wide for _, left, _, wide in boxes)
    assert len({left for _, left, _, _ in boxes}) > 50


def test_sides_differ_by_one_scale_and_stand_in_thirteen_places() -> None:
    rng = np.random.default_rng(0)
    options = {"scales": (1, 0.875, 0.75, 0.66), "distort": 1, "fixed_places": True}
    boxes = [multi_scale_box(HEIGHT, WIDTH, rng, **options) for _ in range(2000)]
    sides = [256, 224, 192, 168]
    pairs = {(sides.index(tall), sides.index(wide)) for _, _, tall, wide in boxes}
    assert pairs == {(i, j) for i in range(4) for j in range(4) if abs(i - j) <= 1}
    places = {(top, left) for top, left, tall, wide in boxes if (tall, wide) == (192, 192)}
    corners = {(y, x) for y in (0, 32, 64) for x in (0, 74, 148)}
    assert places == corners | {(y, x) for y in (16, 48) for x in (37, 111)}
    # steps of the grid are whole: 53 pixels are left of 60 in steps of 13, not to the border
    lefts = {multi_scale_box(60, 113, rng, fixed_places=True)[1] for _ in range(200)}
    assert lefts == {0, 13, 26, 39, 52}


def test_areas_and_ratios_are_in_their_ranges() -> None:
    rng = np.random.default_rng(0)
    boxes = [
        resized_box(HEIGHT, WIDTH, rng, area=(0.08, 1), ratio=(3 / 4, 4 / 3)) for _ in range(500)
    ]
    areas = [tall * wide / (HEIGHT * WIDTH) for _, _, tall, wide in boxes]
    ratios = [wide / tall for _, _, tall, wide in boxes]
    assert 0.075 < min(areas) < 0.12
    assert max(areas) > 0.9
    assert 0.73 < min(ratios) < 0.78
    assert 1.28 < max(ratios) < 1.36
    for top, left, tall, wide in boxes:
        assert 0 <= top <= HEIGHT - tall
        assert 0 <= left <= WIDTH - wide


@pytest.mark.parametrize(
    ("size", "box"),
    [
        ((100, 400), (0, 133, 100, 133)),
        ((400, 100), (133, 0, 133, 100)),
        ((100, 120), (0, 0, 100, 120)),
    ],
)
def test_where_nothing_fits_the_middle_is_taken(
    size: tuple[int, int], box: tuple[int, int, int, int]
) -> None:
    rng = np.random.default_rng(0)
    found = resized_box(*size, rng, area=(1, 1), ratio=(3 / 4, 4 / 3))
    assert found == box


def test_erased_boxes_have_uniform_areas_and_shapes_and_fit() -> None:
    rng = np.random.default_rng(0)
    boxes = np.array(
        [erased_box(224, 224, rng, area=(0.02, 0.4), ratio=(0.3, 1 / 0.3)) for _ in range(4000)]
    )
    top, left, tall, wide = boxes.T
    assert (tall < 224).all()
    assert (wide < 224).all()
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + tall).max() == (left + wide).max() == 224  # the far edges too
    areas, shapes = tall * wide / 224**2, tall / wide
    assert areas.min() == pytest.approx(0.02, abs=0.005)
    assert areas.max() == pytest.approx(0.4, abs=0.005)
    # long shapes of large areas do not fit and are drawn again; of small areas every shape fits
    small = areas < 0.08
    assert shapes[small].mean() == pytest.approx((0.3 + 1 / 0.3) / 2, rel=0.05)
    assert small.mean() > (0.08 - 0.02) / (0.4 - 0.02)
    assert erased_box(8, 8, rng, area=(0.9, 1.0), ratio=(3.0, 3.0)) == (0, 0, 0, 0)
