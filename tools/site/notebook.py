"""A notebook as a page, with the outputs that it was saved with; it is not run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat


def notebook_page(notebook: Path) -> str:
    """Markdown cells as they are, code as blocks, outputs as text, tables or pictures within the page."""
    cells = nbformat.read(notebook, as_version=4).cells
    parts = list[str]()
    for cell in cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
        elif cell.cell_type == "code":
            parts.append(f"```python\n{cell.source}\n```")
            parts.extend(filter(None, map(_output, cell.outputs)))
    return "\n\n".join(parts) + "\n"


def _output(output: Any) -> str:
    data = output.get("data", {})
    for kind in ("image/png", "image/jpeg"):
        if kind in data:
            return f'<img alt="Output of the cell above" src="data:{kind};base64,{data[kind].strip()}">'
    if "text/html" in data:
        return _table(data["text/html"])
    text = output.get("text") or data.get("text/plain", "")
    return f"```text\n{text.rstrip()}\n```" if text.strip() else ""


def _table(html: str) -> str:
    """A table of pandas without its style and on lines without indent, so that it stays HTML."""
    html = re.sub(r"<style.*?</style>", "", html, flags=re.DOTALL)
    html = re.sub(r' (border|class|style)="[^"]*"', "", html)
    return "\n".join(line.strip() for line in html.splitlines() if line.strip())
