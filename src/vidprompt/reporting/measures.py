"""What a table of results shows: every protocol's measures by method, from metrics.json."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vidprompt.config.names import FLOOR, METHODS, PROTOCOLS
from vidprompt.system.errors import DataError

PROTOCOL_TITLES = {
    "zero_shot": "Zero-shot",
    "base_to_novel": "Base to novel",
    "few_shot": "Few-shot",
    "supervised": "Supervised",
    "reid": "Re-identification",
}
GROUP_TITLES = {  # classes grouped by an attribute: in a table, under a bar
    "object": ("motion given object", "given object"),
    "pair": ("direction in a pair", "within pair"),
}
Metrics = dict[str, dict[str, dict[str, Any]]]  # method -> protocol -> metrics.json


@dataclass(frozen=True)
class Cell:
    """One number in [0, 1], with its 95% interval and its deviation over splits where known."""

    value: float
    low: float | None = None
    high: float | None = None
    std: float | None = None

    @property
    def text(self) -> str:
        """`41.0 [36.0, 46.0]`, in %."""
        if self.low is not None and self.high is not None:
            return f"{percent(self.value)} [{percent(self.low)}, {percent(self.high)}]"
        return percent(self.value) + (f" ± {percent(self.std)}" if self.std is not None else "")

    @property
    def spread(self) -> str:
        """`36.0–46.0`, `± 1.2` or nothing, in %."""
        if self.low is not None and self.high is not None:
            return f"{percent(self.low)}–{percent(self.high)}"
        return f"± {percent(self.std)}" if self.std is not None else ""


@dataclass(frozen=True)
class Row:
    """One measure of one protocol: a cell a method that has it, in the order of the columns."""

    protocol: str
    key: str
    measure: str  # in a table
    short: str  # under a bar
    facet: str  # the chart it belongs to
    cells: dict[str, Cell] = field(default_factory=dict)
    coverage: dict[str, float] = field(default_factory=dict)
    chance: float | None = None

    @property
    def named(self) -> bool:
        """Has it a name of its own: a published list's, or draws beside the protocol's usual ones?"""
        return self.key.startswith(f"{self.protocol}_")

    @property
    def best(self) -> list[str]:
        """The methods with the highest value, as far as the digits shown tell them apart."""
        shown = {method: percent(cell.value) for method, cell in self.cells.items()}
        top = max(self.cells.values(), key=lambda cell: cell.value, default=None)
        return [m for m, text in shown.items() if top is not None and text == percent(top.value)]

    @property
    def gain(self) -> tuple[str, float] | None:
        """The best trained method and its difference to the floor; None without both."""
        trained = {m: cell.value for m, cell in self.cells.items() if m != FLOOR}
        if FLOOR not in self.cells or not trained:
            return None
        method = max(trained, key=lambda m: trained[m])
        return method, trained[method] - self.cells[FLOOR].value

    @property
    def coverage_text(self) -> str:
        """`99.4%`; a range where methods differ."""
        shown = sorted(set(self.coverage.values()))
        if not shown:
            return "–"
        low, high = percent(shown[0]), percent(shown[-1])
        return f"{low}%" if low == high else f"{low}–{high}%"


def percent(value: float) -> str:
    """A fraction as a percentage with one digit, without the sign."""
    return f"{100 * value:.1f}"


def points(difference: float) -> str:
    """A difference of fractions in percentage points, with a sign."""
    return f"{100 * difference:+.1f}".replace("-", "−")


def order_methods(names: Sequence[str]) -> list[str]:
    """The floor first, then the methods known here, then the rest by name."""
    known = {name: i for i, name in enumerate(METHODS)}
    return sorted(set(names), key=lambda name: (known.get(name, len(known)), name))


def read_metrics(dataset: str, results: Path = Path("results")) -> Metrics:
    """Every metrics.json of a dataset, methods and protocols in order. DataError when none is."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted((results / dataset).glob("*/*/metrics.json")):
        try:
            value = json.loads(path.read_text("utf-8"))
            if not isinstance(value["summary"], dict):
                raise TypeError("summary is not a mapping")
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{path} cannot be read ({error!r}): run `dvc repro` to write it again"
            ) from error
        found.setdefault(path.parent.parent.name, {})[path.parent.name] = value
    if not found:
        raise DataError(
            f"{results / dataset} has no metrics.json: run `make repro` (or `dvc repro`) first"
        )
    known = {name: i for i, name in enumerate(PROTOCOLS)}
    return {
        method: dict(
            sorted(found[method].items(), key=lambda item: (known.get(item[0], len(known)), item))
        )
        for method in order_methods(list(found))
    }


def metrics_rows(dataset: str, results: Path = Path("results")) -> list[Row]:
    """The rows of the table. Missing files are absent cells; DataError when there is no file."""
    return rows_of(read_metrics(dataset, results))


def rows_of(metrics: Metrics) -> list[Row]:
    """The rows of the table from metrics that were read."""
    rows: dict[tuple[str, str], Row] = {}
    for method, by_protocol in metrics.items():
        for protocol in PROTOCOLS:
            if protocol not in by_protocol:
                continue
            values = by_protocol[protocol]
            for row, found in _measures(protocol, values):
                cell = _cell(found)
                if cell is None:
                    continue
                row = rows.setdefault((protocol, row.key), row)
                row.cells[method] = cell
                if values.get("coverage") is not None:
                    row.coverage[method] = float(values["coverage"])
    return sorted(rows.values(), key=_place)


def _place(row: Row) -> tuple[int, bool, str, int, str]:
    """Where a row stands: protocols in order, measures as they are listed, shots by number, then
    those with names of their own."""
    keys = ("top1", "base", "novel", "hm", "object", "pair")
    name, _, part = row.key.rpartition("/")
    shots = re.match(r"\d+", row.key)
    rank = int(shots[0]) if shots else keys.index(part) if part in keys else len(keys)
    if row.protocol == "reid":
        order = ("general", "clothes-changing", "same-clothes")
        rank = 2 * (order.index(name) if name in order else len(order)) + (part == "mAP")
    return PROTOCOLS.index(row.protocol), row.named, name if row.named else "", rank, row.key


def _measures(protocol: str, metrics: Mapping[str, Any]) -> Iterator[tuple[Row, Any]]:
    """Each measure of a protocol: an empty row, and what metrics.json says of it."""
    summary = metrics["summary"]
    facet = PROTOCOL_TITLES[protocol]
    if protocol == "reid":
        for name in summary:
            for measure in ("R-1", "mAP"):
                title, key = f"{name} {measure}", f"{name}/{measure}"
                row = Row(protocol, key, title, name, f"{facet}, {measure}")
                yield row, summary[name].get(measure)
        return
    for name, found in summary.items():
        key, short = "top1" if name == protocol else name, _short(protocol, name)
        harmonic = name.rpartition("/")[2] == "hm"
        title = short if harmonic or key == "top1" else f"{short}, top-1"
        yield Row(protocol, key, title, short, facet), found if harmonic else _get(found, "top1")
    within = _get(summary, "supervised", "within") if protocol == "supervised" else None
    for group, found in sorted((within or {}).items()):
        title, short = GROUP_TITLES.get(group, (f"within {group}", f"within {group}"))
        chance = _number(found.get("chance"))
        suffix = f" (chance {percent(chance)})" if chance is not None else ""
        yield Row(protocol, group, f"{title}{suffix}", short, facet, chance=chance), found


def _short(protocol: str, name: str) -> str:
    """An entry of a summary, under a bar: `2-shot`, `base`, `half`, or a published list's name."""
    if name == protocol:
        return "top-1"
    words = name.removeprefix(f"{protocol}_").replace("/", " ").replace("_", "-")
    words = re.sub(r"\bhm$", "harmonic mean", words)
    return re.sub(r"^(\d+)shot\b", r"\1-shot", words)


def _get(values: Mapping[str, Any], *keys: str) -> Any:
    """Follow keys as far as they are there."""
    found: Any = values
    for key in keys:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def _cell(found: Any) -> Cell | None:
    """A cell, or None for a number that is missing or not a number."""
    if not isinstance(found, Mapping):
        found = {"value": found}
    value = _number(found.get("value"))
    if value is None:
        return None
    interval = [_number(end) for end in found.get("ci95") or (None, None)]
    return Cell(value, interval[0], interval[1], _number(found.get("std")))


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None
