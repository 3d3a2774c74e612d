"""The files of the page for people, read once from the package."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources

from starlette.responses import Response

from vidprompt.serving.middleware import PAGE_POLICY

_FILES = {  # path → file, type
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/service.js": ("service.js", "text/javascript; charset=utf-8"),
    "/drawing.js": ("drawing.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}


@dataclass(frozen=True)
class PageFile:
    """A file of the page, and its type."""

    content: bytes
    media_type: str

    def response(self, known: str = "") -> Response:
        """The file; without its content where `known`, the client's If-None-Match, is its tag."""
        tag = f'"{hashlib.sha256(self.content).hexdigest()[:16]}"'
        headers = {
            "ETag": tag,
            "Cache-Control": "no-cache",
            "Content-Security-Policy": PAGE_POLICY,
        }
        if tag in known:
            return Response(status_code=304, headers=headers)
        return Response(self.content, media_type=self.media_type, headers=headers)


def page_files() -> dict[str, PageFile]:
    """All files by their path on the server."""
    folder = resources.files("vidprompt.serving") / "page"
    return {
        path: PageFile((folder / name).read_bytes(), media_type)
        for path, (name, media_type) in _FILES.items()
    }
