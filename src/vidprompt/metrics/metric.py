"""The base class of metrics of recognition, a plug-in's too, and the metrics that every result has."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vidprompt.config.plugins import Registry, subclass_problem
from vidprompt.system.errors import DataError


class Metric(ABC):
    """A metric that is the mean over a test's videos of a value in [0, 1] each.

    So that it has what the accuracy has: an interval by groups of videos, and its mean over splits and seeds.
    A plug-in's is computed where `metrics=[NAME]` (params/config.yaml) says so, and stands in metrics.json
    beside top1.
    """

    @abstractmethod
    def of_videos(self, table: pd.DataFrame) -> NDArray[np.float64]:
        """The value of each video, (N,), from the rows of a test.

        Its columns are those of `metrics.predictions.schema` without lists: `video_id`, `label`, `predicted`,
        `group`, `rank` (of the true class: 0 is the best) and `confidence` (the probability of `predicted`).
        """


class Top1(Metric):
    """The true class is the most probable one."""

    def of_videos(self, table: pd.DataFrame) -> NDArray[np.float64]:
        return hits(table["rank"], 1)


class Top5(Metric):
    """The true class is one of the five most probable."""

    def of_videos(self, table: pd.DataFrame) -> NDArray[np.float64]:
        return hits(table["rank"], 5)


METRICS: Registry[type[Metric]] = Registry(
    "metrics", {"top1": Top1, "top5": Top5}, subclass_problem(Metric)
)


def hits(ranks: pd.Series, k: int) -> NDArray[np.float64]:
    """0 or 1 of each video: its rank is below k (unknown: 0)."""
    below: NDArray[np.float64] = (ranks < k).to_numpy().astype(np.float64)
    return below


def video_values(name: str, table: pd.DataFrame) -> NDArray[np.float64]:
    """The values (N,) of a metric. UserError for an unknown one, DataError for values outside [0, 1]."""
    values = np.asarray(METRICS[name]().of_videos(table), np.float64)
    if values.shape != (len(table),) or not ((values >= 0) & (values <= 1)).all():
        raise DataError(
            f"the metric {name} gives {values.shape} values, not all in [0, 1], for {len(table)} videos: a "
            "metric is the mean of a value in [0, 1] a video"
        )
    return values
