"""Folder, addresses and ports of the services, from Prefect's settings."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from flows.services.record import Record
from vidprompt.cli.prefect_server import LOOPBACK
from vidprompt.files.atomic import write_text
from vidprompt.system.errors import UserError

HOST = "127.0.0.1"
REPORTS_PORT = 4210
OVERRIDE = Path("prefect.toml")
MARK = "# written by `make up PORT=…`, removed by `make down`"


@dataclass(frozen=True)
class Address:
    """Folder of records and logs, the server's API, and the ports of the server and of the reports."""

    folder: Path
    api_url: str
    port: int
    reports_port: int

    @property
    def ui_url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def reports_url(self) -> str:
        return f"http://{HOST}:{self.reports_port}"

    @staticmethod
    def home() -> Path:
        """Prefect's folder of this project: settings, database, logs."""
        from prefect.settings import get_current_settings

        return Path(get_current_settings().home)

    @classmethod
    def configured(cls) -> Address:
        """From the settings and $REPORTS_PORT, or the running services. Raises UserError."""
        from prefect.settings import get_current_settings

        settings = get_current_settings()
        folder = Path(settings.home)
        running = Record.read(folder).processes.get("reports")
        usual = running.at.rpartition(":")[2] if running else str(REPORTS_PORT)
        return cls.of(folder, settings.api.url or "", os.environ.get("REPORTS_PORT") or usual)

    @classmethod
    def of(cls, folder: Path, api_url: str, reports_port: str) -> Address:
        """Raises UserError for an address that is not on this machine, or a port that is none."""
        parts = urlsplit(api_url.rstrip("/"))
        if parts.scheme != "http" or parts.hostname not in LOOPBACK or parts.path != "/api":
            raise UserError(
                f"`make up` starts a server on this machine, and PREFECT_API_URL is {api_url or 'not set'}: "
                "unset it, or start a worker for the server there with `prefect worker start --pool gpu`"
            )
        port = _port("PREFECT_API_URL", parts.netloc.rpartition(":")[2])
        reports = _port("REPORTS_PORT", reports_port)
        if port == reports:
            raise UserError(
                f"server and reports cannot both have port {port}: `make up REPORTS_PORT=…`"
            )
        return cls(folder, f"http://{HOST}:{port}/api", port, reports)


def remember(address: Address) -> str:
    """Let later commands in this folder find the server; returns a command for the user to run, if any.

    Prefect reads prefect.toml before pyproject.toml, so the file is there while another port than that of
    pyproject.toml is in use.
    """
    forget()
    if address.api_url == _project_url():
        return ""
    if OVERRIDE.exists():
        return f"export PREFECT_API_URL={address.api_url}"
    write_text(OVERRIDE, f'{MARK}\n[api]\nurl = "{address.api_url}"\n')
    return ""


def forget() -> None:
    """Undo `remember`; a prefect.toml of the user's stays."""
    if OVERRIDE.is_file() and OVERRIDE.read_text(encoding="utf-8").startswith(MARK):
        OVERRIDE.unlink()


def _project_url() -> str:
    try:
        project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))
        return str(project["tool"]["prefect"]["api"]["url"]).rstrip("/")
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _port(name: str, text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise UserError(f"{name}={text}: a port is a number from 1 to 65535")
    return int(text)
