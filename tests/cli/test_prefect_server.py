"""Messages of Prefect's commands without a server; other programs print nothing."""

from __future__ import annotations

import http.server
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from vidprompt.cli import prefect_server

SCRIPTS = Path(sys.executable).parent


def unused_url() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/api"


@contextmanager
def server(answers: dict[str, Any]) -> Iterator[str]:
    """Answers a path with JSON and everything else with 404; yields its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(answers.get(self.path)).encode()
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(200 if self.path in answers else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_address[1]}/api"
        listening.shutdown()


def in_project(folder: Path, url: str, *command: str) -> subprocess.CompletedProcess[str]:
    settings = f'[tool.prefect]\nhome = ".prefect"\napi.url = "{url}"\nplugins.enabled = true\n'
    (folder / "pyproject.toml").write_text(settings)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
    environment["DO_NOT_TRACK"] = "1"
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("prefect", [[SCRIPTS / "prefect"], [sys.executable, "-m", "prefect"]])
def test_no_server_is_one_sentence(tmp_path: Path, prefect: list[str]) -> None:
    url = unused_url()
    done = in_project(tmp_path, url, *prefect, "deployment", "run", "train-eval/demo")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == (
        f"No Prefect server answers at {url}: start it with `make up` (docs/services.md)\n"
    )


@pytest.mark.parametrize("words", [["deployment", "--help"], ["config", "view"]])
def test_local_commands_need_no_server(tmp_path: Path, words: list[str]) -> None:
    done = in_project(tmp_path, unused_url(), str(SCRIPTS / "prefect"), *words)
    assert done.returncode == 0
    assert done.stderr == ""


@pytest.mark.parametrize("code", ["import prefect", "import prefect.flow_engine"])
def test_programs_that_use_prefect_notice_nothing(tmp_path: Path, code: str) -> None:
    done = in_project(tmp_path, unused_url(), sys.executable, "-c", code, "deployment", "run")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("argv", "orig_argv", "words"),
    [
        (["/x/bin/prefect", "deploy", "--all"], [], ["deploy", "--all"]),
        (["prefect", "--no-prompt", "deploy", "--all"], [], ["deploy", "--all"]),
        (["prefect", "-p", "mine", "gcl", "ls"], [], ["gcl", "ls"]),
        (["-m", "gcl", "ls"], ["python", "-m", "prefect", "gcl", "ls"], ["gcl", "ls"]),
        (["-m", "gcl", "ls"], ["python", "-m", "prefect.engine", "gcl", "ls"], []),
        (["-c"], ["python", "-c", "import prefect"], []),
        (["/x/pytest", "prefect", "deploy"], [], []),
        ([], [], []),
    ],
)
def test_only_prefect_s_command_line_counts(
    argv: list[str], orig_argv: list[str], words: list[str]
) -> None:
    assert prefect_server.command(argv, orig_argv) == words


@pytest.mark.parametrize(
    ("words", "needs"),
    [
        ("deployment run a/b", True),
        ("deploy", True),
        ("worker start --pool gpu", True),
        ("flow-run execute", False),
        ("deployment run --help", False),
        ("deployment", False),
        ("server start", False),
        ("config view", False),
        ("", False),
    ],
)
def test_which_commands_need_a_server(words: str, needs: bool) -> None:
    assert prefect_server.needs_server(words.split()) is needs


def test_another_server_is_reported() -> None:
    with server({"/api/health": True}) as url:
        assert prefect_server.server_problem(url) == ""
    with server({}) as url:
        assert prefect_server.server_problem(url).startswith(
            f"What answers at {url} is no Prefect server"
        )
    with socket.socket() as silent:  # busy, for all one can tell
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        slow = f"http://127.0.0.1:{silent.getsockname()[1]}/api"
        assert prefect_server.server_problem(slow, timeout=0.2) == ""


def test_a_run_without_a_worker_gives_a_warning() -> None:
    workers: list[dict[str, str]] = [{"status": "OFFLINE"}]
    answers = {
        "/api/deployments/name/train-eval/demo": {"work_pool_name": "big gpu"},
        "/api/work_pools/big%20gpu/workers/filter": workers,
    }
    words = ["deployment", "run", "train-eval/demo", "--watch"]
    with server(answers) as url:
        warning = prefect_server.no_worker(url, words)
        assert warning.startswith("Work pool 'big gpu' has no worker: the run waits")
        assert prefect_server.no_worker(url, ["deployment", "run", "train-eval/none"]) == ""
        assert prefect_server.no_worker(url, ["deployment", "inspect", "train-eval/demo"]) == ""
        workers.append({"status": "ONLINE"})
        assert prefect_server.no_worker(url, words) == ""
