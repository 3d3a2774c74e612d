"""What predicting and embedding return: typed results, as dictionaries, tables and arrays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS = ["video", "label", "score", "error"]  # of a table of videos
UNKNOWN = "unknown"  # the label of a video that shows none of the classes


@dataclass(frozen=True)
class Failure:
    """A video that could not be used, and why, in a sentence."""

    video: str
    reason: str


@dataclass(frozen=True)
class Prediction:
    """The classes of one video.

    `probabilities` (C,): float32, of `classes`, summing to 1. `cosines` (C,): cosine similarities.
    `text`: what stood for the classes ("learned context", "descriptions", "prompts", "class names").
    `unknown`: whether the video shows none of the classes, by the model's threshold; None where that was not
    asked. `duration`: of the video, in seconds. `note`: a sentence on damage of the file, or "".
    """

    video: str
    classes: tuple[str, ...]
    probabilities: NDArray[np.float32]
    cosines: NDArray[np.float64]
    text: str
    unknown: bool | None = None
    duration: float = 0.0
    note: str = ""

    @property
    def label(self) -> str:
        """The most probable class; "unknown" where the video shows none of them."""
        return UNKNOWN if self.unknown else self.classes[int(self.probabilities.argmax())]

    @property
    def score(self) -> float:
        """The largest probability, in [0, 1]."""
        return float(self.probabilities.max())

    def top(self, k: int = 5) -> list[tuple[str, float]]:
        """The k most probable classes with their probabilities, best first; equal ones in their order."""
        order = np.argsort(-self.probabilities, kind="stable")[: max(0, k)]
        return [(self.classes[i], float(self.probabilities[i])) for i in order]

    def to_dict(self, top: int | None = None) -> dict[str, Any]:
        """JSON values; `top`: only so many classes."""
        values: dict[str, Any] = {"video": self.video, "label": self.label, "score": self.score}
        if self.unknown is not None:
            values |= {"unknown": self.unknown, "cosine": float(self.cosines.max())}
        pairs = self.top(len(self.classes) if top is None else top)
        values["classes"] = [{"class": name, "probability": value} for name, value in pairs]
        values |= {"text": self.text, "duration_s": round(self.duration, 3)}
        return values | ({"note": self.note} if self.note else {})

    def to_pandas(self) -> pd.DataFrame:
        """A row a class, best first: video, class, probability, cosine."""
        import pandas as pd

        order = np.argsort(-self.probabilities, kind="stable")
        return pd.DataFrame(
            {
                "video": self.video,
                "class": [self.classes[i] for i in order],
                "probability": self.probabilities[order],
                "cosine": self.cosines[order],
            }
        )

    def __repr__(self) -> str:
        shown = ", ".join(f"{name} {value:.1%}" for name, value in self.top(3))
        return f"Prediction({self.video!r}: {'unknown; ' if self.unknown else ''}{shown})"


@dataclass(frozen=True)
class Predictions(Sequence[Prediction | Failure]):
    """The predictions of several videos in their order; a broken one is a `Failure`."""

    results: tuple[Prediction | Failure, ...]

    @overload
    def __getitem__(self, item: int) -> Prediction | Failure: ...
    @overload
    def __getitem__(self, item: slice) -> Predictions: ...
    def __getitem__(self, item: int | slice) -> Prediction | Failure | Predictions:
        return Predictions(self.results[item]) if isinstance(item, slice) else self.results[item]

    def __len__(self) -> int:
        return len(self.results)

    def __iter__(self) -> Iterator[Prediction | Failure]:
        return iter(self.results)

    @property
    def failures(self) -> list[Failure]:
        """The videos that could not be used."""
        return [one for one in self.results if isinstance(one, Failure)]

    def to_dict(self, top: int | None = None) -> list[dict[str, Any]]:
        """JSON values of each video, in order; a broken one has `error`."""
        return [
            {"video": one.video, "error": one.reason}
            if isinstance(one, Failure)
            else one.to_dict(top)
            for one in self.results
        ]

    def to_pandas(self) -> pd.DataFrame:
        """A row a video: video, label, score, error, and the probability of each class.

        A class with the name of one of these columns has "class " before it.
        """
        import pandas as pd

        rows: list[dict[str, Any]] = []
        for one in self.results:
            if isinstance(one, Failure):
                rows.append({"video": one.video, "label": None, "score": None, "error": one.reason})
            else:
                names = [f"class {name}" if name in _COLUMNS else name for name in one.classes]
                pairs = zip(names, one.probabilities.tolist(), strict=True)
                row: dict[str, Any] = {"video": one.video, "label": one.label, "score": one.score}
                rows.append(row | {"error": None} | dict(pairs))
        return pd.DataFrame(rows, columns=None if rows else _COLUMNS)


@dataclass(frozen=True)
class Embeddings:
    """Features of videos of unit length, float32 (N, E), in the order of `videos`; `failures` have none."""

    videos: tuple[str, ...]
    features: NDArray[np.float32]
    failures: tuple[Failure, ...] = ()

    def __len__(self) -> int:
        return len(self.videos)

    def to_dict(self) -> dict[str, list[float]]:
        """Video → its feature."""
        return dict(zip(self.videos, self.features.tolist(), strict=True))

    def to_pandas(self) -> pd.DataFrame:
        """A row a video, indexed by it, and a column a dimension."""
        import pandas as pd

        return pd.DataFrame(self.features, index=pd.Index(self.videos, name="video"))


@dataclass(frozen=True)
class Span:
    """A part of a long video with one class: from `start` to `end`, in seconds."""

    start: float
    end: float
    label: str
    score: float  # mean probability of its windows, in [0, 1]

    def to_dict(self) -> dict[str, Any]:
        return {"start": self.start, "end": self.end, "label": self.label, "score": self.score}


@dataclass(frozen=True)
class VideoSpans:
    """The spans of one video; `duration` in seconds, `note`: a sentence on damage of the file, or ""."""

    video: str
    spans: tuple[Span, ...]
    duration: float
    note: str = ""


def video_feature(views: NDArray[np.float32]) -> NDArray[np.float32]:
    """One feature of unit length (E,) from those of a video's views (n, E)."""
    values: Any = views.astype(np.float64)
    values /= np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
    mean = values.mean(axis=0)
    feature: NDArray[np.float32] = (mean / max(float(np.linalg.norm(mean)), 1e-12)).astype(
        np.float32
    )
    return feature
