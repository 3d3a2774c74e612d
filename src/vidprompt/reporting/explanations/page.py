"""Write an explanation as one HTML page without scripts, which needs no network."""

from __future__ import annotations

import io
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path

from vidprompt.files.atomic import write_text
from vidprompt.reporting.explanations.content import Drawing
from vidprompt.reporting.explanations.geometry import Array
from vidprompt.reporting.explanations.heat_map import Picture, colours, css_gradient
from vidprompt.reporting.rendering import COLOURS, data_uri

_QUALITY = 84  # of the frames' JPEG


@dataclass(frozen=True)
class Card:
    """A frame with a text's heat map."""

    heat: str
    share: float


def page(drawing: Drawing) -> str:
    """The page's HTML."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("vidprompt", "reporting/explanations"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    height, width = drawing.pictures.shape[1:3]
    texts = [
        [
            Card(_heat(maps.cells[k] / drawing.end), float(share))
            for k, share in enumerate(maps.temporal)
        ]
        for maps in drawing.maps
    ]
    return environment.get_template("page.html.jinja").render(
        drawing=drawing,
        colours=COLOURS,
        gradient=css_gradient(),
        frames=[_photo(one) for one in drawing.pictures],
        texts=texts,
        ratio=f"{width} / {height}",
        wide=width >= height,
    )


def _photo(picture: Picture) -> str:
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(picture).save(out, "JPEG", quality=_QUALITY)
    return "data:image/jpeg;base64," + b64encode(out.getvalue()).decode()


def _heat(levels: Array) -> str:
    """A heat map with a pixel a cell, which the page enlarges without smoothing."""
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(colours(levels), "RGBA").save(out, "PNG")
    return data_uri(out.getvalue())


def write_page(path: Path, drawing: Drawing) -> None:
    """Write the page, atomically."""
    write_text(path, page(drawing))
