"""The rows of a table of results: each protocol's measures, with a cell for every method."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vidprompt.config.names import FLOOR, METHODS, PROTOCOLS
from vidprompt.config.params_files import PARAMS
from vidprompt.config.published import PublishedRow, rows_of_dataset
from vidprompt.metrics.result import (
    WITHIN,
    Estimate,
    Measure,
    ProtocolResult,
    measures,
    read_result,
    source_tests,
)
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
TOO_FEW = "†"  # in place of an interval of fewer than MIN_UNITS videos, groups or persons
TOO_FEW_NOTE = (
    f"{TOO_FEW} fewer than five videos, groups of videos or persons: n too small to say anything."
)
MEASURE_TITLES = {"top1": "top-1", "top5": "top-5", "hm": "harmonic mean"}
Results = dict[str, dict[str, ProtocolResult]]  # method -> protocol -> metrics.json


@dataclass(frozen=True)
class Cell:
    """One number in [0, 1], with its 95% interval and its deviation over splits where known."""

    value: float
    low: float | None = None
    high: float | None = None
    std: float | None = None
    too_few: bool = False  # videos or persons for an interval

    @classmethod
    def of(cls, found: Estimate | Measure) -> Cell:
        """The cell of a number of metrics.json."""
        low, high = found.ci95 or (None, None)
        too_few = found.ci95 is None and found.units is not None
        return cls(found.value, low, high, found.std, too_few)

    @property
    def text(self) -> str:
        """`41.0 [36.0, 46.0]`, in %; `41.0 †` of too few videos."""
        if self.too_few:
            return f"{percent(self.value)} {TOO_FEW}"
        if self.low is not None and self.high is not None:
            return f"{percent(self.value)} [{percent(self.low)}, {percent(self.high)}]"
        return percent(self.value) + (f" ± {percent(self.std)}" if self.std is not None else "")

    @property
    def spread(self) -> str:
        """`36.0–46.0`, `± 1.2`, `†` or nothing, in %."""
        if self.too_few:
            return TOO_FEW
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
    published: list[str] = field(
        default_factory=list
    )  # `79.1 ez_clip`: in %, and the table it is of

    @property
    def has_own_name(self) -> bool:
        """True for a published list, and for draws beside the protocol's usual ones."""
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


def read_results(dataset: str, results: Path = Path("results")) -> Results:
    """Every metrics.json of a dataset, methods and protocols in order. DataError when none is."""
    by_method: Results = {}
    for path in sorted((results / dataset).glob("*/*/metrics.json")):
        by_method.setdefault(path.parent.parent.name, {})[path.parent.name] = read_result(path)
    if not by_method:
        raise DataError(
            f"{results / dataset} has no metrics.json: run `make repro` (or `dvc repro`) first"
        )
    known = {name: i for i, name in enumerate(PROTOCOLS)}
    return {
        method: dict(
            sorted(
                by_method[method].items(), key=lambda one: (known.get(one[0], len(known)), one[0])
            )
        )
        for method in order_methods(list(by_method))
    }


def read_rows(dataset: str, results: Path = Path("results")) -> list[Row]:
    """The rows of a dataset's table, with the published figures that `params/` beside `results` has.

    Missing files are absent cells; DataError without any file.
    """
    published = rows_of_dataset(dataset, results.parent / PARAMS)
    return table_rows(read_results(dataset, results), published)


def table_rows(results: Results, published: Sequence[PublishedRow] = ()) -> list[Row]:
    """The rows of a table, in order; published figures stand at the measure of the same method and splits."""
    rows: dict[tuple[str, str], Row] = {}
    for method, by_protocol in results.items():
        for protocol, result in by_protocol.items():
            if protocol not in PROTOCOLS:
                continue
            for row, measure in _shown(protocol, result):
                row = rows.setdefault((protocol, row.key), row)
                row.cells[method] = Cell.of(measure)
                row.coverage[method] = result.coverage
                row.published.extend(_figures(result, measure, published))
    return sorted(rows.values(), key=_sort_key)


def _figures(
    result: ProtocolResult, measure: Measure, published: Sequence[PublishedRow]
) -> Iterator[str]:
    """The published figures of a summary's measure: same method, protocol and splits, by their ids."""
    ids = {result.splits[split].id for split, _ in source_tests(result, measure.test)}
    for row in published:
        same = (row.method, row.protocol) == (result.method, result.protocol) and {*row.ids} == ids
        if same and measure.name in row.values:
            yield f"{row.values[measure.name].text} {row.name.partition('/')[0]}"


def _sort_key(row: Row) -> tuple[int, bool, str, int, str]:
    """Protocols in order, measures as they are listed, shots by number, then rows with own names."""
    keys = ("top1", "base", "novel", "hm", "object", "pair")
    name, _, part = row.key.rpartition("/")
    shots = re.match(r"\d+", row.key)
    rank = int(shots[0]) if shots else keys.index(part) if part in keys else len(keys)
    if row.protocol == "reid":
        order = ("general", "clothes-changing", "same-clothes")
        rank = 2 * (order.index(name) if name in order else len(order)) + (part == "mAP")
    return (
        PROTOCOLS.index(row.protocol),
        row.has_own_name,
        name if row.has_own_name else "",
        rank,
        row.key,
    )


def _shown(protocol: str, result: ProtocolResult) -> Iterator[tuple[Row, Measure]]:
    """Each measure of the summary that a table shows, with an empty row for it."""
    facet = PROTOCOL_TITLES[protocol]
    for one in measures(result):
        if one.split:
            continue
        if one.measure in ("R-1", "mAP"):
            key, title = f"{one.test}/{one.measure}", f"{one.test} {one.measure}"
            yield Row(protocol, key, title, one.test, f"{facet}, {one.measure}"), one
        elif one.measure in ("top1", "hm"):
            key, short = "top1" if one.test == protocol else one.test, _short(protocol, one.test)
            title = short if one.measure == "hm" or key == "top1" else f"{short}, top-1"
            yield Row(protocol, key, title, short, facet), one
        elif one.measure.startswith(WITHIN) and one.test == protocol == "supervised":
            group = one.measure.removeprefix(WITHIN)
            title, short = GROUP_TITLES.get(group, (f"within {group}", f"within {group}"))
            suffix = f" (chance {percent(one.chance)})" if one.chance is not None else ""
            yield Row(protocol, group, f"{title}{suffix}", short, facet, chance=one.chance), one


def _short(protocol: str, name: str) -> str:
    """An entry of a summary, under a bar: `2-shot`, `base`, `half`, or a published list's name."""
    if name == protocol:
        return "top-1"
    words = name.removeprefix(f"{protocol}_").replace("/", " ").replace("_", "-")
    words = re.sub(r"\bhm$", "harmonic mean", words)
    return re.sub(r"^(\d+)shot\b", r"\1-shot", words)
