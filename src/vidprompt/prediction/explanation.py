"""`VideoExplanation`: which frames of a video, and which places in them, a model's answer follows from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from vidprompt.reporting.explanations.content import Drawing, TextMaps, clock
from vidprompt.reporting.explanations.geometry import Region
from vidprompt.reporting.explanations.heat_map import multiples
from vidprompt.system.errors import UserError

SENTENCE = "sentence"  # a text that is encoded as it is
SUFFIXES = (".png", ".gif", ".mp4", ".html", ".json")


@dataclass(frozen=True)
class VideoExplanation:
    """The relevance of the F frames that a model looked at (T, unless clips differ or frames repeat).

    `text`: whose similarity is explained; None: the video's feature itself. `source`: what stood for it
    ("sentence", or of a class of the model "learned context", "descriptions", "prompts", "class names").
    `similarity`: cosine of the video's and the text's feature, in [-1, 1]. `logit_scale`: its factor in a
    probability.

    `numbers` (F,), `times` (F,): which frames, and when they are shown, in seconds. `temporal` (F,): their
    shares of the relevance, which sum to 1. `spatial` (F, rows, columns): the shares of places, which sum
    to the frame's. The cells divide `region`, the part of the upright frame that the model saw; of several
    crops and clips it is the mean.

    `pictures` (F, H, W, 3): the frames, upright uint8 RGB, large ones reduced. `size`: width and height of
    the video's frames. `window`: the part of a long video that is explained, in seconds; None: all of it.
    `n_frames`, `duration` (seconds): of the video. `note`: a sentence on damage, or "".
    """

    video: str
    model: str
    text: str | None
    source: str
    similarity: float | None
    logit_scale: float
    numbers: NDArray[np.int64]
    times: NDArray[np.float64]
    temporal: NDArray[np.float64]
    spatial: NDArray[np.float64]
    region: Region
    pictures: NDArray[np.uint8]
    size: tuple[int, int]
    n_frames: int
    duration: float
    window: tuple[float, float] | None = None
    note: str = ""

    @property
    def crop(self) -> tuple[int, int, int, int]:
        """Left, top, right and bottom of `region` in the video's frames, in pixels."""
        left, top, right, bottom = (round(value) for value in self.region.pixels(*self.size))
        return left, top, right, bottom

    @property
    def multiples(self) -> NDArray[np.float64]:
        """`spatial` as multiples of an even share, (F, rows, columns): 1 is average."""
        return multiples(self.spatial)

    def heat_map(self, frame: int) -> NDArray[np.float32]:
        """`multiples` of the frame-th frame on the pixels of the video, (height, width).

        NaN where the model did not see the frame.
        """
        width, height = self.size
        left, top, right, bottom = self.crop
        cells = self.multiples[frame]
        rows = np.arange(bottom - top) * cells.shape[0] // (bottom - top)
        columns = np.arange(right - left) * cells.shape[1] // (right - left)
        pixels = np.full((height, width), np.nan, np.float32)
        pixels[top:bottom, left:right] = cells[rows][:, columns]
        return pixels

    def to_dict(self) -> dict[str, Any]:
        """JSON values; of each frame the shares of its places, row by row."""
        left, top, right, bottom = self.crop
        width, height = self.size
        values: dict[str, Any] = {
            "video": self.video,
            "model": self.model,
            "text": self.text,
            "text_source": self.source or None,
            "similarity": self.similarity,
            "duration_s": round(self.duration, 3),
            "frames_in_video": self.n_frames,
            "frame_size": {"width": width, "height": height},
            "seen": {"left": left, "top": top, "right": right, "bottom": bottom},
            "frames": [
                {
                    "number": int(number),
                    "time_s": round(float(time), 3),
                    "share": float(share),
                    "places": cells.tolist(),
                }
                for number, time, share, cells in zip(
                    self.numbers, self.times, self.temporal, self.spatial, strict=True
                )
            ],
        }
        if self.window is not None:
            values["window_s"] = [round(value, 3) for value in self.window]
        return values | ({"note": self.note} if self.note else {})

    def to_pandas(self) -> Any:
        """A row a frame: number, time_s, share, and the row and column of its strongest place."""
        import pandas as pd

        cells = self.spatial.reshape(len(self.spatial), -1).argmax(1)
        row, column = np.divmod(cells, self.spatial.shape[2])
        values = {"number": self.numbers, "time_s": self.times, "share": self.temporal}
        return pd.DataFrame(values | {"row": row, "column": column})

    def save(self, path: Path | str) -> Path:
        """Write a picture (.png), an animation (.gif, .mp4), a page (.html) or the numbers (.json)."""
        return VideoExplanations((self,)).save(path)

    def __repr__(self) -> str:
        best = int(self.temporal.argmax())
        similarity = "" if self.similarity is None else f", similarity {self.similarity:.3f}"
        return (
            f"VideoExplanation({self.video!r}, {self.text!r}{similarity}: {len(self.numbers)} frames, most "
            f"on frame {self.numbers[best]} at {self.times[best]:.2f} s, {self.temporal[best]:.1%})"
        )


