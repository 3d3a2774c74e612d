"""The pictures of a flow show every protocol and run, and equal results give equal bytes."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from flows.pictures import loss_curves, measure_bars
from PIL import Image
from tests.reporting.test_table import write_all

from vidprompt.system.errors import DataError


def test_pictures_of_results(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="metrics.json"):
        measure_bars("demo", tmp_path)
    for method, value in {"frozen_clip": 0.2, "vita_clip": 0.6}.items():
        write_all(tmp_path, method, value)
    bars = measure_bars("demo", tmp_path)
    assert bars == measure_bars("demo", tmp_path)
    assert len(bars) < 100_000
    assert Image.open(io.BytesIO(bars)).width > 600
    assert loss_curves("demo", tmp_path) is None
    run = tmp_path / "demo/vita_clip/runs/supervised_split1"
    run.mkdir(parents=True)
    (run / "loss.csv").write_text(
        "step,loss,lr\n" + "".join(f"{k},{9 / k},0.1\n" for k in range(1, 500))
    )
    losses = loss_curves("demo", tmp_path)
    assert losses is not None
    assert losses.startswith(b"\x89PNG")
