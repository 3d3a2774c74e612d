"""On the demo, a tune that begins with a wrong rate ends with one that learns."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from vidprompt import tuning

pytest.importorskip("optuna")
ROOT = Path(__file__).parents[2]
LINKED = ("data", "cache/manifest", "cache/frames", "cache/backbone")
SPACE = {
    "trials": 5,
    "sampler": "tpe",
    "startup_trials": 3,
    "pruner": "median",
    "warmup": 1,
    "held_out": {"share": 0.2, "videos": 4},
    "space": {"trainer.lr": {"low": 1.0e-6, "high": 3.0e-2, "log": True}},
}
SHORT = ("trainer.length=150", "trainer.evaluate_every=50", "trainer.workers=0")


@pytest.mark.slow
def test_it_recovers_from_a_wrong_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not (ROOT / "cache/frames/demo/frames.json").is_file():
        pytest.skip("it needs the demo's frames: `make repro`")
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "params", tmp_path / "params")
    for name in LINKED:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).symlink_to(ROOT / name)
    Path("params/tune/rate.yaml").write_text(json.dumps(SPACE), encoding="utf-8")
    result = tuning.run(["dataset=demo", "method=ez_clip", "tune=rate", "trainer.lr=1e-6", *SHORT])
    found = json.loads(result.page.with_name("tune.json").read_text("utf-8"))["methods"]["ez_clip"]
    first, best = found["trials"][0], found["trials"][found["best"]]
    assert first["values"]["trainer.lr"] == 1e-6
    assert best["values"]["trainer.lr"] > 1e-4
    assert best["value"] > first["value"] + 0.05
