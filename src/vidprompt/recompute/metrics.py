"""Every number of a result again from its kept predictions: no model, no features, no GPU."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vidprompt.metrics.predictions import read_predictions
from vidprompt.metrics.recognition import metrics_of
from vidprompt.metrics.reidentification import retrieval_metrics
from vidprompt.reporting.measures import percent


def recomputed(path: Path) -> dict[str, Any]:
    """`summary` and, of a recognition protocol, `tests` (split → test → metrics), as metrics.json has them.

    What the lists and not the predictions say is missing: listed, coverage, skipped queries, ids. Raises
    DataError for a file that holds no predictions.
    """
    table = read_predictions(path)
    if "average_precision" in table:
        return {"summary": retrieval_metrics(table)}
    tests, summary = metrics_of(table)
    return {"tests": tests, "summary": summary}


def drawn(found: Mapping[str, Any]) -> Any:
    """The numbers for a terminal (a rich Table): a row a measure, values in %."""
    from rich import box
    from rich.table import Table

    table = Table("", "value", "95% interval", box=box.SIMPLE_HEAD, show_edge=False)
    for section in ("tests", "summary"):
        for name, entry in _numbers(found.get(section, {}), section):
            interval = "–".join(percent(end) for end in entry.get("ci95", []))
            spread = f" ± {percent(entry['std'])}" if "std" in entry else ""
            table.add_row(name, percent(entry["value"]) + spread, interval)
    return table


def _numbers(entry: Mapping[str, Any], path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Whatever has a `value`, with the way to it."""
    if "value" in entry:
        yield path, entry
        return
    for name, below in entry.items():
        if isinstance(below, dict):
            yield from _numbers(below, f"{path}/{name}")
