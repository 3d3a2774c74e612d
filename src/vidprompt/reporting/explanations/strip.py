"""Draw an explanation as one picture: the frames, and below them each text's heat maps and shares."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vidprompt.files.atomic import replacing
from vidprompt.reporting.explanations.content import SCALE_TITLE, UNSEEN, Drawing
from vidprompt.reporting.explanations.heat_map import Picture, scale_bar
from vidprompt.reporting.rendering import COLOURS

if TYPE_CHECKING:
    from PIL import Image

Colour = tuple[int, int, int]
COLUMNS = 8  # frames side by side
_WIDE, _GAP, _MARGIN = 232, 8, 28  # pixels of a frame, between frames, around everything
_BARS = 56  # height of the bars of shares
_TALLEST = 420  # of a frame: of upright video


def colour(name: str) -> Colour:
    """A colour of the light theme as RGB."""
    text = COLOURS[name][0]
    red, green, blue = (int(text[i : i + 2], 16) for i in (1, 3, 5))
    return red, green, blue


def font(size: int, bold: bool = False) -> Any:
    """DejaVu Sans, which has the letters of many languages, or Pillow's own font where it is absent."""
    from PIL import ImageFont

    try:
        return ImageFont.truetype("DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf", size)
    except OSError:
        return ImageFont.load_default(size)


class Canvas:
    """A picture to draw on, with the parts that strips and animations share."""

    def __init__(self, width: int, height: int) -> None:
        from PIL import Image, ImageDraw

        self.image: Image.Image = Image.new("RGB", (width, height), colour("page"))
        self._draw: Any = ImageDraw.Draw(self.image)

    def text(
        self,
        x: float,
        y: float,
        text: str,
        size: int,
        *,
        bold: bool = False,
        soft: bool = False,
        anchor: str = "lt",
        width: float = float("inf"),
    ) -> float:
        """Write a line, shortened to `width`; returns where it ends."""
        face = font(size, bold)
        line = text
        while len(line) > 1 and self._draw.textlength(line, face) > width:
            line = line[:-2].rstrip() + "…"
        self._draw.text((x, y), line, colour("soft" if soft else "ink"), face, anchor)
        return x + float(self._draw.textlength(line, face))

    def picture(self, x: int, y: int, picture: Picture) -> None:
        """Put a picture at a place."""
        from PIL import Image

        self.image.paste(Image.fromarray(picture), (x, y))

    def outline(self, x: int, y: int, picture: Picture, drawing: Drawing) -> None:
        """The border of what the model saw of a picture."""
        height, width = picture.shape[:2]
        left, top, right, bottom = (round(v) for v in drawing.region.pixels(width, height))
        if (left, top, right, bottom) != (0, 0, width, height):
            for shift, tone in ((0, "page"), (1, "ink")):
                box = (x + left + shift, y + top + shift, x + right - 1 - shift)
                self._draw.rectangle((*box, y + bottom - 1 - shift), outline=colour(tone))

    def bar(self, x: int, bottom: int, width: int, height: float, strong: bool = True) -> None:
        """A bar of a share, from `bottom` upwards."""
        top = bottom - max(1, round(height))
        tone = colour("m2" if strong else "m0")
        self._draw.rectangle((x, top, x + width - 1, bottom), fill=tone)

    def dashes(self, x: int, end: int, y: int) -> None:
        """A dashed line from x to `end`."""
        for start in range(x, end, 10):
            self._draw.line((start, y, min(start + 5, end), y), fill=colour("ink"), width=1)

    def scale(self, x: int, y: int, drawing: Drawing, size: int, width: int = 300) -> None:
        """The scale of colours with its numbers, and what they mean."""
        self.picture(x, y, scale_bar(width, size))
        low = y + size + 6
        one = x + round(width / drawing.end)
        self._draw.line((one, y, one, low - 2), fill=colour("ink"), width=2)
        self.text(x, low, "0", size)
        self.text(one, low, "1×", size, anchor="mt")
        self.text(x + width, low, drawing.end_label, size, anchor="rt")
        self.text(x + width + 18, y, SCALE_TITLE, size, soft=True)
        if drawing.region.top or drawing.region.left:
            self.text(x + width + 18, low, UNSEEN, size, soft=True)


