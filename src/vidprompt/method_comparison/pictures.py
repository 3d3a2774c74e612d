"""The plots of a comparison: accuracy against trained parameters, and against training time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from vidprompt.method_comparison.result import headline, key_title
from vidprompt.reporting.measures import PROTOCOL_TITLES
from vidprompt.reporting.rendering import Spec, colour, method_colour

SIZE = 190  # of a panel
COLUMNS = 3
MOST = 9  # panels of a plot
# a method's mark: colours repeat after six, shapes after five
SHAPES = ("circle", "square", "diamond", "triangle-up", "cross")


def drawn(result: Mapping[str, Any], speed: Mapping[str, Any]) -> dict[str, Spec]:
    """Name → Vega-Lite specification: `parameters`, and where times were measured `time`."""
    parameters = {m: one["trained_parameters"] for m, one in result["methods"].items()}
    plots = {"parameters": _plot(result, parameters, "trained parameters")}
    times = {}
    for method, one in result["methods"].items():
        steps = one["steps"].get(result["measured_on"])
        if steps and method in speed.get("methods", {}):
            times[method] = steps * speed["methods"][method]["seconds"]
        elif not any(one["steps"].values()):
            times[method] = 0.0
    if any(times.values()):
        plots["time"] = _plot(result, times, "training time, s")
    return plots


def _plot(result: Mapping[str, Any], x: Mapping[str, float], title: str) -> Spec:
    """A panel a headline measure, all on one scale of `x`; what trains nothing is a dashed line."""
    panels = []
    for protocol in result["protocols"]:
        found = [one["measures"].get(protocol, {}) for one in result["methods"].values()]
        keys = list(dict.fromkeys(key for measures in found for key in measures))
        for key in headline(protocol, keys):
            panels.append(_panel(result, protocol, key, x, title))
    shown = panels[:MOST]
    return {"concat": shown, "columns": COLUMNS, "spacing": 22, "padding": 12}


def _panel(
    result: Mapping[str, Any], protocol: str, key: str, x: Mapping[str, float], title: str
) -> Spec:
    methods = list(result["methods"])
    rows = []
    for method, one in result["methods"].items():
        cell = one["measures"].get(protocol, {}).get(key)
        if cell is None or method not in x:
            continue
        low, high = cell.get("ci95", (cell["value"], cell["value"]))
        row = {"method": method, "x": x[method], "y": 100 * cell["value"]}
        rows.append(row | {"low": 100 * low, "high": 100 * high})
    trained = [row for row in rows if row["x"] > 0]
    floors = [row for row in rows if row["x"] <= 0]
    axis = {"title": title, "grid": False, "format": "~s", "values": _ticks(x)}
    across = {"field": "x", "type": "quantitative", "scale": _log_scale(x), "axis": axis}
    up = _percent("y")
    colours = {"field": "method", "type": "nominal", "scale": _scale(methods), "legend": LEGEND}
    shapes = {
        "field": "method",
        "type": "nominal",
        "scale": {
            "domain": methods,
            "range": [SHAPES[k % len(SHAPES)] for k in range(len(methods))],
        },
        "legend": LEGEND,
    }
    ends = {"x": across, "y": _percent("low"), "y2": {"field": "high"}, "color": colours}
    marks = {"x": across, "y": up, "color": colours, "shape": shapes}
    line = {"type": "rule", "strokeDash": [4, 3], "strokeWidth": 1.5}
    layers = [
        _layer(floors, {"type": "rect", "opacity": 0.12}, y=_percent("low"), y2={"field": "high"}),
        _layer(floors, line, y=up, color=colours),
        *(
            _layer(floors[k::2], NAME | {"align": side}, x={"value": at}, y=up, text=METHOD)
            for k, (side, at) in enumerate(
                (("right", SIZE - 2), ("left", 2))
            )  # apart where they are equal
        ),
        _layer(trained, {"type": "rule", "strokeWidth": 1.5}, **ends),
        _layer(trained, {"type": "point", "filled": True, "size": 70}, **marks),
    ]
    return {
        "title": f"{PROTOCOL_TITLES[protocol]}: {key_title(protocol, key)}, %",
        "width": SIZE,
        "height": SIZE,
        "layer": [layer for layer in layers if layer["data"]["values"]] or layers,
    }


LEGEND: Spec = {"symbolType": "circle", "orient": "bottom", "columns": 4, "title": None}


NAME: Spec = {"type": "text", "baseline": "bottom", "dy": -2, "fontSize": 9}
METHOD: Spec = {"field": "method"}


def _ticks(x: Mapping[str, float]) -> list[float]:
    """Powers of ten within the scale, and where they are few 2 and 5 times them."""
    low, high = _log_scale(x)["domain"]
    powers = [10.0**i for i in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]
    for factors in ((1,), (1, 3), (1, 2, 5)):
        found = [p * f for p in powers for f in factors if low <= p * f <= high]
        if len(found) >= 3:
            break
    return found


def _log_scale(x: Mapping[str, float]) -> Spec:
    """A logarithmic scale with room on both sides, the same in all panels."""
    above = [value for value in x.values() if value > 0] or [1.0]
    return {"type": "log", "domain": [min(above) / 2, max(above) * 2], "nice": False}


def _percent(field: str) -> Spec:
    scale = {"domain": [0, 100], "nice": False}
    axis = {"title": None, "values": [0, 25, 50, 75, 100]}
    return {"field": field, "type": "quantitative", "scale": scale, "axis": axis}


def _scale(methods: Sequence[str]) -> Spec:
    return {"domain": list(methods), "range": [method_colour(k) for k in range(len(methods))]}


def _layer(values: Sequence[Mapping[str, Any]], mark: Spec, **channels: Spec) -> Spec:
    mark = {"color": colour("soft")} | mark
    return {"data": {"values": list(values)}, "mark": mark, "encoding": channels}
