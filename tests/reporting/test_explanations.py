"""Relevance on the frames of a video, its scale, and the files that show it."""

from __future__ import annotations

import re
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from vidprompt.data.clips.testing import spatial_crops
from vidprompt.data.frames.sampling import Views
from vidprompt.reporting.explanations.animation import SECONDS, write_animation
from vidprompt.reporting.explanations.content import Drawing, TextMaps, clock
from vidprompt.reporting.explanations.geometry import (
    FrameRelevance,
    Region,
    crop_regions,
    frame_relevance,
)
from vidprompt.reporting.explanations.heat_map import (
    draw_heat_map,
    end_label,
    multiples,
    scale_end,
)
from vidprompt.reporting.explanations.page import page
from vidprompt.reporting.explanations.strip import write_strip

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("crops", [1, 3])
@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("size", [(72, 128), (128, 72), (64, 64), (99, 161)])
def test_a_region_is_what_its_crop_shows(
    size: tuple[int, int], antialias: bool, crops: int
) -> None:
    """A white square is found in the crop where the region puts it."""
    views = Views(resize=256, crops=crops, antialias=antialias)
    height, width = size
    for region, number in zip(crop_regions(height, width, 56, views), range(crops), strict=True):
        frame = torch.zeros(1, 3, height, width, dtype=torch.uint8)
        left, top, right, bottom = region.pixels(width, height)
        y, x = (top + bottom) / 2, left + (right - left) / 4  # a point, a quarter into the region
        frame[..., round(y) - 3 : round(y) + 3, round(x) - 3 : round(x) + 3] = 255
        shown = spatial_crops(frame, 56, views)[number, 0].float().mean(0)
        rows, columns = torch.nonzero(shown > 128, as_tuple=True)
        assert rows.float().mean() == pytest.approx(27.5, abs=1.5)
        assert columns.float().mean() == pytest.approx(13.5, abs=1.5)


def relevance(numbers: list[list[int]], crops: int, height: int, width: int) -> FrameRelevance:
    clips, t = np.shape(numbers)
    spatial = RNG.random((clips * crops, t, 4, 4)).astype(np.float32)
    spatial /= spatial.sum((1, 2, 3), keepdims=True)
    regions = crop_regions(height, width, 32, Views(crops=crops))
    return frame_relevance(spatial, np.array(numbers), regions)


@pytest.mark.parametrize("crops", [1, 3])
def test_shares_of_several_views_sum_to_one(crops: int) -> None:
    found = relevance([[0, 4, 8], [9, 5, 1]], crops, 32, 64)
    assert found.numbers.tolist() == [0, 1, 4, 5, 8, 9]
    assert found.temporal.sum() == pytest.approx(1)
    assert np.allclose(found.spatial.sum((1, 2)), found.temporal)
    assert found.spatial.shape == (6, 4, 8 if crops == 3 else 4)
    assert found.region == (Region() if crops == 3 else Region(0.25, 0, 0.75, 1))


def test_a_frame_that_is_repeated_is_one_frame() -> None:
    spatial = np.full((1, 4, 1, 1), 0.25, np.float32)
    found = frame_relevance(spatial, np.array([[0, 0, 0, 1]]), [Region()])
    assert found.numbers.tolist() == [0, 1]
    assert found.temporal.tolist() == [0.75, 0.25]


def test_a_place_that_all_crops_see_gets_what_each_says_of_it() -> None:
    """Of three crops of a picture twice as wide as high only the middle one finds something, on its left."""
    spatial = np.zeros((3, 1, 2, 2), np.float32)
    spatial[1, 0, :, 0] = 0.5
    found = frame_relevance(spatial, np.array([[0]]), crop_regions(32, 64, 32, Views(crops=3)))
    assert found.spatial[0].tolist() == [[0, 0.5, 0, 0], [0, 0.5, 0, 0]]


def test_the_scale_begins_at_zero_and_its_end_is_written() -> None:
    even = multiples(np.full((4, 2, 2), 1 / 16))
    assert np.allclose(even, 1)
    assert scale_end([even]) == 2  # nothing is stretched
    assert end_label([even], 2) == "2×"
    peak = np.ones((8, 14, 14))
    peak[0, 0, 0] = 90
    assert scale_end([peak]) == 2
    assert end_label([peak], 2) == "≥ 2×"
    assert scale_end([even, 7 * even]) == 8


