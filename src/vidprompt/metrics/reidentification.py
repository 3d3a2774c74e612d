"""Person re-identification: metrics, predictions and plot data from stored tracklet features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from vidprompt.data.splits.split_file import Split
from vidprompt.inference.feature_store import Features, takes_all_frames
from vidprompt.metrics.intervals import combine, mean_of_test
from vidprompt.metrics.recognition import rounded, with_interval
from vidprompt.metrics.retrieval import RetrievalSet, evaluate_retrieval, ranked_gallery
from vidprompt.system.errors import DataError

RANKS = (1, 5, 10)


def _side(
    split: Split, name: str, features: Features, manifest: pd.DataFrame
) -> tuple[list[str], np.ndarray, RetrievalSet]:
    """Usable tracklets of query or gallery: ids, features (n, E), persons, cameras and clothes.

    Raises DataError when there is none.
    """
    subset = split.tests[name]
    positions, rows = features.rows(subset.videos, takes_all_frames(split))
    if not len(rows):
        raise DataError(
            f"{split.id}: no tracklet of {name} is usable: all {len(subset.videos)} listed ones are "
            "missing or broken"
        )
    videos = [subset.videos[i] for i in positions]
    rows_of_manifest = manifest.loc[videos]
    clothes = {c: i for i, c in enumerate(sorted(manifest["clothes"].unique()))}
    side = RetrievalSet(
        person=np.asarray(subset.labels, np.int64)[positions],
        camera=rows_of_manifest["camera"].to_numpy(np.int64),
        clothes=rows_of_manifest["clothes"].map(clothes).to_numpy(np.int64),
    )
    return videos, features.video[rows].mean(1), side


def retrieval_metrics(table: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Protocol → n, R-k and mAP with intervals by person, from the table of predictions alone."""
    metrics: dict[str, dict[str, Any]] = {}
    for protocol, rows in table.groupby("protocol", sort=False):
        values = {f"R-{k}": (rows["rank"] < k).to_numpy(np.float64) for k in RANKS}
        values["mAP"] = rows["average_precision"].to_numpy(np.float64)
        persons = pd.factorize(rows["label"])[0]
        metrics[str(protocol)] = {"n": len(rows)} | {
            name: with_interval(combine(mean.value, [mean], [1.0]), gallery=True)
            for name, value in values.items()
            for mean in [mean_of_test(value, persons)]
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
    identity: dict[str, dict[str, Any]] = {}
    tables, curves = [], []
    curve_ranks = tuple(range(1, min(20, len(gallery_ids)) + 1))
    dataset, _, tracklet = split.id.removeprefix("reid/").partition("@")
    for protocol in protocols:
        result = evaluate_retrieval(
            query_features, gallery_features, query, gallery, protocol, curve_ranks
        )
        if not result.evaluated:
            raise DataError(
                f"{split.id}: no query has a positive in the gallery under {protocol}; leave it out "
                "of the protocol's `protocols`"
            )
        identity[protocol] = {
            "id": f"reid/{dataset}/{protocol}@{tracklet}",
            "skipped": result.skipped,
        }
        shares = [rounded(result.cmc[k]) for k in curve_ranks]
        curves.append(pd.DataFrame({"protocol": protocol, "rank": curve_ranks, "value": shares}))
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
    values = retrieval_metrics(table)
    metrics = {protocol: identity[protocol] | values[protocol] for protocol in protocols}
    return metrics, table, pd.concat(curves)
