"""Charts as Vega-Lite specifications: bars with intervals, lines, reliability, dots, confusion.

A specification of one chart has a fixed layout, which depends on no font: texts get room by their number
of characters. `grid` puts charts beside each other, where axes get the room that they need.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from markupsafe import Markup

from vidprompt.reporting.measures import Row, percent
from vidprompt.reporting.rendering import Spec, colour, data_uri, method_colour, png, svg

Points = Sequence[tuple[float, float]]
Pairs = Mapping[tuple[str, str], int]  # (actual class, predicted class) → videos
Bin = tuple[float, float, int]  # confidence, accuracy, videos

DIAMOND = "M0,-1.25L1.25,0L0,1.25L-1.25,0Z"  # Vega's own is much smaller than its square
SHAPES = ("circle", "square", DIAMOND, "triangle-up")  # of a method's marks
DASHES = ([1, 0], [5, 3], [1.5, 3], [7, 3, 1.5, 3])
LABELLED = 64  # classes that can still be named along an axis
LONGEST_NAME = 28  # characters of a class name on an axis
MOST_POINTS = 240  # of a line
QUARTERS = [0, 0.25, 0.5, 0.75, 1]
CHANCE: Spec = {
    "type": "rule",
    "color": colour("ink"),
    "strokeWidth": 1.3,
    "strokeDash": [3, 2],
}

BASELINE = {"domain": True, "domainColor": colour("soft")}  # an axis with its line
NAMES = {  # an axis of class names: long ones are cut
    "labelColor": colour("ink"),
    "labelFontSize": 10.5,
    "labelExpr": f"length(datum.label) > {LONGEST_NAME} "
    f"? slice(datum.label, 0, {LONGEST_NAME - 1}) + '…' : datum.label",
}


class Series(NamedTuple):
    """One line of a chart. `colour` is a method's number; a `thin` line is a minor one."""

    name: str
    points: Points
    colour: int
    thin: bool = False
    dash: int = 0


def bars(
    rows: Sequence[Row],
    methods: Sequence[str],
    *,
    legend: Mapping[str, int] | None = None,
    width: float = 308,
) -> Spec:
    """Bars with 95% intervals from 0 to 100%: a group a measure, a bar a method, a dashed line at chance.

    `methods`: in the order of their colours; `legend`: names and colours, with those of charts beside.
    """
    values = [
        {
            "row": row.short,
            "method": method,
            "value": cell.value,
            "low": cell.low,
            "high": cell.high,
            "top": max(cell.value, cell.high or 0.0),
            "text": percent(cell.value),
            "title": f"{method}, {row.short}: {cell.text}%",
        }
        for row in rows
        for method in methods
        if (cell := row.cells.get(method)) is not None
    ]
    shown = [m for m in methods if any(value["method"] == m for value in values)]
    step = width / max(len(rows), 1)
    gap = max(0.16, 1 - 30 * len(shown) / step)  # bars are at most 30 wide
    axis = {"labelAngle": 0, "title": None, **BASELINE}
    x: Spec = {"field": "row", "type": "nominal", "axis": axis}
    x["scale"] = {
        "domain": [row.short for row in rows],
        "paddingInner": gap,
        "paddingOuter": gap / 2,
    }
    offset = {"field": "method", "type": "nominal", "scale": {"domain": shown}}
    colours = {method: methods.index(method) for method in shown}
    fill = {"field": "method", "type": "nominal"}
    fill |= _colour_key(colours, legend, "square")

    def layer(mark: Spec, y: str, **channels: Spec) -> Spec:
        return _layer(values, mark, {"x": x, "y": _share(y), "xOffset": offset, **channels})

    bar = {"type": "bar", "width": {"band": 0.9}}
    cap = {"type": "tick", "size": 6}
    halo = {"stroke": colour("page"), "strokeWidth": 3}
    number = {"type": "text", "dy": -8, "fontWeight": 600}
    layers = [
        layer(bar, "value", color=fill, description={"field": "title"}),
        layer({"type": "rule"}, "low", y2={"field": "high"}),
        layer(cap, "low"),
        layer(cap, "high"),
        layer(number | halo, "top", text={"field": "text"}),
        layer(number, "top", text={"field": "text"}),
    ]
    chances = [{"row": row.short, "chance": row.chance} for row in rows if row.chance is not None]
    if chances:
        ends = {"x": x | {"bandPosition": 0}, "x2": {"field": "row", "bandPosition": 1}}
        layers.append(_layer(chances, CHANCE, {**ends, "y": _share("chance")}))
    view = {"layer": layers}
    return _sized(view, width, 188, left=30, top=16, bottom=28, right=2)


