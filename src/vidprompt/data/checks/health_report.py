"""The health report: how many videos are usable, by reason, split and class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from vidprompt.data.checks.duplicates import duplicates_report
from vidprompt.data.manifest.health import Health
from vidprompt.data.manifest.table import usable
from vidprompt.data.splits.split_file import Split

LISTED = 200  # broken videos named; the manifest has all


def health_report(manifest: pd.DataFrame, splits: Mapping[str, Split]) -> dict[str, Any]:
    """Counts and coverage, sorted, without times or paths of the machine.

    Returns `videos`, `usable`, `coverage`; `reasons` (reason → its sentence and number of videos);
    `splits` (split → list → listed, usable, coverage); `classes` (source → class → the same);
    `broken` (the first videos that cannot be used, with their reasons) and `unlisted` (how many more);
    `duplicates` (see `duplicates_report`).
    Coverage is a share in [0, 1], None where nothing is listed.
    """
    good = usable(manifest)
    usable_ids = set(manifest.loc[good, "video_id"])
    counts = manifest["health"].value_counts()
    reasons = {
        str(name): {"videos": int(counts[name]), "sentence": Health(name).sentence}
        for name in sorted(counts.index)
    }
    by_split = {
        key: {
            part: _coverage(len(listed.videos), sum(v in usable_ids for v in listed.videos))
            for part, listed in splits[key].lists()
        }
        for key in sorted(splits)
    }
    by_class: dict[str, dict[str, Any]] = {}
    grouped = good.groupby([manifest["source"], manifest["label"]]).agg(["size", "sum"])
    for (source, label), listed, usable_ones in grouped.itertuples():
        by_class.setdefault(str(source), {})[str(label)] = _coverage(int(listed), int(usable_ones))
    columns = ["video_id", "health", "detail"]
    broken = manifest.loc[~good, columns].sort_values("video_id").to_dict("records")
    return {
        "videos": len(manifest),
        **{k: v for k, v in _coverage(len(manifest), len(usable_ids)).items() if k != "listed"},
        "reasons": reasons,
        "splits": by_split,
        "classes": by_class,
        "broken": broken[:LISTED],
        "unlisted": max(0, len(broken) - LISTED),
        "duplicates": duplicates_report(manifest),
    }


def _coverage(listed: int, usable_ones: int) -> dict[str, Any]:
    share = round(usable_ones / listed, 6) if listed else None
    return {"listed": listed, "usable": usable_ones, "coverage": share}
