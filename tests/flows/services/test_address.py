"""Addresses and ports, and the settings file for later commands."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from flows.services.address import MARK, Address, forget, remember

from vidprompt.system.errors import UserError

SETTINGS = '[tool.prefect]\nhome = ".prefect"\napi.url = "http://127.0.0.1:4200/api"\n'


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "pyproject.toml").write_text(SETTINGS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_address_is_on_the_loopback() -> None:
    here = Address.of(Path(".prefect"), "http://localhost:4300/api/", "4301")
    assert (here.folder, here.port, here.reports_port) == (Path(".prefect"), 4300, 4301)
    assert here.api_url == "http://127.0.0.1:4300/api"
    assert here.reports_url == "http://127.0.0.1:4301"


@pytest.mark.parametrize(
    ("url", "reports", "what"),
    [
        ("", "4210", "PREFECT_API_URL is not set: unset it"),
        ("https://prefect.example.org/api", "4210", "starts a server on this machine"),
        ("http://10.0.0.7:4200/api", "4210", "starts a server on this machine"),
        ("http://127.0.0.1:99999/api", "4210", "PREFECT_API_URL=99999: a port is a number"),
        ("http://127.0.0.1/api", "4210", "a port is a number"),
        ("http://127.0.0.1:4200/api", "many", "REPORTS_PORT=many: a port is a number"),
        ("http://127.0.0.1:4200/api", "4200", "cannot both have port 4200"),
    ],
)
def test_an_invalid_address_is_refused(url: str, reports: str, what: str) -> None:
    with pytest.raises(UserError, match=what):
        Address.of(Path(".prefect"), url, reports)


def test_later_commands_find_another_port(project: Path) -> None:
    def seen() -> str:
        ask = "from prefect.settings import get_current_settings as s; print(s().api.url)"
        clean = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
        command = [sys.executable, "-c", ask]
        return subprocess.run(
            command, env=clean, capture_output=True, text=True, check=True
        ).stdout.strip()

    other = Address(Path(".prefect"), "http://127.0.0.1:4300/api", 4300, 4301)
    usual = Address(Path(".prefect"), "http://127.0.0.1:4200/api", 4200, 4210)
    assert remember(usual) == ""
    assert not Path("prefect.toml").exists()
    assert remember(other) == ""
    assert seen() == other.api_url
    assert remember(usual) == ""
    assert seen() == usual.api_url
    remember(other)
    forget()
    assert not Path("prefect.toml").exists()


def test_a_settings_file_of_the_user_is_left_alone(project: Path) -> None:
    other = Address(Path(".prefect"), "http://127.0.0.1:4300/api", 4300, 4301)
    Path("prefect.toml").write_text("[api]\n", encoding="utf-8")
    assert remember(other) == "export PREFECT_API_URL=http://127.0.0.1:4300/api"
    forget()
    assert Path("prefect.toml").read_text(encoding="utf-8") == "[api]\n"
    assert MARK not in Path("prefect.toml").read_text(encoding="utf-8")
