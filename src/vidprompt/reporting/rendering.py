"""Render Vega-Lite specifications offline: inline SVG for a page, PNG for Markdown.

Colours are names of `COLOURS`: `svg` leaves them as CSS variables, so that a chart follows the page's
light or dark theme; `png` uses the light ones. Equal specifications give equal bytes.
"""

from __future__ import annotations

import io
import json
import re
from base64 import b64encode
from typing import Any
from xml.etree import ElementTree

from markupsafe import Markup

Spec = dict[str, Any]

COLOURS = {  # name → light theme, dark theme; m0, m1 … are the methods in order
    "page": ("#ffffff", "#0f1216"),
    "panel": ("#f6f7f9", "#171b21"),
    "ink": ("#1a1f26", "#e7ebef"),
    "soft": ("#57616d", "#9ba6b2"),
    "rule": ("#dfe3e8", "#2b323a"),
    "link": ("#1f5fd0", "#84adff"),
    "m0": ("#8b95a1", "#7f8a96"),
    "m1": ("#2f6fde", "#6b9dff"),
    "m2": ("#dd7424", "#f39a55"),
    "m3": ("#2a9d6f", "#4fc796"),
    "m4": ("#9a4fc4", "#c58ae8"),
    "m5": ("#b08900", "#d9b443"),
    "hit": ("#0f8a6a", "#35c39b"),
    "miss": ("#d1435b", "#ff6f86"),
    "plate": ("#ffffff", "#12161b"),
    "cells": ("#eceff2", "#1f252c"),
}
METHOD_COLOURS = 6
PNG_COLOURS = 128
SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"  # names the format, is never fetched


def colour(name: str) -> str:
    """A colour of `COLOURS` as it stands in a specification."""
    return f"var(--{name})"


def method_colour(k: int) -> str:
    """The colour of the k-th method."""
    return colour(f"m{k % METHOD_COLOURS}")


CONFIG: Spec = {
    "font": "DejaVu Sans",
    "view": {"stroke": None},
    "axis": {
        "labelColor": colour("soft"),
        "titleColor": colour("soft"),
        "gridColor": colour("rule"),
        "domain": False,
        "ticks": False,
        "labelFontSize": 11,
        "titleFontSize": 11,
        "titleFontWeight": "normal",
        "labelPadding": 5,
        "translate": 0,
        "labelLimit": 0,
        "labelBound": False,
        "labelOverlap": False,
        "labelFlush": False,
        "titlePadding": 6,
    },
    "legend": {"labelFontSize": 11, "title": None, "orient": "bottom", "labelLimit": 170},
    "title": {"fontSize": 12, "color": colour("ink")},
    "text": {"color": colour("ink"), "fontSize": 10.5},
    "tick": {"color": colour("ink"), "thickness": 1.2, "opacity": 1},
    "rule": {"color": colour("ink")},
}


def png(*rows: Spec, title: str = "", scale: float = 2.0, background: str | None = "page") -> bytes:
    """Charts below each other as PNG in the light theme, of few colours; transparent without `background`."""
    from PIL import Image

    images = []
    for i, row in enumerate(rows):
        named = {"title": {"text": title, "fontSize": 13, "anchor": "start"}}
        spec = row | (named if title and i == 0 else {})
        images.append(_image(spec, scale, colour(background) if background else None))
    size = max(image.width for image in images), sum(image.height for image in images)
    whole, top = Image.new("RGBA", size), 0
    for image in images:
        whole.paste(image, (0, top))
        top += image.height
    out = io.BytesIO()
    if background:
        paper = Image.new("RGBA", size, COLOURS[background][0])
        whole = Image.alpha_composite(paper, whole).convert("RGB")
        whole = whole.quantize(PNG_COLOURS, dither=Image.Dither.NONE)
    whole.save(out, "PNG", optimize=True)
    return out.getvalue()


def _image(spec: Spec, scale: float, background: str | None) -> Any:
    import vl_convert
    from PIL import Image

    text = json.dumps(_document(spec, background))
    for name, (light, _) in COLOURS.items():
        text = text.replace(colour(name), light)
    return Image.open(io.BytesIO(vl_convert.vegalite_to_png(text, scale=scale))).convert("RGBA")


def data_uri(image: bytes) -> str:
    """A PNG inside an address: needs no file beside the page."""
    return "data:image/png;base64," + b64encode(image).decode()


def svg(spec: Spec, label: str, css: str = "") -> Markup:
    """The chart as inline SVG that grows with its box; a screen reader reads `label`."""
    import vl_convert

    text = vl_convert.vegalite_to_svg(json.dumps(_document(spec, None)))
    root = ElementTree.fromstring(_NOT_XML.sub(" ", text))  # noqa: S314  (written by Vega, above)
    box = root.attrib["viewBox"]
    _slim(root)
    root.attrib.clear()
    root.attrib |= {"class": f"chart {css}".strip(), "viewBox": box}
    root.attrib |= {"role": "img", "aria-label": label}
    return Markup(ElementTree.tostring(root, encoding="unicode"))  # noqa: S704  (escaped by it)


def _document(spec: Spec, background: str | None) -> Spec:
    return {"$schema": SCHEMA, "background": background, "config": CONFIG, **spec}


_SHARED = ("fill", "stroke", "stroke-width", "text-anchor", "font-size", "font-weight")
_GEOMETRY = ("d", "x2", "y2", "transform")
_ATTRIBUTES = (*_SHARED, *_GEOMETRY, "fill-opacity", "opacity", "stroke-dasharray")
_DECIMALS = re.compile(r"-?\d+\.\d+(e-\d+)?")
_NOT_XML = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")


def _slim(element: ElementTree.Element) -> None:
    """Keep the attributes that a page needs, round coordinates, and turn descriptions into tooltips."""
    element.tag = element.tag.rpartition("}")[2]
    title = element.get("aria-label") if element.get("role") == "graphics-symbol" else None
    for name, value in list(element.attrib.items()):
        if name not in _ATTRIBUTES or (name, value) == ("opacity", "1"):
            del element.attrib[name]
        elif name in _GEOMETRY:
            element.attrib[name] = _DECIMALS.sub(_rounded, value)
    for child in list(element):
        _slim(child)
        if child.tag == "g" and not child.attrib:
            place = list(element).index(child)
            element[place : place + 1] = list(child)
        elif child.tag == "path" and not ({"fill", "stroke"} & child.attrib.keys()):
            element.remove(child)
    for name in _SHARED if element.tag == "g" and len(element) > 1 else ():
        values = {child.get(name, "") for child in element}
        if len(values) == 1 and "" not in values:  # once at the group
            element.attrib[name] = values.pop()
            for child in element:
                del child.attrib[name]
    if title and element.tag != "g":
        ElementTree.SubElement(element, "title").text = title


def _rounded(match: re.Match[str]) -> str:
    return f"{float(match[0]):.1f}".removesuffix(".0")
