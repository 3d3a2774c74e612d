"""Confusion matrices: row-normalised heat maps as inline SVG, or a picture for many classes."""

from __future__ import annotations

import io
from base64 import b64encode
from collections import Counter
from collections.abc import Mapping, Sequence

from markupsafe import Markup

from vidprompt.reporting.charts import label_width, number, rect, shortened, svg, text

LABELLED = 64  # classes that can still be named along an axis
Pair = tuple[str, str]  # actual class, predicted class


def heatmap(title: str, pairs: Mapping[Pair, int], classes: Sequence[str]) -> Markup:
    """Rows are true classes. Right and wrong cells differ in colour, shares in opacity."""
    if len(classes) > LABELLED:
        return _picture(title, pairs, classes)
    side = 640.0 / len(classes) if len(classes) > 28 else max(16.0, 480.0 / len(classes))
    side = min(side, 60.0)
    margin, plot = label_width(classes) + 12, side * len(classes)
    index = {name: i for i, name in enumerate(classes)}
    totals = _totals(pairs)
    parts = [rect(margin, 4, plot, plot, "plate")]
    parts.append(_grid(margin, plot, side, len(classes)))
    for name, i in index.items():
        middle = side * (i + 0.5)
        parts.append(text(margin - 6, 4 + middle + 3.5, shortened(name), "label end"))
        parts.append(text(margin + middle + 3.5, plot + 11, shortened(name), "label end", turn=-90))
    for (actual, predicted), count in sorted(pairs.items()):
        share = count / totals[actual]
        x, y = margin + side * index[predicted], 4 + side * index[actual]
        css = f"{'hit' if actual == predicted else 'miss'} o{max(1, round(10 * share))}"
        said = f"{actual} → {predicted}: {count} of {totals[actual]} ({100 * share:.0f}%)"
        parts.append(rect(x + 0.5, y + 0.5, side - 1, side - 1, css, said))
    parts.append(text(margin + plot / 2, plot + margin + 2, "predicted", "tick mid"))
    parts.append(text(10, 4 + plot / 2, "true class", "tick mid", turn=-90))
    return svg(margin + plot + 4, plot + margin + 8, title, parts, "matrix")


def _grid(margin: float, plot: float, side: float, count: int) -> Markup:
    """Thin lines between cells, as one path."""
    steps = [margin + side * i for i in range(1, count)]
    columns = "".join(f"M{number(x)} 4v{number(plot)}" for x in steps)
    rows = "".join(f"M{number(margin)} {number(x - margin + 4)}h{number(plot)}" for x in steps)
    return Markup('<path d="{}{}" class="cells"/>').format(columns, rows)


def _totals(pairs: Mapping[Pair, int]) -> Counter[str]:
    totals: Counter[str] = Counter()
    for (actual, _), count in pairs.items():
        totals[actual] += count
    return totals


def _picture(title: str, pairs: Mapping[Pair, int], classes: Sequence[str]) -> Markup:
    """The same as a PNG, a pixel a cell, transparent where there is nothing."""
    from PIL import Image

    index = {name: i for i, name in enumerate(classes)}
    totals = _totals(pairs)
    image = Image.new("RGBA", (len(classes), len(classes)))
    for (actual, predicted), count in pairs.items():
        colour = (15, 138, 106) if actual == predicted else (209, 67, 91)
        alpha = round(40 + 215 * count / totals[actual])
        image.putpixel((index[predicted], index[actual]), (*colour, alpha))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return Markup(
        '<img class="matrix-picture" alt="{}, {} classes; rows are true classes"'
        ' src="data:image/png;base64,{}">'
    ).format(title, len(classes), b64encode(buffer.getvalue()).decode())


def most_confused(pairs: Mapping[Pair, int], count: int = 10) -> list[tuple[str, str, int, int]]:
    """The wrong pairs seen most: true class, predicted class, videos, videos of the true class."""
    totals = _totals(pairs)
    wrong = [(a, p, n, totals[a]) for (a, p), n in pairs.items() if a != p]
    return sorted(wrong, key=lambda one: (-one[2], -one[2] / one[3], one[0], one[1]))[:count]
