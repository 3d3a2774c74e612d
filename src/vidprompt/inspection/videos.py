"""What is shown of each tested video: its file, its class, and each method's prediction.

A sample is a video file. It has a field for each test of each result: the method's name, with the split's
(and the test's) where there are several.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vidprompt.comparison.results import LoadedResult, ResultAddress, find_result, parse_address
from vidprompt.config import paths
from vidprompt.config.compose import compose
from vidprompt.config.names import FROZEN
from vidprompt.data.manifest.table import read_manifest
from vidprompt.inference.feature_store import Features, read_features
from vidprompt.metrics.predictions import read_predictions
from vidprompt.system.errors import DataError, UserError

logger = logging.getLogger(__name__)

BLOCK = 4096  # features read at once
NUMBERS = ("duration", "fps", "width", "height")  # of the manifest, shown with a video


@dataclass(frozen=True)
class Prediction:
    """A method's answer on a video; `rank` of the true class is from 1, `confidence` in [0, 1]."""

    label: str
    confidence: float
    rank: int
    right: bool


@dataclass
class InspectedVideo:
    """A tested video; `path` is absolute. `predictions` are by field."""

    video_id: str
    path: Path
    label: str
    group: str
    numbers: dict[str, float]
    tests: list[str] = field(default_factory=list)
    predictions: dict[str, Prediction] = field(default_factory=dict)

    @property
    def tags(self) -> list[str]:
        """`right: FIELD` or `wrong: FIELD` of each prediction, and the tests that the video is in."""
        told = [
            f"{'right' if p.right else 'wrong'}: {name}" for name, p in self.predictions.items()
        ]
        return sorted({*told, *self.tests})


@dataclass(frozen=True)
class Field:
    """A field of predictions: the result (of the project in `root`), split and test that it shows."""

    name: str
    root: Path
    result: LoadedResult
    split: str
    test: str


@dataclass(frozen=True)
class Inspection:
    """The videos of one dataset, by id, and the fields of their predictions."""

    dataset: str
    name: str
    fields: tuple[Field, ...]
    videos: tuple[InspectedVideo, ...]

    def with_field(self, name: str) -> list[str]:
        """Ids of the videos with a prediction of this field, in order."""
        return [video.video_id for video in self.videos if name in video.predictions]

    @property
    def errors(self) -> dict[str, int]:
        """Field → how many videos are predicted wrong."""
        return {
            one.name: sum(
                not video.predictions[one.name].right
                for video in self.videos
                if one.name in video.predictions
            )
            for one in self.fields
        }


def inspect_results(names: Sequence[str]) -> Inspection:
    """The videos of one or more results of a dataset.

    Raises UserError for results of several datasets, of re-identification (no class is predicted) or of
    another revision; DataError where predictions or videos are missing.
    """
    addresses = [_checked(name) for name in names]
    datasets = sorted({one.dataset for one in addresses})
    if len(datasets) > 1:
        raise UserError(f"one dataset at a time: these results are of {', '.join(datasets)}")
    found = _Collection(datasets[0])
    for name, address in zip(names, addresses, strict=True):
        result = find_result(name)
        if result.videos is None:
            raise DataError(result.missing)
        table = read_predictions(address.root / address.predictions)
        tests = table.groupby(["split", "test"], sort=False)
        for (split, test), rows in tests:
            alone = len(tests) == 1 and len({(one.method) for one in addresses}) == len(addresses)
            words = [address.method] if alone else [address.method, str(split), str(test)]
            one = Field(field_name(words), address.root, result, str(split), str(test))
            found.add(one, rows)
    found.check_files()
    return Inspection(
        dataset=datasets[0],
        name="-".join([datasets[0], *(f"{one.method}-{one.protocol}" for one in addresses)]),
        fields=tuple(found.fields),
        videos=tuple(found.videos[name] for name in sorted(found.videos)),
    )


def _checked(name: str) -> ResultAddress:
    address = parse_address(name)
    if address.protocol == "reid":
        raise UserError(
            f"{name}: re-identification predicts no class; `vidprompt compare` has queries"
        )
    if address.revision:
        raise UserError(f"{name}: check the revision out, or leave @{address.revision} out")
    return address


def field_name(words: Sequence[str]) -> str:
    """A field's name of its words: letters, digits and underlines; the test `test` goes without saying."""
    kept = [word for i, word in enumerate(words) if not (i == 2 and word == "test")]
    return re.sub(r"\W+", "_", "_".join(kept))


