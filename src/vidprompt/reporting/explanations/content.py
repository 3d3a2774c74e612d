"""`Drawing`: what a picture, an animation and a page of an explanation show."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from vidprompt.data.frames.sampling import Numbers
from vidprompt.reporting.explanations.geometry import Array, Region
from vidprompt.reporting.explanations.heat_map import (
    Picture,
    draw_heat_map,
    end_label,
    scale_end,
)

SCALE_TITLE = "relevance: 1× is an even share; bars: shares of frames, dashed: even"
UNSEEN = "dark: cut off, not seen by the model"


@dataclass(frozen=True)
class TextMaps:
    """The heat maps of one text.

    `temporal` (F,): the frames' shares. `cells` (F, rows, columns): multiples of an even share.
    """

    title: str
    detail: str
    temporal: Array
    cells: Array


@dataclass(frozen=True)
class Drawing:
    """The F frames of a video with the heat maps of one or several texts.

    `pictures` (F, H, W, 3): uint8 RGB. `numbers`, `times` (F,): which frames, and when they are shown, in
    seconds. `region`: what the model saw of each.
    """

    title: str
    detail: str
    pictures: Picture
    numbers: Numbers
    times: Array
    region: Region
    maps: tuple[TextMaps, ...]

    def __len__(self) -> int:
        return len(self.pictures)

    @cached_property
    def end(self) -> int:
        """Where the scale of all maps ends, as a multiple of an even share."""
        return scale_end([one.cells for one in self.maps])

    @property
    def end_label(self) -> str:
        """What is written there."""
        return end_label([one.cells for one in self.maps], self.end)

    @property
    def largest_share(self) -> float:
        """Of a frame, of all texts: the height of the bars."""
        return max(float(one.temporal.max()) for one in self.maps)

    @property
    def even_share(self) -> float:
        """Of a frame, if all mattered alike."""
        return 1 / len(self)

    def caption(self, frame: int) -> str:
        """When a frame is shown, and its number."""
        return f"{clock(float(self.times[frame]), 2)} · frame {int(self.numbers[frame])}"

    def heat_map(self, text: int, frame: int, picture: Picture | None = None) -> Picture:
        """The frame (or the same `picture` in another size) with the heat map of a text."""
        chosen: Picture = np.asarray(self.pictures[frame]) if picture is None else picture
        return draw_heat_map(chosen, self.maps[text].cells[frame], self.region, self.end)


def clock(seconds: float, decimals: int = 0) -> str:
    """A time in a video: `0.52 s`, `12 s`, `3:07`, `1:02:03`."""
    if seconds < 60:
        return f"{seconds:.{decimals}f} s"
    minutes, rest = divmod(round(seconds, decimals), 60)
    width = 3 + decimals if decimals else 2
    hours, minutes = divmod(int(minutes), 60)
    tail = f"{rest:0{width}.{decimals}f}"
    return f"{hours}:{minutes:02}:{tail}" if hours else f"{minutes}:{tail}"
