"""Vega-Lite specifications of a review's pictures: base on the left, head on the right, one scale.

They are made for a phone: two panels stand beside each other in 400 points, so text is large in them.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

Spec = dict[str, Any]
Pair = tuple[pd.DataFrame | None, pd.DataFrame | None]
BASE, HEAD = "#8c8c8c", "#0072b2"
COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"]
PANEL, CLASSES, BARS = 168, 24, 14
OTHER = "(other)"  # classes that are not shown
CONFIG: Spec = {
    "background": "white",
    "font": "DejaVu Sans",
    "axis": {"labelFontSize": 11, "titleFontSize": 11, "titleFontWeight": "normal"},
    "legend": {"labelFontSize": 11, "title": None, "orient": "bottom", "labelLimit": 170},
    "title": {"fontSize": 12},
    "view": {"stroke": "#ccc"},
}


def picture(title: str, row: Spec) -> Spec:
    """A row, under a title if there is one."""
    named = {"title": {"text": title, "fontSize": 13, "anchor": "start"}} if title else {}
    schema = "https://vega.github.io/schema/vega-lite/v5.json"
    return {"$schema": schema, **named, **row, "config": CONFIG}


def lines(pair: Pair, x: str, y: str, series: str, *, share: bool = False) -> Spec:
    """Curves of both, a colour a `series`; `share`: from 0 to 100 %."""
    tables = [table for table in pair if table is not None]
    top = 1.0 if share else max((float(table[y].max()) for table in tables), default=1.0)
    names = sorted({str(name) for table in tables for name in table[series]})
    columns = 1 if max(map(len, names), default=0) > 20 else 2
    encoding = {
        "x": {"field": x, "type": "quantitative", "axis": {"tickCount": 4}},
        "y": {
            "field": y,
            "type": "quantitative",
            "scale": {"domain": [0, top]},
            "axis": {"tickCount": 5, **({"format": "%"} if share else {})},
            "title": None if share else y,
        },
        "color": {
            "field": series,
            "type": "nominal",
            "scale": {"domain": names, "range": COLOURS},
            "legend": {"columns": columns},
        },
    }
    mark = {"type": "line", "strokeWidth": 1.5}
    keys = [x, y, series]
    return _beside([_panel(table, keys, mark, encoding) for table in pair])


def confusion(pair: Pair) -> Spec:
    """Which class was taken for which: the share of the actual class. Columns: `actual`, `predicted`.

    Of many classes those whose accuracy changed most.
    """
    chosen = set(_chosen(pair))
    tables = [_shares(table, chosen) if table is not None else None for table in pair]
    both = pd.concat([table for table in tables if table is not None])
    other = OTHER in set(both["predicted"])
    axis = {"labels": len(chosen) <= 8, "ticks": False, "titlePadding": 6, "labelLimit": 60}
    titles = {"actual": "actual", "predicted": "predicted" + (", last: others" if other else "")}
    encoding = {
        side: {
            "field": side,
            "type": "nominal",
            "scale": {"domain": sorted(chosen) + [OTHER] * (other and side == "predicted")},
            "axis": axis,
            "title": title,
        }
        for side, title in titles.items()
    }
    colour = {
        "field": "share",
        "type": "quantitative",
        "scale": {"scheme": "blues", "domain": [0, 1]},
        "legend": None,
    }
    place = {"x": encoding["predicted"], "y": encoding["actual"], "color": colour}
    keys = ["actual", "predicted", "share"]
    return _beside([_panel(table, keys, {"type": "rect"}, place) for table in tables])


def _chosen(pair: Pair) -> list[str]:
    """All classes, or of many those whose accuracy changed most."""
    right = [
        (table["actual"] == table["predicted"]).groupby(table["actual"]).mean()
        for table in pair
        if table is not None
    ]
    found = pd.concat(right, axis=1)
    change = (found.iloc[:, -1] - found.iloc[:, 0]).abs().fillna(1.0)
    ordered = sorted(change.index, key=lambda name: (-change[name], str(name)))
    return [str(name) for name in ordered[:CLASSES]]


def _shares(table: pd.DataFrame, chosen: set[str]) -> pd.DataFrame:
    """Share of an actual class by prediction; predictions of other classes are one column."""
    table = table[table["actual"].isin(chosen)].astype({"actual": str, "predicted": str})
    predicted = table["predicted"].where(table["predicted"].isin(chosen), OTHER)
    counts = table.assign(predicted=predicted).groupby(["actual", "predicted"]).size()
    shares = counts / counts.groupby("actual").transform("sum")
    return shares.round(4).rename("share").reset_index()


def reliability(pair: Pair) -> Spec:
    """Accuracy over confidence, a point a bin, as large as the bin has videos; the diagonal is right."""
    encoding = {
        name: {
            "field": name,
            "type": "quantitative",
            "scale": {"domain": [0, 1]},
            "axis": {"format": "%", "tickCount": 4},
            "title": name,
        }
        for name in ("confidence", "accuracy")
    }
    sizes = {"field": "n", "type": "quantitative", "legend": None, "scale": {"range": [10, 220]}}
    place = {"x": encoding["confidence"], "y": encoding["accuracy"], "size": sizes}
    mark = {"type": "point", "filled": True, "color": HEAD, "opacity": 0.7}
    panels = [_panel(table, ["confidence", "accuracy", "n"], mark, place) for table in pair]
    ends = {"values": [{"confidence": i, "accuracy": i} for i in (0, 1)]}
    along = {"x": encoding["confidence"], "y": encoding["accuracy"]}
    diagonal = {"data": ends, "mark": {"type": "line", "color": "#bbb"}, "encoding": along}
    for panel in panels:
        panel["layer"] = [diagonal, {"mark": panel.pop("mark"), "encoding": panel.pop("encoding")}]
    return _beside(panels)


def class_changes(changes: pd.DataFrame) -> Spec | None:
    """Accuracy of the classes that changed most, base to head. Columns: `class`, `base`, `head`."""
    changed = changes[changes["base"] != changes["head"]]
    if changed.empty:
        return None
    order = (changed["head"] - changed["base"]).abs()
    chosen = changed.assign(_size=-order).sort_values(["_size", "class"]).head(BARS)
    chosen = chosen.assign(change=chosen["head"] - chosen["base"])
    names = list(chosen.sort_values(["change", "class"], ascending=[False, True])["class"])
    y = {"field": "class", "type": "nominal", "scale": {"domain": names}, "title": None}
    x = {"type": "quantitative", "scale": {"domain": [0, 1]}, "axis": {"format": "%"}}
    x |= {"title": "accuracy: base ○ to head ●"}
    head_x, base_x = x | {"field": "head"}, x | {"field": "base"}
    colour = {
        "condition": {"test": "datum.head < datum.base", "value": "#d55e00"},
        "value": HEAD,
    }
    layers = [
        {
            "mark": {"type": "rule", "strokeWidth": 3},
            "encoding": {"y": y, "x": base_x, "x2": {"field": "head"}, "color": colour},
        },
        {
            "mark": {"type": "point", "stroke": BASE, "fill": "white", "size": 50, "opacity": 1},
            "encoding": {"y": y, "x": base_x},
        },
        {
            "mark": {"type": "point", "filled": True, "size": 60, "opacity": 1},
            "encoding": {"y": y, "x": head_x, "color": colour},
        },
    ]
    rows = chosen[["class", "base", "head"]].to_dict("records")
    return {
        "data": {"values": rows},
        "layer": layers,
        "width": 2 * PANEL - 70,
        "height": {"step": 17},
    }


def _panel(table: pd.DataFrame | None, keys: list[str], mark: Spec, encoding: Spec) -> Spec:
    rows = [] if table is None else table[keys].to_dict("records")
    panel = {"data": {"values": rows}, "mark": mark, "encoding": encoding}
    return panel | {"width": PANEL, "height": PANEL}


def _beside(panels: list[Spec]) -> Spec:
    """Base and head; a side that has nothing is left out."""
    shown = []
    for name, panel in zip(("base", "head"), panels, strict=True):
        if panel["data"]["values"]:
            alone = sum(bool(one["data"]["values"]) for one in panels) == 1
            shown.append(panel | {"title": f"{name} alone" if alone else name})
    return {"hconcat": shown, "spacing": 12}
