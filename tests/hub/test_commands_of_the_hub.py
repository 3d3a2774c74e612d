"""The commands, each in a process of its own: pushed here, used in a folder and a home that have nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from tests.hub.fake_hub import TOKEN, Hub, running_hub
from tests.registry.project import NAME, WEIGHTS

from vidprompt.registry.registration import register

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
RUN = "demo/ez_clip/supervised_split1"
VIDEOS = ROOT / "cache/unpacked/demo/actions/videos/HeartMovingLeft"


@pytest.fixture
def running() -> Iterator[Hub]:
    with running_hub() as hub:
        yield hub


def call(
    hub: Hub, home: Path, *words: str, code: int = 0, **more: str
) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "VIDPROMPT"))}
    own = {"HF_ENDPOINT": hub.url, "HF_HOME": str(home / "hf"), "HF_HUB_DISABLE_XET": "1"}
    command = [shutil.which("vidprompt") or "vidprompt", *words]
    done = subprocess.run(
        command, env=kept | own | more, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert TOKEN not in done.stdout + done.stderr
    return done


def test_the_demo_s_model_predicts_the_same_from_the_hub(
    running: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not (ROOT / "models" / RUN / "model.safetensors").is_file():
        pytest.skip("it needs the demo's models: `make repro`")
    videos = sorted(VIDEOS.glob("*.mp4"))[2:5]  # the second one is broken on purpose
    predict = ("predict", *map(str, videos), "--json", "--model")
    monkeypatch.chdir(ROOT)
    expected: list[Any] = json.loads(call(running, tmp_path, *predict, RUN).stdout)
    address = call(running, tmp_path, "push-to-hub", RUN, "me/demo", HF_TOKEN=TOKEN).stdout.strip()
    repo = running.repos["me/demo"]
    assert address == f"hf://me/demo@{repo.branches['main']}"
    card = ModelCard(repo.commits[repo.branches["main"]]["README.md"].decode())
    (index,) = card.data.to_dict()["model-index"]
    named = {metric["name"] for one in index["results"] for metric in one["metrics"]}
    assert "Top-1 accuracy" in named
    other = tmp_path / "other machine"
    other.mkdir()
    monkeypatch.chdir(other)
    assert json.loads(call(running, other, *predict, "hf://me/demo").stdout) == expected
    asked = len(running.log)
    offline = call(running, other, *predict, "hf://me/demo", HF_HUB_OFFLINE="1")
    assert json.loads(offline.stdout) == expected
    assert len(running.log) == asked
    refused = call(
        running, tmp_path, *predict, "hf://me/demo", HF_HUB_OFFLINE="1", HF_HOME="none", code=2
    )
    assert refused.stderr.startswith("vidprompt: me/demo is not in the Hub's cache")
    assert refused.stderr.count("\n") == 1


def test_a_registered_version_is_a_tag_that_never_moves(
    running: Hub, project: Path, tmp_path: Path
) -> None:
    register(NAME, "production", project=project)
    push = ("push-to-hub", f"{NAME}@production", "me/small", "--license", "mit")
    first = call(running, tmp_path, *push, HF_TOKEN=TOKEN)
    repo = running.repos["me/small"]
    assert repo.tags == {"v0.1.0": repo.branches["main"]}
    files = repo.commits[repo.tags["v0.1.0"]]
    assert files["model.safetensors"] == (project / WEIGHTS).read_bytes()
    assert {"backbone.json", "backbone.safetensors"} <= set(files)
    card = files["README.md"].decode()
    assert f"# {NAME} v0.1.0\n" in card
    assert 'vidprompt.load("hf://me/small@v0.1.0")' in card
    assert "| `data/backbone` |" in card  # what dvc.lock says of the training
    again = call(running, tmp_path, *push, HF_TOKEN=TOKEN)
    assert again.stdout == first.stdout
    assert "has v0.1.0 already, with these files" in again.stderr
    changed = json.loads(files["vidprompt.json"])
    changed["sha256"]["model.safetensors"] = "0" * 64
    other = repo.add("main", files | {"vidprompt.json": json.dumps(changed).encode()}, "other")
    repo.tags["v0.1.0"] = other
    refused = call(running, tmp_path, *push, HF_TOKEN=TOKEN, code=2)
    assert "me/small has v0.1.0 already, with other files" in refused.stderr
