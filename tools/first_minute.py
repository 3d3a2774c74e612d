"""Draw README's first picture: the frames that a model looks at, the command, and what it prints.

    python tools/first_minute.py             # after `make repro`; writes docs/first_minute.svg

The text is the command's own output, and the frames are those that the model takes of the video.
"""

from __future__ import annotations

import base64
import io
import os
import subprocess
import sys
from html import escape
from pathlib import Path

from PIL import Image

import vidprompt
from vidprompt.prediction.decoding import PrepareFrame, decode_video
from vidprompt.prediction.model import Model

ROOT = Path(__file__).parents[1]
OUT = ROOT / "docs/first_minute.svg"
MODEL = "demo/ez_clip/supervised_split1"
VIDEO = "cache/unpacked/demo/actions/videos/StarGrowing/v_StarGrowing_g08_c01.mp4"
COLUMNS = 96  # of the terminal
CHARACTER, LINE = 8.4, 21  # pixels, of 14 px type
SCALE = 1.5  # of the frames
MARGIN, GAP = 20, 10


def command() -> list[str]:
    return ["predict", VIDEO, "--model", MODEL]


def terminal() -> list[str]:
    """The lines of a terminal in which the command was run."""
    done = subprocess.run(
        [sys.executable, "-m", "vidprompt.cli", *command()],
        cwd=ROOT,
        env=os.environ | {"COLUMNS": str(COLUMNS)},
        capture_output=True,
        text=True,
        check=True,
    )
    first, rest = command()[:2], command()[2:]
    shown = [f"$ vidprompt {' '.join(first)} \\", f"      {' '.join(rest)}"]
    heading, *lines = done.stdout.rstrip().splitlines()
    return [*shown, heading.removeprefix(f"{VIDEO}, "), *lines]


def frames(model: Model) -> list[Image.Image]:
    """The frames that the model looks at, as they are in the video."""
    video = decode_video(ROOT / VIDEO, model.input.clips, PrepareFrame())
    return [Image.fromarray(frame) for frame in video.frames]


def embedded(image: Image.Image) -> str:
    """A picture as an address that holds it."""
    data = io.BytesIO()
    image.save(data, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(data.getvalue()).decode("ascii")


def drawing(lines: list[str], images: list[Image.Image]) -> str:
    """The SVG: frames in a row, the terminal below them."""
    width, height = (round(SCALE * side) for side in images[0].size)
    row = len(images) * (width + GAP) - GAP
    longest = max(len(line) for line in lines)
    total = round(max(row, longest * CHARACTER) + 2 * MARGIN)
    top = MARGIN + height + GAP
    bottom = round(top + 2 * GAP + len(lines) * LINE + MARGIN)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{total}" height="{bottom}" '
        f'viewBox="0 0 {total} {bottom}" role="img">',
        "<title>Eight frames of a star that grows, and the classes that `vidprompt predict` finds</title>",
        f'<rect width="{total}" height="{bottom}" rx="8" fill="#16181d"/>',
    ]
    left = (total - row) / 2
    for number, image in enumerate(images):
        x = left + number * (width + GAP)
        parts.append(
            f'<image x="{x:.0f}" y="{MARGIN}" width="{width}" height="{height}" '
            f'href="{embedded(image)}"/>'
        )
    parts.append(
        '<g font-family="ui-monospace, Menlo, Consolas, DejaVu Sans Mono, monospace" font-size="14">'
    )
    for number, line in enumerate(lines):
        colour = "#7ee2a8" if number < 2 else "#e8e8e8" if number < 4 else "#b8c7ff"
        y = top + 2 * GAP + (number + 0.6) * LINE
        shown = escape(line).replace(" ", "\u00a0")  # runs of blanks become one elsewhere
        parts.append(f'<text x="{MARGIN}" y="{y:.0f}" fill="{colour}">{shown}</text>')
    return "\n".join([*parts, "</g>", "</svg>", ""])


def main() -> None:
    os.chdir(ROOT)
    model = vidprompt.load(MODEL, "cpu")
    OUT.write_text(drawing(terminal(), frames(model)), encoding="utf-8")


if __name__ == "__main__":
    main()
