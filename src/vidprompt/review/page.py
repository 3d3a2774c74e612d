"""The report as one page of HTML that needs nothing else: the Markdown drawn, pictures in it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

from vidprompt.review.pictures import Picture

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


MOST_BYTES = 1_000_000  # GitHub takes 1 MiB of a job's summary
# Nothing but the page's own style and pictures, should a file under review get markup into it
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def cut(markdown: str) -> str:
    """The whole lines that GitHub takes as a job summary."""
    content = markdown.encode()
    if len(content) <= MOST_BYTES:
        return markdown
    kept = content[:MOST_BYTES].rpartition(b"\n")[0].decode()
    return f"{kept}\n\n**It goes on: the whole is in review.html of the artifact.**\n"


def as_page(markdown: str, pictures: Sequence[Picture], title: str) -> str:
    """`markdown` shows pictures by their names."""
    from markdown_it import MarkdownIt

    body = MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown)
    body = body.replace("<table>", '<div class="wide"><table>')
    body = body.replace("</table>", "</table></div>")
    for picture in pictures:
        data = base64.b64encode(picture.png).decode()
        body = body.replace(f'src="{picture.name}"', f'src="data:image/png;base64,{data}"')
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
    )
