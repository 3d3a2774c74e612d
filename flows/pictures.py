"""Pictures of a dataset's results for the Prefect UI, as PNG."""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path

from vidprompt.config.names import METHODS
from vidprompt.reporting import charts
from vidprompt.reporting.dataset_report.data import facets, loss_tables, points_of
from vidprompt.reporting.measures import order_methods, read_rows
from vidprompt.reporting.rendering import png

SCALE = 1.5
COLUMNS = 2


def measure_bars(dataset: str, results: Path = Path("results")) -> bytes:
    """Every protocol's measures by method, with 95 % intervals. DataError when there is no result."""
    rows = read_rows(dataset, results)
    colours = _colours({method for row in rows for method in row.cells})
    panels = {
        title: charts.bars(part, list(colours), legend=colours)
        for title, part in facets(rows).items()
    }
    return png(charts.grid(panels, COLUMNS), scale=SCALE)


def loss_curves(dataset: str, results: Path = Path("results")) -> bytes | None:
    """The training losses of every run; None when nothing was trained."""
    colours = _colours({path.parent.name for path in (results / dataset).glob("*/runs")})
    runs: dict[str, list[charts.Series]] = {}
    for method, k in colours.items():
        for run, table in loss_tables(results / dataset, method):
            points = points_of(table, "step", "loss")
            runs.setdefault(run, []).append(charts.Series(method, points, k))
    panels = {
        run: charts.lines(series, "step", legend=colours) for run, series in sorted(runs.items())
    }
    return png(charts.grid(panels, COLUMNS), scale=SCALE) if panels else None


def _colours(methods: Set[str]) -> dict[str, int]:
    """The methods in order, with the numbers of their colours: the same ones in every picture."""
    places = {method: k for k, method in enumerate(order_methods([*METHODS, *methods]))}
    return {method: k for method, k in places.items() if method in methods}