@dataclass(frozen=True)
class VideoExplanations(Sequence[VideoExplanation]):
    """Explanations of the same frames of a video by several texts; drawn together, on one scale."""

    results: tuple[VideoExplanation, ...]

    @overload
    def __getitem__(self, item: int) -> VideoExplanation: ...
    @overload
    def __getitem__(self, item: slice) -> VideoExplanations: ...
    def __getitem__(self, item: int | slice) -> VideoExplanation | VideoExplanations:
        return (
            VideoExplanations(self.results[item]) if isinstance(item, slice) else self.results[item]
        )

    def __len__(self) -> int:
        return len(self.results)

    def __iter__(self) -> Iterator[VideoExplanation]:
        return iter(self.results)

    @property
    def probabilities(self) -> list[float] | None:
        """Of the texts among each other, as of classes; None for one text, or none."""
        cosines = [one.similarity for one in self.results if one.similarity is not None]
        if len(cosines) < 2:
            return None
        logits = self.results[0].logit_scale * np.array(cosines)
        weights = np.exp(logits - logits.max())
        return [float(value) for value in weights / weights.sum()]

    def to_dict(self) -> list[dict[str, Any]]:
        """JSON values of each text's explanation."""
        return [one.to_dict() for one in self.results]

    def save(self, path: Path | str) -> Path:
        """Write a picture (.png), an animation (.gif, .mp4), a page (.html) or the numbers (.json).

        Raises UserError for another suffix.
        """
        path = check_suffix(path)
        suffix = path.suffix.lower()
        # what draws, and PyAV, is loaded when it is used
        if suffix == ".json":
            from vidprompt.files.atomic import write_json

            write_json(path, self.to_dict() if len(self) > 1 else self.results[0].to_dict())
        elif suffix == ".html":
            from vidprompt.reporting.explanations.page import write_page

            write_page(path, self.drawing())
        elif suffix == ".png":
            from vidprompt.reporting.explanations.strip import write_strip

            write_strip(path, self.drawing())
        else:
            from vidprompt.reporting.explanations.animation import write_animation

            write_animation(path, self.drawing())
        return path

    def drawing(self) -> Drawing:
        """What is drawn, on one scale."""
        first = self.results[0]
        shares: Sequence[float | None] = self.probabilities or [None] * len(self)
        part = f"{first.n_frames:,} frames, {first.duration:.1f} s"
        if first.window is not None:
            start, end = first.window
            part = f"{clock(start)} to {clock(end)} of {clock(first.duration)}"
        return Drawing(
            title=Path(first.video).name,
            detail=f"{part}; model {first.model}",
            pictures=first.pictures,
            numbers=first.numbers,
            times=first.times,
            region=first.region,
            maps=tuple(
                TextMaps(_title(one), _detail(one, share), one.temporal, one.multiples)
                for one, share in zip(self.results, shares, strict=True)
            ),
        )


def _title(one: VideoExplanation) -> str:
    return "What the video's feature follows from" if one.text is None else f"“{one.text}”"


def _detail(one: VideoExplanation, share: float | None) -> str:
    """The similarity, and what else there is to know of it."""
    if one.similarity is None:
        return "no text was given"
    known = "" if one.source == SENTENCE else f", a class of the model ({one.source})"
    among = "" if share is None else f", {share:.0%} among these texts"
    return f"similarity {one.similarity:.3f}{among}{known}"


def check_suffix(path: Path | str) -> Path:
    """The path of a file that `save` can write. Raises UserError."""
    path = Path(path).expanduser()
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(
            f"{path}: its ending says what is written: .png (strip of frames), .gif or .mp4 (animation), "
            ".html (page), .json (numbers)"
        )
    return path