def lines(
    series: Sequence[Series],
    x_title: str,
    *,
    share: bool = False,
    last: bool = False,
    legend: Mapping[str, int] | None = None,
    limits: tuple[float, float] | None = None,
    size: tuple[float, float] | None = None,
) -> Spec:
    """Lines over x. `share`: y from 0 to 100%; `last`: the value at a line's end is written beside it.

    `legend`: names and their colours, with those of charts beside this one; `limits`: the ends of both axes,
    without them those of the points; `size`: of the plot.
    """
    ys = [y for one in series for _, y in one.points] or [0.0]
    low, high = (0.0, 1.0) if share else (min(0.0, *ys), limits[1] if limits else max(*ys, 1e-9))
    axis = {"tickCount": 4, "title": x_title, "grid": False, **BASELINE}
    x: Spec = {"field": "x", "type": "quantitative", "axis": axis}
    x["scale"] = {"nice": False, "zero": False}
    if limits:
        x["scale"]["domainMax"] = limits[0]
    y: Spec = {"field": "y", "type": "quantitative", "axis": {"tickCount": 4, "title": None}}
    y["scale"] = {"domain": [low, high], "nice": False}
    if share:
        y = _share("y")
    key = _colour_key({one.name: one.colour for one in series}, legend, "stroke")
    layers = []
    for one in sorted(series, key=lambda one: not one.thin):
        points = _thinned(one.points)
        mark: Spec = {"type": "line", "strokeWidth": 1.2 if one.thin else 2.2, "clip": False}
        if one.thin:
            mark |= {"opacity": 0.75}
        if one.dash:
            mark |= {"strokeDash": DASHES[one.dash % len(DASHES)]}
        place = {"x": x, "y": y, "color": {"datum": one.name, **key}}
        title = {"description": {"value": one.name}}
        layers.append(_layer(_xy(points), mark, {**place, **title}))
        if one.points and not one.thin:
            layers.append(_layer(_xy(points[-1:]), _marker(one.colour, 3.2), place))
            if last:
                text = {"type": "text", "align": "left", "dx": 7, "fontWeight": 600}
                value = {"text": {"value": f"{points[-1][1]:.2f}"}}
                layers.append(_layer(_xy(points[-1:]), text, {"x": x, "y": y, **value}))
    view = {"layer": layers}
    width, height = size or (340 - 34 - (40 if last else 14), 164)
    return _sized(view, width, height, left=34, top=12, bottom=34, right=40 if last else 14)


def reliability(
    curves: Mapping[int, Sequence[Bin]],
    *,
    connected: bool = True,
    y_title: str | None = None,
    size: tuple[float, float] = (292, 254),
) -> Spec:
    """Accuracy over confidence, both from 0 to 100%; the bins of a method by its number.

    A mark's area grows with its videos. On the dashed diagonal a method is right as often as it is sure.
    """
    encoding = {
        "x": _share("confidence", "confidence", grid=False),
        "y": _share("accuracy", y_title),
    }
    encoding["x"]["axis"] |= BASELINE
    ends = [{"confidence": i, "accuracy": i} for i in (0, 1)]
    layers = [_layer(ends, CHANCE | {"type": "line"}, encoding)]
    for k, bins in curves.items():
        videos = max(sum(n for _, _, n in bins), 1)
        values = [
            {
                "confidence": confidence,
                "accuracy": accuracy,
                "size": (2 * (1.8 + 9 * math.sqrt(n / videos))) ** 2,
                "title": f"confidence {percent(confidence)}%, right {percent(accuracy)}% of {n}",
            }
            for confidence, accuracy, n in bins
        ]
        if connected:
            thin = {"type": "line", "color": method_colour(k), "strokeWidth": 1.2, "opacity": 0.75}
            layers.append(_layer(values, thin, encoding))
        areas = {"size": {"field": "size", "type": "quantitative", "scale": None}}
        title = {"description": {"field": "title"}}
        drawn = _marker(k, 4.5) | {"color": method_colour(k), "opacity": 1 if connected else 0.7}
        layers.append(_layer(values, drawn, {**encoding, **areas, **title}))
    return _sized({"layer": layers}, *size, left=34, top=12, bottom=34, right=14)