class _Collection:
    """The videos of a dataset that results test, with what the manifest says of them."""

    def __init__(self, dataset: str) -> None:
        config = compose([f"dataset={dataset}"])
        self.file = paths.manifest(dataset)
        columns = ["video_id", "path", *NUMBERS]
        manifest = read_manifest(self.file)[columns]
        self.rows: dict[str, Any] = {
            str(row.video_id): row for row in manifest.itertuples(index=False)
        }
        self.root = Path(config.dataset.root).absolute()
        self.videos: dict[str, InspectedVideo] = {}
        self.fields: list[Field] = []

    def add(self, one: Field, rows: pd.DataFrame) -> None:
        """Add a test's predictions, rows of `metrics.predictions`."""
        if one.name in [known.name for known in self.fields]:
            raise UserError(f"{one.result.name} is named twice")
        self.fields.append(one)
        row: Any
        for row in rows.itertuples(index=False):
            video = self.videos.get(row.video_id) or self._video(row)
            video.tests.append(f"{one.split}/{one.test}")
            video.predictions[one.name] = Prediction(
                label=str(row.predicted),
                confidence=round(float(row.confidence), 6),
                rank=int(row.rank) + 1,
                right=row.predicted == row.label,
            )

    def _video(self, row: Any) -> InspectedVideo:
        known = self.rows.get(row.video_id)
        if known is None:
            raise DataError(
                f"{row.video_id} is not in {self.file}: run the pipeline again (dvc repro)"
            )
        numbers = {name: getattr(known, name) for name in NUMBERS}
        group = getattr(row, "group", None)
        video = InspectedVideo(
            video_id=row.video_id,
            path=self.root / known.path,
            label=str(row.label),
            group=group if isinstance(group, str) else "",
            numbers={k: float(v) for k, v in numbers.items() if pd.notna(v)},
        )
        self.videos[row.video_id] = video
        return video

    def check_files(self) -> None:
        """Raises DataError where videos are not there."""
        missing = [video.path for video in self.videos.values() if not video.path.exists()]
        if missing:
            raise DataError(
                f"{len(missing):,} of {len(self.videos):,} videos are not there, the first is {missing[0]}: "
                "set dataset.root, or unpack the dataset (vidprompt unpack)"
            )


def embeddings(one: Field, found: Inspection) -> Embeddings | None:
    """The stored features of a field's videos; None, with a warning, where they are not all there."""
    result = one.result.result
    folder = one.root / paths.features(result.dataset, result.method, FROZEN)
    if not folder.is_dir():  # of a trained method
        run = result.splits[one.split].run
        folder = one.root / paths.features(result.dataset, result.method, run)
    try:
        stored = Embeddings(read_features(folder))
    except DataError as error:
        logger.warning(f"{one.name} has no embeddings: {error}")
        return None
    missing = [name for name in found.with_field(one.name) if name not in stored]
    if missing:
        logger.warning(f"{one.name} has no embeddings: {folder} has none of {missing[0]}")
        return None
    return stored


class Embeddings:
    """The features of videos, one vector a video: the mean of its views."""

    def __init__(self, features: Features) -> None:
        self._features = features
        self._row = dict(zip(features.videos, range(len(features.videos)), strict=True))

    def __contains__(self, video: str) -> bool:
        return video in self._row

    def vectors(self, videos: Sequence[str]) -> NDArray[np.float32]:
        """(N, E) float32, of unit length."""
        rows = self._features.video[[self._row[video] for video in videos]]
        means = np.asarray(rows, np.float32).mean(1)
        norms = np.linalg.norm(means, axis=1, keepdims=True)
        return (means / np.maximum(norms, 1e-12)).astype(np.float32)

    def points(self, videos: Sequence[str]) -> NDArray[np.float32]:
        """(N, 2): the first two principal components. Of E × E numbers, a block of videos at a time."""
        blocks = [videos[i : i + BLOCK] for i in range(0, len(videos), BLOCK)]
        width = self._features.video.shape[-1]
        total, square = np.zeros(width), np.zeros((width, width))
        for block in blocks:
            vectors = self.vectors(block).astype(np.float64)
            total += vectors.sum(0)
            square += vectors.T @ vectors
        mean = total / max(1, len(videos))
        _, axes = np.linalg.eigh(square / max(1, len(videos)) - np.outer(mean, mean))
        axes = axes[:, :-3:-1]
        signs = np.sign(axes[np.abs(axes).argmax(0), range(axes.shape[1])])  # eigh leaves them open
        axes = axes * np.where(signs == 0, 1, signs)
        parts = [(self.vectors(block) - mean) @ axes for block in blocks]
        return np.concatenate(parts).astype(np.float32)
