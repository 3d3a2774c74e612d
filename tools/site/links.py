"""Links between files of the repository → links between pages of the site.

A page of docs/ keeps its place. The files in PAGES have pages of their own; what else is outside docs/ is
copied to files/ (of a folder its README.md), so that no link needs a server of the repository's.
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
        target = _target(_path(match["path"], source))
        if not target:
            return match[0]
        return match["before"] + posixpath.relpath(target, here or ".") + match["after"]

    return _LINK.sub(rewritten, markdown)


def outside_files(markdown: str, source: str) -> dict[str, str]:
    """Name on the site → path in the repository, of files outside docs/ without a page that are linked to."""
    paths = (_path(match["path"], source) for match in _LINK.finditer(markdown))
    named = ((_target(path), path) for path in paths)
    return {name: path for name, path in named if name.startswith(f"{FILES}/")}


def _path(link: str, source: str) -> str:
    """The file of the repository that a link in `source` leads to."""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
    return f"{path}/README.md" if (ROOT / path / "README.md").is_file() else path


def _target(path: str) -> str:
    """The page or file of the site that a path of the repository is; empty: it is no file."""
    if path in PAGES:
        return PAGES[path]
    if path.startswith("../") or not (ROOT / path).is_file():
        return ""
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return f"{FILES}/{path}" + (".txt" if path.endswith(".md") else "")  # it is no page of the site