def dots(
    rows: Sequence[tuple[str, Mapping[str, tuple[float, int]]]],
    names: Sequence[str],
    *,
    changes: bool = False,
    width: float = 460,
) -> Spec:
    """A row a class, and in it a mark a name (a method) at its accuracy, with the number of videos.

    `width` includes the names of the classes. `changes`: the line between the first and the last mark
    is red where the last one is lower.
    """
    classes = [name for name, _ in rows]
    left = label_width(classes)
    x = _share("share", suffix="%")
    x["axis"] |= {"orient": "top", "offset": 4}
    order = {"domain": classes, "paddingInner": 0.3, "paddingOuter": 0.15}
    y: Spec = {"field": "class", "type": "nominal", "scale": order}
    y["axis"] = {"title": None, "labelPadding": 9, **NAMES}
    values, spans = [], []
    for name, accuracies in rows:
        shares = [accuracies[one][0] for one in names if one in accuracies]
        if len(shares) > 1:
            worse, better = ("miss", "hit") if changes else ("rule", "rule")
            tone = colour(worse if shares[-1] < shares[0] else better)
            spans.append({"class": name, "share": min(shares), "end": max(shares), "tone": tone})
        for one in names:
            if one in accuracies:
                share, n = accuracies[one]
                title = f"{name}, {one}: {percent(share)}%" + (f" of {n}" if n else "")
                values.append({"class": name, "name": one, "share": share, "title": title})
    tones = {"field": "tone", "type": "nominal", "scale": None}
    line = {"x": x, "x2": {"field": "end"}, "y": y, "color": tones}
    layers = [_layer(spans, {"type": "rule", "strokeWidth": 2}, line)]
    scale = {"domain": list(names), "range": [method_colour(k) for k in range(len(names))]}
    shapes = [SHAPES[k % len(SHAPES)] for k in range(len(names))]
    legend: Spec = {"legend": {"symbolType": "circle"} if changes else None}
    encoding = {
        "x": x,
        "y": y,
        "color": {"field": "name", "type": "nominal", "scale": scale, **legend},
        "shape": {
            "field": "name",
            "type": "nominal",
            "scale": {**scale, "range": shapes},
            **legend,
        },
        "description": {"field": "title"},
    }
    if not changes:
        offset = {"field": "name", "type": "nominal", "scale": {"domain": list(names)}}
        encoding["yOffset"] = offset
    layers.append(_layer(values, _marker(0, 3.4, shape=False), encoding))
    plot = width - left - 20
    bottom = 40 if changes else 6  # with the legend
    height = 18 * len(rows)
    return _sized({"layer": layers}, plot, height, left=left, top=26, bottom=bottom, right=20)


def confusion(
    pairs: Pairs,
    actual: Sequence[str],
    predicted: Sequence[str],
    *,
    side: float,
    labels: bool = True,
    titles: tuple[str, str] = ("true class", "predicted"),
) -> Spec:
    """A row a class of `actual`, a column a class of `predicted`; `side`: width and height of the plot.

    Right and wrong cells differ in colour, the share of the row in opacity.
    """
    totals = Counter[str]()
    for (true, _), count in pairs.items():
        totals[true] += count
    values = [
        {
            "actual": a,
            "predicted": p,
            "tone": colour("hit" if a == p else "miss"),
            "opacity": round(0.13 + 0.87 * count / totals[a], 2),
            "title": f"{a} → {p}: {count} of {totals[a]} ({100 * count / totals[a]:.0f}%)",
        }
        for (a, p), count in sorted(pairs.items())
    ]
    margin = label_width([*actual, *predicted]) + 12 if labels else 0.0
    axis = {
        "labels": labels,
        "grid": True,
        "gridColor": colour("cells"),
        "gridWidth": 0.6,
        "bandPosition": 0,
        "tickBand": "extent",
        **NAMES,
    }
    place: Spec = {
        "x": axis | {"labelAngle": -90, "title": titles[1]},
        "y": axis | {"title": titles[0]},
    }
    if labels:  # titles at a place that depends on no font
        place["x"] |= {"titleX": side / 2, "titleY": margin - 4, "titleBaseline": "bottom"}
        place["y"] |= {"titleX": 14 - margin, "titleY": side / 2, "titleBaseline": "bottom"}
    encoding: Spec = {
        "x": {"field": "predicted", "type": "nominal", "scale": {"domain": list(predicted)}},
        "y": {"field": "actual", "type": "nominal", "scale": {"domain": list(actual)}},
        "color": {"field": "tone", "type": "nominal", "scale": None},
        "fillOpacity": {"field": "opacity", "type": "quantitative", "scale": None},
        "description": {"field": "title"},
    }
    for channel in ("x", "y"):
        encoding[channel]["axis"] = place[channel]
    mark = {"type": "rect", "stroke": colour("plate"), "strokeWidth": 1}
    view = _layer(values, mark, encoding)
    view["view"] = {"fill": colour("plate"), "stroke": colour("rule")}
    return _sized(view, side, side, left=margin, top=4, bottom=margin, right=4)