def test_a_heat_map_is_in_its_region_and_lighter_means_more() -> None:
    frame = np.full((40, 80, 3), 128, np.uint8)
    cells = np.array([[0.0, 1.0], [2.0, 4.0]])
    drawn = draw_heat_map(frame, cells, Region(0.25, 0, 0.75, 1), 4).astype(int)
    outside = drawn[:, :20]
    assert (outside == outside[0, 0]).all()
    assert outside.max() < 80
    assert (drawn[..., 0] == drawn[..., 2])[:20, 20:40].all()  # no colour where there is nothing
    places = [drawn[10, 50], drawn[30, 30], drawn[30, 50]]
    lightness = [int(one.sum()) for one in places]
    assert lightness == sorted(lightness)
    assert lightness[-1] > 500


def test_a_strong_place_looks_the_same_in_every_frame() -> None:
    cells = np.array([[[3.0, 0.0]], [[3.0, 1.0]]])
    frame = np.full((10, 20, 3), 90, np.uint8)
    drawn = [draw_heat_map(frame, one, Region(), 4) for one in cells]
    assert (drawn[0][:, :10] == drawn[1][:, :10]).all()


@pytest.mark.parametrize(
    ("seconds", "decimals", "text"),
    [
        (0.5, 2, "0.50 s"),
        (187, 0, "3:07"),
        (3723.4, 0, "1:02:03"),
        (61.5, 2, "1:01.50"),
        (0, 0, "0 s"),
    ],
)
def test_times_are_written_as_players_do(seconds: float, decimals: int, text: str) -> None:
    assert clock(seconds, decimals) == text


def drawing(height: int = 45, width: int = 81, frames: int = 5, texts: int = 2) -> Drawing:
    maps = []
    for number in range(texts):
        cells = RNG.random((frames, 3, 3)) + 0.1
        cells /= cells.sum()
        title = "“a <b>bold</b> & very long text " + "word " * 40 * (number == 0) + "”"
        maps.append(TextMaps(title, "similarity 0.250", cells.sum((1, 2)), multiples(cells)))
    pictures = RNG.integers(0, 255, (frames, height, width, 3), dtype=np.uint8)
    numbers = np.arange(frames) * 7
    region = Region(0.2, 0, 0.8, 1)
    return Drawing("video.mp4", "5 frames", pictures, numbers, numbers / 25, region, tuple(maps))


@pytest.mark.parametrize("shape", [(160, 90), (1, 1), (31, 640)])
def test_every_shape_of_frame_is_drawn(shape: tuple[int, int], tmp_path: Path) -> None:
    content = drawing(*shape, frames=2, texts=1)
    write_strip(tmp_path / "a.png", content)
    with Image.open(tmp_path / "a.png") as image:
        assert image.format == "PNG"
        assert image.width < 2200
    write_animation(tmp_path / "a.mp4", content)
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert stream.width % 2 == stream.height % 2 == 0
        shown = [frame.time for frame in container.decode(stream)]
        assert len(shown) == 2 * round(SECONDS * 5)
        assert shown[-1] == pytest.approx(2 * SECONDS - 0.2)


def test_a_gif_has_a_picture_a_frame_and_the_colours_of_the_scale(tmp_path: Path) -> None:
    write_animation(tmp_path / "a.gif", drawing(frames=2, texts=1))
    with Image.open(tmp_path / "a.gif") as image:
        assert image.n_frames == 2  # type: ignore[attr-defined]
        for number in range(2):
            image.seek(number)
            pixels = np.asarray(image.convert("RGB")).reshape(-1, 3).astype(int)
            for colour in ((0x42, 0x0A, 0x68), (0xBC, 0x37, 0x54), (0xFC, 0xFF, 0xA4)):
                assert np.abs(pixels - colour).sum(1).min() < 40


def test_the_page_needs_no_network_and_no_script_and_quotes_texts() -> None:
    text = page(drawing())
    assert not re.search(r"https?:|<script|@import|url\(", text)
    assert "<b>bold" not in text
    assert "&lt;b&gt;bold" in text
    assert len(re.findall("<li[ >]", text)) == 10
    assert len(set(re.findall(r"data:image/jpeg;base64,[^\"]+", text))) == 5
    assert "prefers-color-scheme: dark" in text


def test_the_frame_with_the_largest_share_is_marked() -> None:
    content = drawing(texts=1)
    items = re.split("<li(?=[ >])", page(content))[1:]
    marked = [number for number, item in enumerate(items) if 'class="most"' in item]
    assert marked == [int(content.maps[0].temporal.argmax())]
