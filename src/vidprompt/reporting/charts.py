"""The report's charts: small functions that write inline SVG.

Colours come from the page's style sheet (`--m0`, `--m1` … a method), so that charts follow its
light and dark theme. Methods differ in the shape of their markers as well as in colour. Every
function returns Markup; whatever is not a number is escaped.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from markupsafe import Markup

from vidprompt.reporting.measures import Cell, Row, percent

Points = Sequence[tuple[float, float]]


class Series(NamedTuple):
    """One line of a chart; `colour` counts methods, `thin` draws it as a minor one."""

    name: str
    points: Points
    colour: int
    thin: bool = False
    dash: int = 0


def number(value: float) -> str:
    """A coordinate with as few digits as it needs."""
    return f"{value:.1f}".removesuffix(".0")


def svg(width: float, height: float, label: str, parts: Sequence[Markup], css: str = "") -> Markup:
    """An SVG that grows with its box; `label` is what a screen reader says."""
    return Markup(
        '<svg class="chart {}" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>'
    ).format(css, number(width), number(height), label, Markup("").join(parts))


def text(x: float, y: float, content: object, css: str = "", turn: int = 0) -> Markup:
    """A text, turned about its own place."""
    place = number(x), number(y)
    turned = Markup(' transform="rotate({} {} {})"').format(turn, *place) if turn else Markup("")
    return Markup('<text x="{}" y="{}"{} class="{}">{}</text>').format(*place, turned, css, content)


def line(x1: float, y1: float, x2: float, y2: float, css: str) -> Markup:
    """A straight line."""
    ends = map(number, (x1, y1, x2, y2))
    return Markup('<line x1="{}" y1="{}" x2="{}" y2="{}" class="{}"/>').format(*ends, css)


def rect(x: float, y: float, width: float, height: float, css: str, title: str = "") -> Markup:
    """A rectangle, with a tooltip."""
    return Markup('<rect x="{}" y="{}" width="{}" height="{}" class="{}">{}</rect>').format(
        *map(number, (x, y, width, height)), css, _tooltip(title)
    )


def marker(method: int, x: float, y: float, r: float = 4.5, title: str = "") -> Markup:
    """A method's mark: circle, square, diamond, triangle."""
    if method % 4 == 0:
        return Markup('<circle cx="{}" cy="{}" r="{}" class="mark m{}">{}</circle>').format(
            *map(number, (x, y, r)), method, _tooltip(title)
        )
    shapes = {
        1: [(-r * 0.9, -r * 0.9), (r * 0.9, -r * 0.9), (r * 0.9, r * 0.9), (-r * 0.9, r * 0.9)],
        2: [(0, -r * 1.25), (r * 1.25, 0), (0, r * 1.25), (-r * 1.25, 0)],
        3: [(0, -r * 1.15), (r * 1.15, r * 0.9), (-r * 1.15, r * 0.9)],
    }
    corners = " ".join(f"{number(x + dx)},{number(y + dy)}" for dx, dy in shapes[method % 4])
    return Markup('<polygon points="{}" class="mark m{}">{}</polygon>').format(
        corners, method, _tooltip(title)
    )


def _tooltip(title: str) -> Markup:
    return Markup("<title>{}</title>").format(title) if title else Markup("")


def key_mark(method: int) -> Markup:
    """A method's mark for a legend."""
    return Markup('<svg class="key" viewBox="0 0 14 14" aria-hidden="true">{}</svg>').format(
        marker(method, 7, 7)
    )


def interval(cell: Cell, method: int, chance: float | None = None) -> Markup:
    """The interval of one value on a track from 0 to 100%, for a table's cell."""
    parts = [rect(0, 5, 100, 2, "track")]
    if chance is not None:
        parts.append(line(100 * chance, 1, 100 * chance, 11, "chance"))
    if cell.low is not None and cell.high is not None:
        width = max(100 * (cell.high - cell.low), 1.0)
        parts.append(rect(100 * cell.low, 3, width, 6, f"ci m{method}"))
    parts.append(rect(100 * cell.value - 0.9, 0.5, 1.8, 11, f"m{method}"))
    return Markup(
        '<svg class="interval" viewBox="0 0 100 12" preserveAspectRatio="none" aria-hidden="true">'
        "{}</svg>"
    ).format(Markup("").join(parts))


