"""Person re-identification: from stored tracklet features to metrics and plots data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from vidprompt.data.splits import Split
from vidprompt.evaluation.features import Features
from vidprompt.evaluation.recognition import SEED, rounded
from vidprompt.evaluation.retrieval import RetrievalSet, evaluate_retrieval, ranked_gallery
from vidprompt.evaluation.uncertainty import bootstrap_interval

RANKS = (1, 5, 10)


def _side(
    split: Split, name: str, features: Features, manifest: pd.DataFrame
) -> tuple[list[str], np.ndarray, RetrievalSet]:
    """Usable tracklets of a side: ids, features (n, E), who wore what before which camera."""
    subset = split.tests[name]
    positions, rows = features.rows(subset.videos)
    videos = [subset.videos[i] for i in positions]
    about = manifest.loc[videos]
    clothes = {c: i for i, c in enumerate(sorted(manifest["clothes"].unique()))}
    sides = RetrievalSet(
        person=np.asarray(subset.labels, np.int64)[positions],
        camera=about["camera"].to_numpy(np.int64),
        clothes=about["clothes"].map(clothes).to_numpy(np.int64),
    )
    return videos, features.video[rows].mean(1), sides


def evaluate_reid(
    split: Split, features: Features, manifest: pd.DataFrame, protocols: Sequence[str]
) -> tuple[dict[str, Any], pd.DataFrame, pd.DataFrame]:
    """Metrics by protocol, predictions, and CMC curves. `manifest` is indexed by video_id."""
    query_ids, query_features, query = _side(split, "query", features, manifest)
    gallery_ids, gallery_features, gallery = _side(split, "gallery", features, manifest)
    metrics: dict[str, Any] = {}
    tables, curves = [], []
    everything = tuple(range(1, min(20, len(gallery_ids)) + 1))
    for protocol in protocols:
        result = evaluate_retrieval(
            query_features, gallery_features, query, gallery, protocol, everything
        )
        dataset, _, tracklet = split.id.removeprefix("reid/").partition("@")
        entry: dict[str, Any] = {
            "id": f"reid/{dataset}/{protocol}@{tracklet}",
            "n": result.evaluated,
            "skipped": result.skipped,
        }
        for k in RANKS:
            values = result.first_rank < k
            low, high = bootstrap_interval(
                values.astype(np.float64), clusters=result.person, seed=SEED
            )
            entry[f"R-{k}"] = {
                "value": rounded(values.mean()),
                "ci95": [rounded(low), rounded(high)],
            }
        low, high = bootstrap_interval(result.average_precision, clusters=result.person, seed=SEED)
        entry["mAP"] = {"value": rounded(result.mean_ap), "ci95": [rounded(low), rounded(high)]}
        metrics[protocol] = entry
        curves.append(
            pd.DataFrame(
                {
                    "protocol": protocol,
                    "rank": everything,
                    "value": [rounded(result.cmc[k]) for k in everything],
                }
            )
        )
        best, _ = ranked_gallery(query_features, gallery_features, query, gallery, protocol)
        tables.append(
            pd.DataFrame(
                {
                    "protocol": protocol,
                    "video_id": [query_ids[i] for i in result.query],
                    "label": [split.tests["query"].classes[p] for p in result.person],
                    "average_precision": result.average_precision,
                    "ranked": [[gallery_ids[g] for g in best[i] if g >= 0] for i in result.query],
                    "hits": [
                        [bool(gallery.person[g] == query.person[i]) for g in best[i] if g >= 0]
                        for i in result.query
                    ],
                }
            )
        )
    return metrics, pd.concat(tables), pd.concat(curves)