def confusion_chart(title: str, pairs: Pairs, classes: Sequence[str]) -> Markup:
    """A confusion matrix for a page; with more than `LABELLED` classes a picture, a pixel a cell."""
    count = max(len(classes), 1)
    if count <= LABELLED:
        side = min(60.0, 640 / count if count > 28 else max(16.0, 480 / count))
        return svg(confusion(pairs, classes, classes, side=side * count), title, "matrix")
    spec = confusion(pairs, classes, classes, side=count, labels=False, titles=("", ""))
    spec["mark"]["strokeWidth"] = 0
    for channel in ("x", "y"):
        spec["encoding"][channel]["axis"] = None
    spec["view"] = {"stroke": None}
    spec["padding"] = 0
    return Markup(
        '<img class="matrix-picture" alt="{}, {} classes; rows are true classes" src="{}">'
    ).format(title, count, data_uri(png(spec, scale=1, background=None)))


def grid(panels: Mapping[str, Spec], columns: int) -> Spec:
    """Charts beside each other, so many a row, each under its title; one legend for all."""
    shown = [_view(panel) | {"title": title} for title, panel in panels.items()]
    return {"concat": shown, "columns": columns, "spacing": 12}


# --- pieces of specifications


def _share(
    field: str, title: str | None = None, *, suffix: str = "", grid: bool = True
) -> dict[str, Any]:
    """An axis from 0 to 100% for fractions."""
    text = f"100 * datum.value + '{suffix}'"
    axis: Spec = {"values": QUARTERS, "labelExpr": text, "title": title, "grid": grid}
    scale = {"domain": [0, 1], "nice": False}
    return {"field": field, "type": "quantitative", "scale": scale, "axis": axis}


def _colour_key(colours: Mapping[str, int], legend: Mapping[str, int] | None, symbol: str) -> Spec:
    """The colours of names, or those of a legend and the legend."""
    names = legend or colours
    scale = {"domain": list(names), "range": [method_colour(k) for k in names.values()]}
    columns = max(1, 360 // (30 + 7 * max(map(len, names), default=1)))
    return {
        "scale": scale,
        "legend": {"columns": columns, "symbolType": symbol} if legend else None,
    }


def _marker(k: int, radius: float, *, shape: bool = True) -> Spec:
    """The mark of the k-th method; `radius` in pixels."""
    mark = {"type": "point", "filled": True, "opacity": 1, "size": (2 * radius) ** 2}
    mark |= {"stroke": colour("page"), "strokeWidth": 0.8}
    return mark | ({"shape": SHAPES[k % len(SHAPES)]} if shape else {})


def _layer(values: Sequence[Mapping[str, Any]], mark: Spec, encoding: Spec) -> Spec:
    """Marks of one kind; those with a description get it as their tooltip."""
    mark = mark | {"aria": "description" in encoding}
    return {"data": {"values": list(values)}, "mark": mark, "encoding": encoding}


def _xy(points: Points) -> list[dict[str, float]]:
    return [{"x": x, "y": y} for x, y in points]


def _thinned(points: Points) -> Points:
    """At most about `MOST_POINTS` points, the last one always."""
    step = max(1, math.ceil(len(points) / MOST_POINTS))
    return [*points[:-1:step], *points[-1:]]


def _sized(
    view: Spec, width: float, height: float, *, left: float, top: float, bottom: float, right: float
) -> Spec:
    """A view with the size of its plot, and the room around it for axes."""
    padding = {"left": left, "top": top, "bottom": bottom, "right": right}
    return {"padding": padding, "autosize": "none", "width": width, "height": height, **view}


def _view(spec: Spec) -> Spec:
    """A chart as one of several, where its axes get the room that they need."""
    return {key: value for key, value in spec.items() if key not in ("padding", "autosize")}


def label_width(names: Sequence[str]) -> float:
    """Room for the longest of the names, as they are shortened."""
    longest = max((len(name) for name in names), default=0)
    return 15 + 6.5 * min(longest, LONGEST_NAME)