def bars(title: str, rows: Sequence[Row], methods: Sequence[str]) -> Markup:
    """Bars with whiskers: a group a measure, a bar a method, 0 to 100%."""
    width, height, left, top, bottom = 340.0, 232.0, 30.0, 16.0, 28.0
    plot = height - top - bottom
    band = (width - left) / max(len(rows), 1)
    bar = min(30.0, 0.84 * band / max(len(methods), 1))
    parts = _percent_grid(left, width, top, plot)
    above: list[Markup] = []  # drawn last
    said = []
    for i, row in enumerate(rows):
        centre = left + band * (i + 0.5)
        shown = [(k, m, row.cells[m]) for k, m in enumerate(methods) if m in row.cells]
        for j, (k, method, cell) in enumerate(shown):
            x = centre + (j - len(shown) / 2) * bar
            parts += _bar(x, bar, top + plot, plot, cell, k, f"{method}, {row.short}: {cell.text}%")
            peak = max(cell.value, cell.high or 0.0)
            y = top + plot * (1 - peak) - 4
            above.append(text(x + bar / 2, y, percent(cell.value), "value mid"))
            said.append(f"{method} {row.short} {percent(cell.value)}%")
        if row.chance is not None:
            y, half = top + plot * (1 - row.chance), len(shown) * bar / 2 + 3
            parts.append(line(centre - half, y, centre + half, y, "chance"))
        parts.append(text(centre, height - 9, row.short, "tick mid"))
    return svg(width, height, f"{title}: {'; '.join(said)}", parts + above)


def _bar(
    x: float, width: float, floor: float, plot: float, cell: Cell, method: int, title: str
) -> list[Markup]:
    """One bar and its whisker."""
    tall, mid = plot * cell.value, x + width / 2
    parts = [rect(x + 1.5, floor - tall, width - 3, max(tall, 0.5), f"m{method}", title)]
    if cell.low is not None and cell.high is not None:
        low, high = floor - plot * cell.low, floor - plot * cell.high
        parts += [
            line(mid, low, mid, high, "whisker"),
            line(mid - 3, high, mid + 3, high, "whisker"),
        ]
        parts.append(line(mid - 3, low, mid + 3, low, "whisker"))
    return parts


def _percent_grid(left: float, width: float, top: float, plot: float) -> list[Markup]:
    """Horizontal lines at 0, 25 … 100%."""
    parts = []
    for share in (0, 25, 50, 75, 100):
        y = top + plot * (1 - share / 100)
        parts.append(line(left, y, width, y, "axis" if share == 0 else "grid"))
        parts.append(text(left - 5, y + 3.5, share, "tick end"))
    return parts


def lines(
    title: str,
    series: Sequence[Series],
    x_title: str,
    *,
    share: bool = False,
    last: bool = False,
) -> Markup:
    """Lines over x; `share` is a y axis from 0 to 100%, `last` writes each major line's end."""
    width, height, left, top, bottom, right = 340.0, 210.0, 34.0, 12.0, 34.0, 40.0 if last else 14.0
    xs = [x for one in series for x, _ in one.points] or [0.0]
    ys = [y for one in series for _, y in one.points] or [0.0]
    low, high = (0.0, 1.0) if share else (min(0.0, *ys), max(max(ys), 1e-9))
    first, final = min(xs), max(*xs, min(xs) + 1e-9)
    plot_w, plot_h = width - left - right, height - top - bottom

    def place(point: tuple[float, float]) -> tuple[float, float]:
        x = left + plot_w * (point[0] - first) / (final - first)
        return x, top + plot_h * (1 - (point[1] - low) / (high - low))

    parts = []
    for tick in ticks(low, high):
        y = place((first, tick))[1]
        parts.append(line(left, y, width - right, y, "axis" if tick == low else "grid"))
        parts.append(text(left - 5, y + 3.5, f"{100 * tick if share else tick:g}", "tick end"))
    for tick in ticks(first, final):
        parts.append(text(place((tick, low))[0], height - 19, f"{tick:g}", "tick mid"))
    parts.append(text(left + plot_w / 2, height - 4, x_title, "tick mid"))
    for one in sorted(series, key=lambda one: not one.thin):
        places = " ".join(",".join(map(number, place(p))) for p in _thinned(one.points))
        dash = f" dash{one.dash}" if one.dash else ""
        css = f"line m{one.colour}{' thin' if one.thin else ''}{dash}"
        drawn = Markup('<polyline points="{}" class="{}">{}</polyline>')
        parts.append(drawn.format(places, css, _tooltip(one.name)))
        if one.points and not one.thin:
            x, y = place(one.points[-1])
            parts.append(marker(one.colour, x, y, 3.2))
            if last:
                parts.append(text(x + 7, y + 3.5, f"{one.points[-1][1]:.2f}", "value"))
    return svg(width, height, title, parts)


