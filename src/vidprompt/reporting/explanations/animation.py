"""Draw an explanation as an animation, GIF or MP4: the frames that the model looked at, one after the other.

No frame is shown that the model did not see, and no heat is interpolated between frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from vidprompt.files.atomic import replacing
from vidprompt.reporting.explanations.content import Drawing
from vidprompt.reporting.explanations.heat_map import Picture, scale_bar
from vidprompt.reporting.explanations.strip import Canvas, fitted

SECONDS = 0.6  # that each frame is shown
_RATE = 5  # frames a second of the MP4
_WIDE, _TALLEST, _GAP, _MARGIN, _BARS = 460, 460, 16, 24, 64
_PANELS = 3  # side by side


def slides(drawing: Drawing) -> Iterator[Picture]:
    """A picture for each frame, all of one size with even sides: the frame beside each text's heat map."""
    for frame in range(len(drawing)):
        yield _slide(drawing, frame)


def _slide(drawing: Drawing, frame: int) -> Picture:
    picture = fitted(drawing.pictures[frame], _WIDE, _TALLEST)
    tall, wide = picture.shape[:2]
    panel = max(wide, 380)
    panels = 1 + len(drawing.maps)
    columns = min(panels, _PANELS)
    rows = -(-panels // columns)
    block = 66 + tall + 12 + _BARS + 38
    width = max(2 * _MARGIN + columns * (panel + _GAP) - _GAP, 900)
    canvas = Canvas(width + width % 2, (58 + rows * block + 82) // 2 * 2)
    end = canvas.text(_MARGIN, 22, drawing.title, 22, bold=True, width=width * 0.5)
    canvas.text(end + 16, 24, drawing.detail, 17, soft=True, width=width - end - 16 - _MARGIN)
    for number in range(panels):
        x = _MARGIN + number % columns * (panel + _GAP)
        y = 58 + number // columns * block
        if number == 0:
            canvas.text(x, y + 34, drawing.caption(frame), 22, bold=True, width=panel)
            canvas.picture(x, y + 66, picture)
            canvas.outline(x, y + 66, picture, drawing)
            continue
        maps = drawing.maps[number - 1]
        canvas.text(x, y + 6, maps.title, 20, bold=True, width=panel)
        canvas.text(x, y + 36, maps.detail, 17, soft=True, width=panel)
        canvas.picture(x, y + 66, drawing.heat_map(number - 1, frame, picture))
        _draw_shares(canvas, drawing, maps.temporal, frame, x, y + 66 + tall + 12, panel)
    canvas.scale(_MARGIN, 58 + rows * block + 12, drawing, 17, 240)
    return np.asarray(canvas.image)


def _draw_shares(
    canvas: Canvas, drawing: Drawing, temporal: Any, frame: int, x: int, y: int, width: int
) -> None:
    """The shares of all frames; that of this one is strong, with its number."""
    per = _BARS / drawing.largest_share
    step = width / len(drawing)
    for number, share in enumerate(temporal):
        left = x + round(number * step)
        wide = max(1, round(step) - (3 if step > 8 else 1))
        canvas.bar(left, y + _BARS, wide, float(share) * per, number == frame)
        if number == frame:
            place = min(max(left + wide / 2, x + 30), x + width - 30)
            canvas.text(place, y + _BARS + 6, f"{float(share):.1%}", 18, anchor="mt")
    canvas.dashes(x, x + width, y + _BARS - round(drawing.even_share * per))


def write_animation(path: Path, drawing: Drawing) -> None:
    """Write a GIF, or an MP4 (H.264, yuv420p) that browsers play, atomically."""
    with replacing(path) as temporary:
        if path.suffix.lower() == ".gif":
            _write_gif(temporary, drawing)
        else:
            _write_mp4(temporary, drawing)


def _write_gif(path: Path, drawing: Drawing) -> None:
    from PIL import Image

    frames = []
    for slide in slides(drawing):
        # the palette is chosen with the scale's colours enlarged, so that none of them is lost
        scale = scale_bar(slide.shape[1], slide.shape[0] // 4)
        palette = Image.fromarray(np.concatenate([slide, scale])).quantize(256)
        image = Image.fromarray(slide)
        frames.append(image.quantize(palette=palette, dither=Image.Dither.NONE))
    milliseconds = round(1000 * SECONDS)
    frames[0].save(
        path,
        "GIF",
        save_all=True,
        append_images=frames[1:],
        duration=milliseconds,
        loop=0,
        optimize=False,
    )


def _write_mp4(path: Path, drawing: Drawing) -> None:
    import av

    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream: Any = None
        for slide in slides(drawing):
            if stream is None:
                stream = container.add_stream("libx264", rate=_RATE)
                stream.height, stream.width = slide.shape[:2]
                stream.pix_fmt = "yuv420p"
                stream.time_base = Fraction(1, _RATE)
                stream.options = {"crf": "20", "preset": "fast", "tune": "stillimage"}
            frame = av.VideoFrame.from_ndarray(slide, format="rgb24")
            for _ in range(round(SECONDS * _RATE)):
                container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
