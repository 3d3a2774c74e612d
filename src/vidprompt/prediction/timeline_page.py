"""A web page with a video and the time line of its spans, which works without a network."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from vidprompt.files.atomic import write_text
from vidprompt.prediction.inputs import is_stream
from vidprompt.prediction.results import Span

_EMBEDDED_BYTES = 8 << 20  # a video up to this size is written into the page
_TYPES = {".mp4": "video/mp4", ".m4v": "video/mp4", ".mov": "video/mp4", ".webm": "video/webm"}


def write_timeline(
    page: Path,
    video: str,
    spans: Sequence[Span],
    *,
    duration: float,
    model: str,
    window: float,
    stride: float,
    note: str = "",
) -> None:
    """Write the page of a video file, a folder of images or an address; `duration` in seconds.

    A small video is in the page itself, another is linked relative to it.
    """
    from jinja2 import Environment, FileSystemLoader

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True
    )
    values = {
        "name": Path(video).name or video,
        "source": _source(page, video),
        "spans": [span.to_dict() for span in spans],
        "duration": max(duration, 0.001),
        "model": model,
        "window": f"{window:g}",
        "stride": f"{stride:g}",
        "note": note,
    }
    write_text(page, environment.get_template("timeline.html.jinja").render(values))


def _source(page: Path, video: str) -> str:
    """What the page plays: the address, the bytes, or the path from the page; "" for a folder or a stream."""
    path = Path(video).expanduser()
    if is_stream(video):
        return ""
    if not path.exists():
        return video
    if path.is_dir():
        return ""
    kind = _TYPES.get(path.suffix.lower())
    if kind and path.stat().st_size <= _EMBEDDED_BYTES:
        return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
    try:
        relative = os.path.relpath(path.absolute(), page.absolute().parent)  # may go up, too
    except ValueError:  # another drive
        return path.absolute().as_uri()
    return quote(Path(relative).as_posix())
