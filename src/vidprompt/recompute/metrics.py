"""Recomputes every number of a result from its predictions, without model, features or GPU."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vidprompt.metrics.predictions import read_predictions
from vidprompt.metrics.recognition import metrics_of
from vidprompt.metrics.reidentification import retrieval_metrics
from vidprompt.reporting.measures import percent


def recompute_metrics(path: Path, others: Sequence[str] = ()) -> dict[str, Any]:
    """`summary` and, of a recognition protocol, `tests` (split → test → metrics), as in metrics.json.

    Without what follows from lists: listed, coverage, skipped queries, ids. `others`: metrics of plug-ins.
    DataError for a file that holds no predictions, UserError for a plug-in that is not installed.
    """
    table = read_predictions(path)
    if "average_precision" in table:
        return {"summary": retrieval_metrics(table)}
    tests, summary = metrics_of(table, others)
    return {"tests": tests, "summary": summary}


def metrics_table(metrics: Mapping[str, Any]) -> Any:
    """A rich Table of recomputed metrics: a row a measure, values in %."""
    from rich import box
    from rich.table import Table

    table = Table("", "value", "95% interval", box=box.SIMPLE_HEAD, show_edge=False)
    for section in ("tests", "summary"):
        for name, entry in _numbers(metrics.get(section, {}), section):
            interval = "–".join(percent(end) for end in entry.get("ci95", []))
            spread = f" ± {percent(entry['std'])}" if "std" in entry else ""
            table.add_row(name, percent(entry["value"]) + spread, interval)
    return table


def _numbers(entry: Mapping[str, Any], path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(path, entry) of every entry with a `value`."""
    if "value" in entry:
        yield path, entry
        return
    for name, below in entry.items():
        if isinstance(below, dict):
            yield from _numbers(below, f"{path}/{name}")
