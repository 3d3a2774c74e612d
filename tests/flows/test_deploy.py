"""The flow deploy: a version that has the stage is served, and one that does not answer is taken back."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from tests.flows.conftest import Server
from tests.registry.conftest import made_project, made_versions, two_versions
from tests.registry.project import NAME

from vidprompt.registry.releases import current_release

pytestmark = pytest.mark.slow
__all__ = ["made_project", "made_versions", "two_versions"]
SERVICE = """
import http.server, json, os, pathlib, signal, subprocess, sys, time
home, port, process = pathlib.Path(sys.argv[1]), int(sys.argv[2]), pathlib.Path(sys.argv[1], "process")
if sys.argv[3:] != ["run"]:
    if process.exists():
        os.kill(int(process.read_text()), signal.SIGTERM)
        time.sleep(0.3)
    child = subprocess.Popen([sys.executable, *sys.argv, "run"], start_new_session=True,
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    process.write_text(str(child.pid))
    sys.exit()
version = json.loads((home / "current/release.json").read_text())["version"]
refused = (home / "refused").read_text() if (home / "refused").exists() else ""
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(503 if version == refused else 200)
        self.end_headers()
        self.wfile.write(version.encode())
    def log_message(self, *words):
        pass
http.server.HTTPServer(("127.0.0.1", port), Answer).serve_forever()
"""


def deploy(**parameters: Any) -> Any:
    from flows.deploy import deploy as flow

    return flow(**parameters, return_state=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def served(home: Path) -> str:
    release = current_release(home)
    return release.selector if release else ""


@pytest.fixture
def home(tmp_path: Path) -> Any:
    """The folder of a service; the service is ended."""
    folder = tmp_path / "service"
    folder.mkdir()
    yield folder
    if (folder / "process").exists():
        os.kill(int((folder / "process").read_text("utf-8")), signal.SIGTERM)
    from flows.deploy import stop_service

    stop_service(folder)


def test_a_stage_is_followed_and_a_version_that_does_not_answer_is_taken_back(
    here: Server, two_versions: Path, home: Path, tmp_path: Path
) -> None:
    (tmp_path / "service.py").write_text(SERVICE)
    port = free_port()
    usual: dict[str, Any] = {
        "folder": str(home),
        "url": f"http://127.0.0.1:{port}",
        "restart": [sys.executable, str(tmp_path / "service.py"), str(home), str(port)],
        "ready_s": 8,
    }
    first = deploy(model=f"{NAME}@v0.1.0", **usual)
    assert (first.name, first.message) == (
        "Completed",
        f"{NAME}@v0.1.0 is served at http://127.0.0.1:{port}",
    )
    (home / "refused").write_text("v0.2.0")
    back = deploy(model=f"{NAME}@production", **usual)
    assert (back.name, back.is_failed()) == ("RolledBack", True)
    assert back.message.startswith(f"{NAME}@v0.2.0: it does not answer at http://127.0.0.1:{port}")
    assert back.message.endswith(f"{NAME}@v0.1.0 is served")
    assert served(home) == f"{NAME}@v0.1.0"
    (home / "refused").unlink()
    assert deploy(model=f"{NAME}@production", **usual).name == "Completed"
    assert served(home) == f"{NAME}@v0.2.0"
    assert deploy(model=f"{NAME}@production", **usual).name == "Unchanged"


def test_what_cannot_be_deployed_is_refused_and_changes_nothing(
    here: Server, two_versions: Path, home: Path
) -> None:
    usual: dict[str, Any] = {"folder": str(home), "ready_s": 5}
    for parameters, message in (
        ({"model": f"{NAME}@staging"}, "has no version 'staging'"),
        ({"model": f"{NAME}@latest", "url": "file:///etc"}, "give the service's address"),
    ):
        state = deploy(**(usual | parameters))
        assert (state.name, state.is_failed()) == ("Refused", True)
        assert message in state.message
    first = deploy(model=f"{NAME}@latest", url="http://127.0.0.1:9", restart=["false"], **usual)
    assert first.message == f"{NAME}@v0.2.0: false ended with 1: ; nothing was served before"
    assert served(home) == ""


def test_without_a_command_the_flow_runs_the_service_itself(
    here: Server, two_versions: Path, home: Path
) -> None:
    port = free_port()
    usual: dict[str, Any] = {"folder": str(home), "url": f"http://127.0.0.1:{port}"}
    for selector, version in ((f"{NAME}@v0.1.0", "v0.1.0"), (f"{NAME}@production", "v0.2.0")):
        state = deploy(model=selector, **usual)
        assert state.message == f"{NAME}@{version} is served at http://127.0.0.1:{port}"
        with urllib.request.urlopen(f"{usual['url']}/model", timeout=30) as answer:
            assert json.load(answer)["method"] == "ez_clip"
        assert served(home) == f"{NAME}@{version}"
    taken = deploy(model=f"{NAME}@v0.1.0", folder=str(home / "second"), url=usual["url"])
    assert "which this flow did not start; nothing was served before" in taken.message