def reliability(title: str, curves: Mapping[int, Sequence[tuple[float, float, int]]]) -> Markup:
    """Accuracy over confidence, 0 to 100% both; by method's number, (confidence, accuracy, videos) a bin.

    A mark's area goes with its videos; on the dashed diagonal a method is as often right as it is sure.
    """
    width, height, left, top, bottom = 340.0, 300.0, 34.0, 12.0, 34.0
    plot_w, plot_h = width - left - 14, height - top - bottom

    def place(confidence: float, accuracy: float) -> tuple[float, float]:
        return left + plot_w * confidence, top + plot_h * (1 - accuracy)

    parts = _percent_grid(left, width - 14, top, plot_h)
    for share in (0, 25, 50, 75, 100):
        parts.append(text(place(share / 100, 0)[0], height - 19, share, "tick mid"))
    parts.append(text(left + plot_w / 2, height - 4, "confidence", "tick mid"))
    parts.append(line(*place(0, 0), *place(1, 1), "chance"))
    for k, bins in curves.items():
        places = " ".join(",".join(map(number, place(c, a))) for c, a, _ in bins)
        parts.append(Markup('<polyline points="{}" class="line m{} thin"/>').format(places, k))
        videos = sum(n for _, _, n in bins)
        for confidence, accuracy, n in bins:
            said = f"confidence {percent(confidence)}%, right {percent(accuracy)}% of {n}"
            r = 1.8 + 9 * math.sqrt(n / videos)
            parts.append(marker(k, *place(confidence, accuracy), r, said))
    return svg(width, height, f"{title}: accuracy over confidence", parts)


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """About `count` round numbers from `low` to `high`."""
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * f for f in (1, 2, 2.5, 5, 10) if power * f >= rough * 0.999)
    start = math.ceil(low / step - 1e-9)
    return [round(k * step, 10) for k in range(start, math.floor(high / step + 1e-9) + 1)]


def _thinned(points: Points, most: int = 240) -> Points:
    """At most about `most` points, the last one always."""
    step = max(1, math.ceil(len(points) / most))
    return [*points[:-1:step], *points[-1:]]


def dots(
    title: str, rows: Sequence[tuple[str, Mapping[str, tuple[float, int]]]], methods: Sequence[str]
) -> Markup:
    """Per class and method a mark between 0 and 100%; rows in the order given."""
    width, pitch, top = 480.0, 18.0, 22.0
    left = label_width([name for name, _ in rows])
    height = top + pitch * len(rows) + 8
    plot = width - left - 20

    def across(share: float) -> float:
        return left + plot * share

    parts = []
    for tick in (0, 25, 50, 75, 100):
        parts.append(line(across(tick / 100), top - 6, across(tick / 100), height - 8, "grid"))
        parts.append(text(across(tick / 100), 10, f"{tick}%", "tick mid"))
    for i, (name, found) in enumerate(rows):
        y = top + pitch * (i + 0.5)
        values = [share for share, _ in found.values()]
        parts.append(text(left - 9, y + 3.7, shortened(name), "label end"))
        if len(values) > 1:
            parts.append(line(across(min(values)), y, across(max(values)), y, "span"))
        for k, method in enumerate(methods):
            if method in found:
                share, n = found[method]
                nudge = (k - (len(methods) - 1) / 2) * 4.2
                said = f"{name}, {method}: {percent(share)}% of {n}"
                parts.append(marker(k, across(share), y + nudge, 3.4, said))
    return svg(width, height, f"{title}: accuracy of {len(rows)} classes by method", parts)


def breakable(name: str) -> Markup:
    """A class name that may be broken between its words: `Star|Moving|Left`, `apply|_make_up`."""
    words = re.split(r"(?<=[a-z0-9])(?=[A-Z])|(?=_)|(?<=/)", name)
    return Markup("<wbr>").join(words)


def label_width(names: Sequence[str]) -> float:
    """Room for the longest of the names, as they are shortened."""
    return 15 + 5.8 * max((len(shortened(name)) for name in names), default=0)


def shortened(name: str, most: int = 28) -> str:
    """A name that fits beside a chart."""
    return name if len(name) <= most else name[: most - 1] + "…"
