"""Person re-identification: from stored tracklet features to metrics and plots data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from vidprompt.data.splits.split_file import Split
from vidprompt.inference.feature_store import Features, takes_all_frames
from vidprompt.metrics.bootstrap import resampled_means
from vidprompt.metrics.recognition import rounded, with_interval
from vidprompt.metrics.retrieval import RetrievalSet, evaluate_retrieval, ranked_gallery
from vidprompt.system.errors import DataError

RANKS = (1, 5, 10)


def _side(
    split: Split, name: str, features: Features, manifest: pd.DataFrame
) -> tuple[list[str], np.ndarray, RetrievalSet]:
    """Usable tracklets of a side: ids, features (n, E), who wore what before which camera.

    DataError when there is none.
    """
    subset = split.tests[name]
    positions, rows = features.rows(subset.videos, takes_all_frames(split))
    if not len(rows):
        raise DataError(
            f"{split.id}: no tracklet of {name} is usable, all of its {len(subset.videos)} listed ones "
            "are missing or broken"
        )
    videos = [subset.videos[i] for i in positions]
    about = manifest.loc[videos]
    clothes = {c: i for i, c in enumerate(sorted(manifest["clothes"].unique()))}
    sides = RetrievalSet(
        person=np.asarray(subset.labels, np.int64)[positions],
        camera=about["camera"].to_numpy(np.int64),
        clothes=about["clothes"].map(clothes).to_numpy(np.int64),
    )
    return videos, features.video[rows].mean(1), sides


def retrieval_metrics(table: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Protocol → n, R-k and mAP with intervals by person, from the table of predictions alone."""
    metrics: dict[str, dict[str, Any]] = {}
    for protocol, rows in table.groupby("protocol", sort=False):
        values = {f"R-{k}": (rows["rank"] < k).to_numpy(np.float64) for k in RANKS}
        values["mAP"] = rows["average_precision"].to_numpy(np.float64)
        metrics[str(protocol)] = {"n": len(rows)} | {
            name: with_interval(value.mean(), resampled_means(value, rows["label"]))
            for name, value in values.items()
        }
    return metrics


def evaluate_reid(
    split: Split, features: Features, manifest: pd.DataFrame, protocols: Sequence[str]
) -> tuple[dict[str, Any], pd.DataFrame, pd.DataFrame]:
    """Metrics by protocol, predictions, and CMC curves. `manifest` is indexed by video_id.

    Raises DataError for a side without a usable tracklet, and for a protocol in which no query has a
    positive.
    """
    query_ids, query_features, query = _side(split, "query", features, manifest)
    gallery_ids, gallery_features, gallery = _side(split, "gallery", features, manifest)
    about: dict[str, dict[str, Any]] = {}
    tables, curves = [], []
    everything = tuple(range(1, min(20, len(gallery_ids)) + 1))
    dataset, _, tracklet = split.id.removeprefix("reid/").partition("@")
    for protocol in protocols:
        result = evaluate_retrieval(
            query_features, gallery_features, query, gallery, protocol, everything
        )
        if not result.evaluated:
            raise DataError(
                f"{split.id}: no query has a positive in the gallery under {protocol}; leave it out "
                "of the protocol's `protocols`"
            )
        about[protocol] = {
            "id": f"reid/{dataset}/{protocol}@{tracklet}",
            "skipped": result.skipped,
        }
        shares = [rounded(result.cmc[k]) for k in everything]
        curves.append(pd.DataFrame({"protocol": protocol, "rank": everything, "value": shares}))
        best, _ = ranked_gallery(query_features, gallery_features, query, gallery, protocol)
        tables.append(
            pd.DataFrame(
                {
                    "protocol": protocol,
                    "video_id": [query_ids[i] for i in result.query],
                    "label": [split.tests["query"].classes[p] for p in result.person],
                    "rank": result.first_rank.astype(np.int32),
                    "average_precision": result.average_precision,
                    "ranked": [[gallery_ids[g] for g in best[i] if g >= 0] for i in result.query],
                    "hits": [
                        [bool(gallery.person[g] == query.person[i]) for g in best[i] if g >= 0]
                        for i in result.query
                    ],
                }
            )
        )
    table = pd.concat(tables)
    measured = retrieval_metrics(table)
    metrics = {protocol: about[protocol] | measured[protocol] for protocol in protocols}
    return metrics, table, pd.concat(curves)
