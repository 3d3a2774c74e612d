"""The pictures of a tune: history, learning curves, values against results, importance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from vidprompt.reporting.rendering import Spec, colour, method_colour
from vidprompt.tuning.study import COMPLETE, PRUNED

WIDTH, HEIGHT = 340, 190
MOST_KEYS = 4  # whose values are drawn, of a method

Trials = Sequence[Mapping[str, Any]]


def drawn(result: Mapping[str, Any]) -> dict[str, Spec]:
    """Name → Vega-Lite specification: `history`, and what was searched of each method.

    Nothing where no trial was evaluated.
    """
    if not any(t["held_out"] for one in result["methods"].values() for t in one["trials"]):
        return {}
    methods = {name: one["trials"] for name, one in result["methods"].items()}
    title = "held-out mAP, %" if result["measure"] == "mAP" else "held-out top-1, %"
    pictures = {"history": _row([_history(methods, title), _curves(methods, title)])}
    for k, (name, one) in enumerate(result["methods"].items()):
        panels = [_values(one["trials"], key, title, k) for key in _keys(one)]
        if one["importance"]:
            panels.append(_importance(one["importance"], k))
        if panels:
            pictures[f"searched_{name}"] = _row(panels) | {"title": name}
    return pictures


def _row(panels: Sequence[Spec]) -> Spec:
    return {"concat": list(panels), "columns": 2, "spacing": 28, "padding": 12}


def _keys(one: Mapping[str, Any]) -> list[str]:
    """The searched keys, the most important first."""
    importance = one["importance"]
    return sorted(one["searched"], key=lambda key: -importance.get(key, 0))[:MOST_KEYS]


def _history(methods: Mapping[str, Trials], title: str) -> Spec:
    """Each trial's last measure, pruned ones hollow, and the best so far as a line."""
    points, lines = [], []
    for name, trials in methods.items():
        ended = [t for t in trials if t["value"] is not None]
        points += [
            {"x": t["number"], "y": 100 * _last(t), "name": name, "state": t["state"]}
            for t in trials
            if t["held_out"]
        ]
        best = accumulate((t["value"] for t in ended), max)
        lines += [
            {"x": t["number"], "y": 100 * value, "name": name}
            for t, value in zip(ended, best, strict=True)
        ]
    colours = _colours(list(methods))
    x = _axis("x", "trial") | {"axis": {"title": "trial", "format": "d", "grid": False}}
    y = _axis("y", title)
    step = {"type": "line", "interpolate": "step-after", "strokeWidth": 2}
    whole, hollow = ([p for p in points if p["state"] == s] for s in (COMPLETE, PRUNED))
    return _panel(
        "history: each trial (hollow: pruned), and the best so far",
        [
            _layer(lines, step, x=x, y=y, color=colours),
            _layer(whole, {"type": "point", "filled": True, "size": 45}, x=x, y=y, color=colours),
            _layer(hollow, {"type": "point", "filled": False, "size": 40}, x=x, y=y, color=colours),
        ],
    )


def _curves(methods: Mapping[str, Trials], title: str) -> Spec:
    """The measure by evaluation, a line a trial."""
    rows = [
        {
            "x": number,
            "y": 100 * value,
            "name": name,
            "trial": f"{name} {t['number']}",
            "opacity": 0.3 if t["state"] == PRUNED else 0.85,
        }
        for name, trials in methods.items()
        for t in trials
        for number, value in enumerate(t["held_out"], 1)
    ]
    x = _axis("x", "evaluation") | {"axis": {"title": "evaluation", "format": "d", "grid": False}}
    channels = {
        "x": x,
        "y": _axis("y", title),
        "color": _colours(list(methods)),
        "detail": {"field": "trial", "type": "nominal"},
        "opacity": {"field": "opacity", "type": "quantitative", "scale": None, "legend": None},
    }
    line = {"type": "line", "strokeWidth": 1.4, "point": {"size": 12}}
    return _panel("learning: each trial (pale: pruned)", [_layer(rows, line, **channels)])


def _values(trials: Trials, key: str, title: str, k: int) -> Spec:
    """The last measure over the values of a key; pruned trials are hollow."""
    shown = [t for t in trials if t["held_out"] and key in t["values"]]
    values = [t["values"][key] for t in shown]
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    rows = [
        {
            "x": value if numbers else str(value),
            "y": 100 * _last(t),
            "state": t["state"],
        }
        for t, value in zip(shown, values, strict=True)
    ]
    log = numbers and bool(values) and min(values) > 0 and max(values) > 30 * min(values)
    axis: Spec = {"title": None, "grid": False, "labelFontSize": 10}
    x: Spec = {"field": "x", "type": "quantitative" if numbers else "nominal", "axis": axis}
    if numbers:
        x["scale"] = {"type": "log"} if log else {"zero": False}
        axis |= {"format": "~e" if log else "~g", "tickCount": 5}
    y = _axis("y", title)
    tone = {"value": method_colour(k + 1)}
    whole, hollow = ([r for r in rows if r["state"] == s] for s in (COMPLETE, PRUNED))
    return _panel(
        _short(key),
        [
            _layer(whole, {"type": "point", "filled": True, "size": 45}, x=x, y=y, color=tone),
            _layer(hollow, {"type": "point", "filled": False, "size": 40}, x=x, y=y, color=tone),
        ],
    )


def _importance(shares: Mapping[str, float], k: int) -> Spec:
    rows = [{"key": key, "share": share} for key, share in shares.items()]
    x = {"field": "share", "type": "quantitative", "axis": {"title": "share", "grid": False}}
    y = {
        "field": "key",
        "type": "nominal",
        "sort": None,
        "axis": {"title": None, "labelLimit": 220},
    }
    bar = {"type": "bar", "height": {"band": 0.6}}
    layer = _layer(rows, bar, x=x, y=y, color={"value": method_colour(k + 1)})
    return _panel("what decides (PED-ANOVA)", [layer]) | {"height": 26 * len(rows), "width": 200}


def _short(key: str) -> str:
    """The last two parts of a key."""
    return ".".join(key.split(".")[-2:])


# -- pieces ---------------------------------------------------------------------------------------


def _last(trial: Mapping[str, Any]) -> float:
    value = trial["value"] if trial["value"] is not None else trial["held_out"][-1]
    return float(value)


def _colours(names: Sequence[str]) -> Spec:
    scale = {"domain": list(names), "range": [method_colour(k + 1) for k in range(len(names))]}
    legend = {"symbolType": "circle", "symbolFillColor": colour("page")} if len(names) > 1 else None
    return {"field": "name", "type": "nominal", "scale": scale, "legend": legend}


def _axis(field: str, title: str) -> Spec:
    return {
        "field": field,
        "type": "quantitative",
        "scale": {"zero": False, "nice": True},
        "axis": {"title": title, "tickCount": 5},
    }


def _layer(values: Sequence[Mapping[str, Any]], mark: Spec, **channels: Spec) -> Spec:
    return {"data": {"values": list(values)}, "mark": mark, "encoding": channels}


def _panel(title: str, layers: Sequence[Spec]) -> Spec:
    shown = [layer for layer in layers if layer["data"]["values"]]
    return {"title": title, "width": WIDTH, "height": HEIGHT, "layer": shown or list(layers)}
