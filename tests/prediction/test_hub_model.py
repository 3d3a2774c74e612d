"""Models of the Hub: what is fetched, checked and refused, and the sentences where it cannot be."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants
from tests.hub.fake_hub import Hub
from tests.pipeline.stages.encoding_project import BACKBONE
from tests.prediction.small_checkpoint import WEIGHTS, write_model

from vidprompt.files.hashes import sha256
from vidprompt.prediction.hub_model import fetch_hub_model
from vidprompt.prediction.sources import find_model_source
from vidprompt.system.errors import TransientError, UserError, is_transient

REPO = "them/small"
ADDRESS = f"hf://{REPO}"


@pytest.fixture(autouse=True)
def _no_token(monkeypatch: pytest.MonkeyPatch, hub: Hub) -> None:
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.utils._headers.get_token", lambda: None)


def files_of(folder: Path, **metadata: Any) -> dict[str, bytes]:
    """A repository's files with a small model."""
    checkpoint = write_model(folder, **metadata)
    files = {
        "model.safetensors": checkpoint.read_bytes(),
        "backbone/tiny.safetensors": (folder / WEIGHTS).read_bytes(),
    }
    hashes = {"model.safetensors": sha256(checkpoint), "README.md": "0"}
    return files | {
        "vidprompt.json": json.dumps({"name": "x", "sha256": hashes}).encode(),
        "code.py": b"raise SystemExit",
    }


def test_only_files_of_ours_are_fetched(hub: Hub, tmp_path: Path) -> None:
    repo = hub.make(REPO, files_of(tmp_path))
    repo.tags["v1"] = repo.branches["main"]
    model = fetch_hub_model(f"{ADDRESS}@v1")
    assert model.commit == repo.tags["v1"]
    fetched = {
        p.relative_to(model.folder).as_posix() for p in model.folder.rglob("*") if p.is_file()
    }
    assert fetched == {"model.safetensors", "backbone/tiny.safetensors", "vidprompt.json"}


def test_a_repository_that_does_not_open_is_a_sentence(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.make("them/gated", files_of(tmp_path), gated=True)
    hub.make("them/private", private=True)
    hub.make("them/other", {"pytorch_model.bin": b"x"})
    for address, problem in {
        "hf://them": "'hf://them' is no address on the Hub: hf://OWNER/NAME",
        "hf://a/b/c": "is no address on the Hub",
        "hf://../b": "'../b' is no name on the Hub",
        "hf://them/none": "has no model them/none, or it is private: check the name, and log in",
        "hf://them/private": "has no model them/private, or it is private",
        "hf://them/other@v9": "them/other has no branch, tag or commit 'v9'",
        "hf://them/gated": f"them/gated is gated: ask for access on {hub.url}/them/gated",
        "hf://them/other": "has no model.safetensors: `vidprompt push-to-hub` did not make it",
    }.items():
        with pytest.raises(UserError) as refused:
            find_model_source(address)
        assert problem in str(refused.value), address
        assert "\n" not in str(refused.value)


def test_without_a_network_it_is_the_cache_or_a_sentence(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.make(REPO, files_of(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        UserError, match="is not in the Hub's cache .* HF_HUB_OFFLINE is set"
    ) as offline:
        find_model_source(ADDRESS)
    assert not is_transient(offline.value)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    nowhere = "http://127.0.0.1:9"
    monkeypatch.setattr(constants, "ENDPOINT", nowhere)
    with pytest.raises(TransientError, match=f"cannot be fetched from {nowhere} .* check the net"):
        find_model_source(ADDRESS)
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    first = find_model_source(ADDRESS)
    monkeypatch.setattr(constants, "ENDPOINT", nowhere)
    assert find_model_source(ADDRESS) == first


def test_a_damaged_file_is_found(hub: Hub, tmp_path: Path) -> None:
    hub.make(REPO, files_of(tmp_path))
    model = fetch_hub_model(ADDRESS)
    blob = (model.folder / "model.safetensors").resolve()
    blob.write_bytes(blob.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"model.safetensors of hf://.* has other content than was"):
        find_model_source(ADDRESS)
    shutil.rmtree(model.folder.parents[1])
    backbone = Path(str(find_model_source(ADDRESS).backbone["weights"]))
    backbone.resolve().write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"tiny.safetensors has other content"):
        find_model_source(ADDRESS)


def test_a_stranger_s_checkpoint_reads_no_files_of_this_machine(hub: Hub, tmp_path: Path) -> None:
    spec = {"name": "tiny", "config": BACKBONE, "weights": str(tmp_path / WEIGHTS)}
    files = files_of(tmp_path, backbone_spec=spec)
    del files["backbone/tiny.safetensors"], files["vidprompt.json"]
    hub.make("them/weights", files)
    assert (tmp_path / WEIGHTS).is_file()
    with pytest.raises(UserError, match="needs its backbone tiny .* is not on this machine"):
        find_model_source("hf://them/weights")
    own = tmp_path / "own.json"
    own.write_text(json.dumps(BACKBONE), "utf-8")
    for name, changed in {
        "config": {"config": str(own)},
        "folder": {"name": f"local-dir:{tmp_path}", "weights": None},
    }.items():
        files = files_of(tmp_path / name, backbone_spec=spec | changed)
        del files["vidprompt.json"]
        hub.make(f"them/{name}", files)
        with pytest.raises(UserError, match="does not bring its backbone: it names a file of the"):
            find_model_source(f"hf://them/{name}")
    tokenizer = spec | {"weights": "data/tiny.safetensors", "tokenizer": str(tmp_path)}
    (tmp_path / "tokenizer.json").write_text("{}", "utf-8")
    files = files_of(tmp_path / "tokenizer", backbone_spec=tokenizer)
    hub.make("them/tokenizer", {k: v for k, v in files.items() if k != "vidprompt.json"})
    assert find_model_source("hf://them/tokenizer").backbone["tokenizer"] == "backbone/tokenizer"
