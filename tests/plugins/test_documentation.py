"""The method of docs/plugins.md, as it is written there, is installed and holds the contract."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from tests.plugins.packages import install

from vidprompt.contract import check_method
from vidprompt.metrics.metric import video_values

PAGE = (Path(__file__).parents[2] / "docs/plugins.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    """The page's code in a language, in order."""
    fence = rf"^```{language} file: [^\n]*\n(.*?)^```$"
    return re.findall(fence, PAGE, re.MULTILINE | re.DOTALL)


def test_the_pages_code_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    method, metric = blocks("python")  # those of files
    (parameters,), (project,) = blocks("yaml"), blocks("toml")
    content = tomllib.loads(project)["project"]
    entries = {g.removeprefix("vidprompt."): e for g, e in content["entry-points"].items()}
    entries["metrics"] = {"mrr": "frame_weights:ReciprocalRank"}
    files = {"__init__.py": method + metric, "params/method/frame_weights.yaml": parameters}
    install(tmp_path, content["name"], entries, files, content["version"])
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    quick = ["shapes", "gradients", "start", "determinism", "state round trip", "other lengths"]
    found = check_method("frame_weights", only=quick)
    assert [one.status for one in found] == ["passed"] * len(quick), [one.line for one in found]
    assert yaml.safe_load(parameters)["options"].keys() == {"temperature"}
    assert np.allclose(video_values("mrr", pd.DataFrame({"rank": [0, 1]})), [1, 0.5])
    sys.modules.pop("frame_weights", None)
