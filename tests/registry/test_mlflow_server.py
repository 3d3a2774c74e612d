"""A version is given to a real MLflow server, in an environment of its own, by the command."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from tests.pipeline.project import run
from tests.registry.project import NAME, WEIGHTS

from vidprompt.files.hashes import sha256
from vidprompt.tracking.tracker import RUN_FILE, Tracker

pytestmark = pytest.mark.slow
STARTS_S = 120


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of `mlflow server`: its packages are others than ours."""
    folder = tmp_path_factory.mktemp("mlflow")
    uv = (sys.executable, "-m", "uv")
    subprocess.run([*uv, "venv", "-q", str(folder / "venv")], check=True)
    install = [*uv, "pip", "install", "-q", "--python", str(folder / "venv/bin/python"), "mlflow"]
    subprocess.run(install, check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    command = [
        str(folder / "venv/bin/mlflow"),
        "server",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    command += ["--workers", "1", "--backend-store-uri", "sqlite:///store.db"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "MLFLOW"))}
    environment["MLFLOW_DISABLE_TELEMETRY"] = "true"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        _wait(address, folder / "log")
        yield address
    finally:
        os.killpg(process.pid, 15)
        process.wait(30)


def _wait(address: str, log: Path) -> None:
    end = time.monotonic() + STARTS_S
    while time.monotonic() < end:
        try:
            with urlopen(f"{address}/health"):
                return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(log.read_text("utf-8", "replace"))


def ask(address: str, path: str) -> Any:
    with urlopen(f"{address}/api/2.0/mlflow/{path}") as answer:
        return json.loads(answer.read())


def test_a_version_its_files_and_its_stages_are_there(
    server: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    command = (shutil.which("vidprompt") or "vidprompt", "register", NAME, "--mlflow", "--stage")
    run(*command, "candidate", folder=project)
    run(*command, "staging", folder=project)  # the same version once more: an alias
    (version,) = ask(server, "model-versions/search")["model_versions"]
    commit = run("git", "rev-parse", "HEAD", folder=project).strip()
    tags = {one["key"]: one["value"] for one in version["tags"]}
    assert (version["name"], version["version"]) == (NAME, "1")
    assert tags["vidprompt.version"] == "v0.1.0"
    assert tags["mlflow.source.git.commit"] == commit
    assert tags["sha256"] == sha256(project / WEIGHTS)
    assert version["description"].startswith(f"# {NAME} v0.1.0")
    for stage in ("candidate", "staging"):
        found = ask(server, f"registered-models/alias?name={NAME}&alias={stage}")
        assert found["model_version"]["version"] == "1"
    listed = ask(server, f"artifacts/list?run_id={version['run_id']}&path=model")["files"]
    files = {Path(one["path"]).name: int(one["file_size"]) for one in listed}
    assert files["model.safetensors"] == (project / WEIGHTS).stat().st_size
    assert f"{NAME}@v0.1.0.md" in files


def test_a_training_s_numbers_and_files_are_there(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loss.csv").write_text("step,loss\n", "utf-8")
    with Tracker("mlflow", "demo/ez_clip/a", tmp_path / "run", {"trainer": {"lr": 0.1}}) as run:
        run.log({"step": 1, "loss": 0.5})
        run.log({"step": 2, "loss": 0.25})
        run.add_files([tmp_path / "loss.csv"])
        kept = json.loads((tmp_path / "run" / RUN_FILE).read_text("utf-8"))["id"]
    found = ask(server, f"runs/get?run_id={kept}")["run"]
    assert found["info"]["status"] == "FINISHED"
    assert found["info"]["run_name"] == "demo/ez_clip/a"
    data = found["data"]
    assert {"key": "trainer.lr", "value": "0.1"} in data["params"]
    assert [one["value"] for one in data["metrics"] if one["key"] == "loss"] == [0.25]
    (file,) = ask(server, f"artifacts/list?run_id={kept}")["files"]
    assert file["path"] == "loss.csv"
