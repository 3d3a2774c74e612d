"""Write a review: Markdown with and without pictures, and one HTML page that needs no other file."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Protocol

from vidprompt.files.atomic import replacing, write_json, write_text
from vidprompt.reporting.rendering import data_uri
from vidprompt.review.build import Review
from vidprompt.review.markdown import review_markdown
from vidprompt.system.errors import UserError

REPORTS = ("review.md", "summary.md", "review.html")
WRITTEN = ".review.json"  # names the files that a review wrote into its folder
MOST_BYTES = 1_000_000  # GitHub takes 1 MiB of a job's summary
# Allows the page's own style and pictures only, should a file under review get markup into it
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
STYLE = """
:root { color-scheme: light dark; --line: #d0d7de; --soft: #59636e; --code: #818b981f; }
@media (prefers-color-scheme: dark) { :root { --line: #3d444d; --soft: #9198a1; } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 0 auto; padding: 0 12px 3rem; }
h1 { font-size: 1.35rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; border-bottom: 1px solid var(--line); padding-bottom: .2rem; margin-top: 2rem; }
h3 { font-size: 1.05rem; }
table { border-collapse: collapse; font-size: .8125rem; font-variant-numeric: tabular-nums; }
th, td { border: 1px solid var(--line); padding: 4px 5px; vertical-align: top; }
th { text-align: left; }
.wide { overflow-x: auto; }
sub { font-size: .75rem; color: var(--soft); vertical-align: baseline; white-space: nowrap; }
code { font-size: .85em; background: var(--code); border-radius: 4px; padding: 1px 3px;
  overflow-wrap: anywhere; }
td code { overflow-wrap: normal; }
ul { padding-left: 1.2rem; }
li { overflow-wrap: anywhere; }
details { border: 1px solid var(--line); border-radius: 6px; padding: 4px 10px; margin: 6px 0; }
summary { cursor: pointer; }
img { max-width: 100%; height: auto; background: white; }
"""


class NamedPicture(Protocol):
    """A PNG, and the name by which Markdown refers to it."""

    @property
    def name(self) -> str: ...

    @property
    def png(self) -> bytes: ...


def write_review(review: Review, folder: Path) -> Path:
    """Write review.md with its pictures, summary.md without, and review.html; returns review.md's path.

    The files of an earlier review, named in `.review.json`, are removed. UserError for a folder with other
    files, and for one that cannot be written.
    """
    text = review_markdown(review)
    title = text.partition("\n")[0].removeprefix("# ")
    names = sorted((*REPORTS, *(picture.name for picture in review.pictures)))
    try:
        for old in _earlier_files(folder):
            (folder / old).unlink(missing_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / WRITTEN, names)
        for picture in review.pictures:
            with replacing(folder / picture.name) as temporary:
                temporary.write_bytes(picture.png)
        write_text(folder / REPORTS[0], text)
        write_text(folder / REPORTS[1], shorten(review_markdown(review, pictures=False)))
        write_text(folder / REPORTS[2], html_page(text, review.pictures, title))
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written ({error.strerror}): name another --out"
        ) from error
    return folder / REPORTS[0]


def _earlier_files(folder: Path) -> list[str]:
    """The names of the files that an earlier review wrote into a folder."""
    if not folder.is_dir() or not any(folder.iterdir()):
        return []
    try:
        names = json.loads((folder / WRITTEN).read_bytes())
    except (OSError, ValueError):
        names = None
    if not isinstance(names, list):
        raise UserError(
            f"{folder} has files and no {WRITTEN} of an earlier review: name an empty --out, or one that is "
            "not there yet"
        )
    pictures = re.compile(r"[\w.-]+\.png")
    return [n for n in names if isinstance(n, str) and (n in REPORTS or pictures.fullmatch(n))]


def shorten(markdown: str) -> str:
    """The lines that fit into a GitHub job summary."""
    content = markdown.encode()
    if len(content) <= MOST_BYTES:
        return markdown
    kept = content[:MOST_BYTES].rpartition(b"\n")[0].decode()
    return f"{kept}\n\n**Shortened: the whole report is in review.html of the artifact.**\n"


def html_page(markdown: str, pictures: Sequence[NamedPicture], title: str) -> str:
    """The HTML page of Markdown (a review's, or another), with the pictures that it names embedded."""
    from markdown_it import MarkdownIt

    body = MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown)
    body = body.replace("<table>", '<div class="wide"><table>')
    body = body.replace("</table>", "</table></div>")
    for picture in pictures:
        body = body.replace(f'src="{picture.name}"', f'src="{data_uri(picture.png)}"')
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
    )