def fitted(picture: Picture, width: int, tallest: int) -> Picture:
    """The picture enlarged or reduced to a width, or to the tallest height; even sides."""
    from PIL import Image

    height, wide = picture.shape[:2]
    scale = min(width / wide, tallest / height)
    size = max(2, round(wide * scale) // 2 * 2), max(2, round(height * scale) // 2 * 2)
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC))


def draw_strip(drawing: Drawing) -> Image.Image:
    """The strip; more than COLUMNS frames are in several rows."""
    pictures = [fitted(one, _WIDE, _TALLEST) for one in drawing.pictures]
    tall = pictures[0].shape[0]
    columns = min(COLUMNS, len(drawing))
    rows = [range(k, min(k + columns, len(drawing))) for k in range(0, len(drawing), columns)]
    block = 34 + tall + len(drawing.maps) * (64 + tall + 12 + _BARS + 40) + 24
    width = max(2 * _MARGIN + columns * (_WIDE + _GAP) - _GAP, 1000)
    canvas = Canvas(width, 104 + len(rows) * block + 76)
    inner = width - 2 * _MARGIN
    canvas.text(_MARGIN, 24, drawing.title, 30, bold=True, width=inner)
    canvas.text(_MARGIN, 66, drawing.detail, 22, soft=True, width=inner)
    y = 104
    for frames in rows:
        _draw_row(canvas, drawing, pictures, frames, y, inner)
        y += block
    canvas.scale(_MARGIN, y, drawing, 22)
    return canvas.image


def _draw_row(
    canvas: Canvas,
    drawing: Drawing,
    pictures: list[Picture],
    frames: range,
    y: int,
    inner: int,
) -> None:
    """Some frames with their times, and each text's heat maps and shares below."""
    tall, wide = pictures[0].shape[:2]
    places = [(_MARGIN + k * (_WIDE + _GAP), frame) for k, frame in enumerate(frames)]
    for x, frame in places:
        canvas.text(x, y, drawing.caption(frame), 21, soft=True, width=_WIDE)
        canvas.picture(x, y + 34, pictures[frame])
        canvas.outline(x, y + 34, pictures[frame], drawing)
    y += 34 + tall
    for text, maps in enumerate(drawing.maps):
        end = canvas.text(_MARGIN, y + 24, maps.title, 26, bold=True, width=inner * 0.6)
        canvas.text(end + 20, y + 27, maps.detail, 23, soft=True, width=_MARGIN + inner - end - 20)
        y += 64
        for x, frame in places:
            canvas.picture(x, y, drawing.heat_map(text, frame, pictures[frame]))
        y += tall + 12
        _draw_shares(canvas, drawing, maps.temporal, places, y, wide)
        y += _BARS + 40


def _draw_shares(
    canvas: Canvas,
    drawing: Drawing,
    temporal: Any,
    places: list[tuple[int, int]],
    y: int,
    wide: int,
) -> None:
    """A bar a frame with its share in per cent; a dashed line is an even share."""
    per = _BARS / drawing.largest_share
    bottom = y + _BARS
    for x, frame in places:
        share = float(temporal[frame])
        canvas.bar(x, bottom, wide, share * per)
        canvas.text(x, bottom + 7, f"{share:.1%}", 21)
    canvas.dashes(places[0][0], places[-1][0] + wide, bottom - round(drawing.even_share * per))


def write_strip(path: Path, drawing: Drawing) -> None:
    """Write the strip as PNG, atomically."""
    with replacing(path) as temporary:
        draw_strip(drawing).save(temporary, "PNG")
