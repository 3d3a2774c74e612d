"""The quick-start notebook runs to its end, and what is committed of it is small and of no machine."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from tools.run_notebook import execute

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "docs/quickstart.ipynb"


def test_the_committed_notebook_has_outputs_without_paths_of_a_machine() -> None:
    assert NOTEBOOK.stat().st_size < 150_000
    text = NOTEBOOK.read_text("utf-8")
    assert not any(
        f'"/{folder}/' in text or f" /{folder}/" in text for folder in ("tmp", "home", "work")
    )
    cells = [one for one in nbformat.reads(text, 4).cells if one.cell_type == "code"]
    assert [one.execution_count for one in cells] == list(range(1, len(cells) + 1))
    assert all(
        one.outputs for one in cells if not one.source.startswith(("import shutil", "shutil"))
    )
    assert not any(one.output_type == "error" for cell in cells for one in cell.outputs)


@pytest.mark.slow
def test_it_runs_on_the_demo() -> None:
    if not (ROOT / "models/demo/ez_clip/supervised_split1/model.safetensors").is_file():
        pytest.skip("it needs the demo's models: `make repro`")
    cells = [one for one in execute(NOTEBOOK).cells if one.cell_type == "code"]
    texts = ["".join(str(one) for one in cell.outputs) for cell in cells]
    assert "StarGrowing" in texts[2]
    assert "190 videos" in texts[5]
    table = cells[-2].outputs[0]["data"]["text/html"]
    assert table.count("ArrowMovingUp") >= 2
