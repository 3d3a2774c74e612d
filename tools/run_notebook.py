"""Execute a notebook and write it with its outputs, without paths of this machine.

python tools/run_notebook.py docs/quickstart.ipynb    # after `make repro`; about two minutes
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
TIMEOUT_S = 600  # of a cell
KEPT = ("kernelspec", "language_info")  # of the notebook's metadata


def execute(notebook: Path, folder: Path = ROOT) -> Any:
    """The notebook with its outputs; it runs in `folder`. Raises CellExecutionError."""
    content = nbformat.read(notebook, as_version=4)
    client = NotebookClient(
        content,
        timeout=TIMEOUT_S,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
    )
    return client.execute()


def clean(content: Any, folder: Path = ROOT) -> Any:
    """The same without this machine's paths, versions and what programs say on stderr."""
    content.metadata = {key: content.metadata[key] for key in KEPT if key in content.metadata}
    content.metadata.get("language_info", {}).pop("version", None)
    for cell in content.cells:
        cell.metadata = {}
        cell.pop("id", None)
        if cell.cell_type != "code":
            continue
        cell.outputs = [one for one in cell.outputs if one.get("name") != "stderr"]
        for output in cell.outputs:
            _each_text(output, folder)
            _smallest_picture(output.get("data", {}))
    content.nbformat_minor = 4  # ids of cells are random
    return content


def _each_text(output: Any, folder: Path) -> None:
    for holder in (output, output.get("data", {})):
        for key, value in list(holder.items()):
            if isinstance(value, str) and not key.startswith("image/"):
                short = value.replace(f"{folder}/", "")
                holder[key] = re.sub(r"/(tmp|var)/[\w/.-]*?quickstart-\w+/", "", short)


def _smallest_picture(data: Any) -> None:
    pictures = sorted(
        (kind for kind in data if kind.startswith("image/")), key=lambda k: len(data[k])
    )
    for kind in pictures[1:]:
        del data[kind]


def main() -> None:
    for name in sys.argv[1:]:
        path = Path(name)
        nbformat.write(clean(execute(path)), path)


if __name__ == "__main__":
    main()
