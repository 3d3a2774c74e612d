"""Pictures of a dataset's results for the Prefect UI, drawn offline as PNG."""

from __future__ import annotations

import io
import json
from base64 import b64encode
from pathlib import Path
from typing import Any

import pandas as pd

from vidprompt.config.names import METHODS
from vidprompt.reporting.measures import PROTOCOL_TITLES, order_methods, read_rows

SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"  # named, never fetched
COLOURS = ("#8a8f98", "#2f6fde", "#d9601a", "#2a9d5c", "#9b59b6")
SCALE = 1.5
COLOURS_KEPT = 64  # of a picture: a third of the bytes
MOST_POINTS = 200  # of a curve


def measure_bars(dataset: str, results: Path = Path("results")) -> bytes:
    """Every protocol's measures by method, with 95 % intervals. DataError when there is no result."""
    rows = read_rows(dataset, results)
    methods = order_methods([method for row in rows for method in row.cells])
    values = [
        {
            "measure": f"{PROTOCOL_TITLES[row.protocol]}: {row.measure}",
            "method": method,
            "value": 100 * cell.value,
            **({"low": 100 * cell.low} if cell.low is not None else {}),
            **({"high": 100 * cell.high} if cell.high is not None else {}),
        }
        for row in rows
        for method, cell in row.cells.items()
    ]
    order = list(dict.fromkeys(str(value["measure"]) for value in values))
    y = {"field": "measure", "type": "nominal", "sort": order, "title": None}
    offset = {"field": "method", "type": "nominal", "sort": methods}
    return _drawn(
        {
            "data": {"values": values},
            "width": 420,
            "height": {"step": 9},
            "encoding": {"y": y | {"axis": {"labelLimit": 320}}, "yOffset": offset},
            "layer": [
                {
                    "mark": "bar",
                    "encoding": {
                        "x": _percent("value"),
                        "color": _method(methods),
                    },
                },
                {
                    "mark": {"type": "rule", "color": "#222"},
                    "encoding": {"x": _percent("low"), "x2": {"field": "high"}},
                },
            ],
        }
    )


def loss_curves(dataset: str, results: Path = Path("results")) -> bytes | None:
    """The training losses of every run; None when nothing was trained."""
    tables = []
    for path in sorted((results / dataset).glob("*/runs/*/loss.csv")):
        table = pd.read_csv(path)
        table = table.iloc[:: max(1, len(table) // MOST_POINTS)]
        method, run = path.parts[-4], path.parent.name
        tables.append(table[["step", "loss"]].assign(method=method, run=run))
    if not tables:
        return None
    whole = pd.concat(tables)
    methods = order_methods(list(whole["method"]))
    return _drawn(
        {
            "data": {"values": whole.to_dict("records")},
            "facet": {"field": "run", "type": "nominal", "title": None},
            "columns": 3,
            "resolve": {"scale": {"x": "independent", "y": "independent"}},
            "spec": {
                "width": 200,
                "height": 120,
                "mark": "line",
                "encoding": {
                    "x": {"field": "step", "type": "quantitative", "title": None},
                    "y": {"field": "loss", "type": "quantitative", "title": None},
                    "color": _method(methods),
                },
            },
        }
    )


def data_uri(png: bytes) -> str:
    """A picture that needs no server: what is shown in a year is what was drawn."""
    return "data:image/png;base64," + b64encode(png).decode()


def _percent(field: str) -> dict[str, Any]:
    scale = {"domain": [0, 100]}
    return {"field": field, "type": "quantitative", "title": "%", "scale": scale}


def _method(methods: list[str]) -> dict[str, Any]:
    places = {name: i for i, name in enumerate(order_methods([*METHODS, *methods]))}
    colours = [COLOURS[places[name] % len(COLOURS)] for name in methods]
    scale = {"domain": methods, "range": colours}
    return {"field": "method", "type": "nominal", "title": None, "scale": scale}


def _drawn(spec: dict[str, Any]) -> bytes:
    import vl_convert
    from PIL import Image

    config = {"view": {"stroke": None}, "axis": {"grid": True, "gridColor": "#e6e6e6"}}
    whole = {"$schema": SCHEMA, "background": "white", "config": config, **spec}
    image = Image.open(io.BytesIO(vl_convert.vegalite_to_png(json.dumps(whole), scale=SCALE)))
    small = io.BytesIO()
    image.convert("RGB").quantize(COLOURS_KEPT).save(small, "PNG", optimize=True)
    return small.getvalue()
