"""Links between files of the repository → links between pages of the site.

A page of docs/ keeps its place. The files in PAGES have pages of their own; what else is outside docs/ is
copied to files/, so that no link needs a server of the repository's.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILES = "files"
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "docs/quickstart.ipynb": "quickstart.md",
}
_LINK = re.compile(r"""(?P<before>\]\(|(?:src|href)=")(?P<path>[^)\s"#:]+)(?P<after>[#)"\s])""")


def rewrite_links(markdown: str, source: str, page: str) -> str:
    """The text of the repository's file `source` as the site's page `page`."""
    here = posixpath.dirname(page)

    def rewritten(match: re.Match[str]) -> str:
        target = _target(match["path"], source)
        if not target:
            return match[0]
        return match["before"] + posixpath.relpath(target, here or ".") + match["after"]

    return _LINK.sub(rewritten, markdown)


def outside_targets(markdown: str, source: str) -> set[str]:
    """The files outside docs/ without a page that a file links to."""
    targets = (_target(match["path"], source) for match in _LINK.finditer(markdown))
    return {one.removeprefix(f"{FILES}/") for one in targets if one.startswith(f"{FILES}/")}


def _target(link: str, source: str) -> str:
    """The page or file of the site that a link in `source` leads to; empty: it is no file's."""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
    if path in PAGES:
        return PAGES[path]
    if path.startswith("../") or not (ROOT / path).is_file():
        return ""
    return path.removeprefix("docs/") if path.startswith("docs/") else f"{FILES}/{path}"
