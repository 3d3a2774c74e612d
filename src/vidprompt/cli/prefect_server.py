"""One sentence, not a traceback, when a command of Prefect's needs a server and there is none.

Prefect calls `setup_environment` when it is imported (entry point group `prefect.plugins`, switched on in
pyproject.toml). It looks at the command line, and does nothing unless that is Prefect's own.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from prefect.plugins import SetupResult, register_hook

TIMEOUT_S = 2.0
LOOPBACK = ("127.0.0.1", "localhost", "::1")
# Groups of Prefect's commands that talk to the server. Not `flow-run execute`: that is a run which begins,
# and Prefect waits for a server that is away for a moment.
NEEDY = frozenset(
    (
        *("api", "artifact", "automation", "automations", "block", "blocks", "concurrency-limit"),
        *("concurrency-limits", "deploy", "deployment", "deployments", "event", "events", "flow"),
        *("flows", "flow-run", "flow-runs", "gcl", "global-concurrency-limit", "task", "task-run"),
        *(
            "task-runs",
            "variable",
            "work-pool",
            "work-pools",
            "work-queue",
            "work-queues",
            "worker",
        ),
    )
)
ALONE = frozenset({"deploy"})  # commands without a subcommand
OFF = {"PREFECT_PLUGINS_ENABLED": "false"}
LOCAL = frozenset({("flow-run", "execute"), ("work-pool", "get-default-base-job-template")})


@register_hook
def setup_environment(*, ctx: Any) -> SetupResult | None:
    """Prefect's hook: may end the process (exit 1) or print a warning.

    What a server or a worker starts is none of its concern, and is spared Prefect's call of it, which logs
    a traceback in a process that imports Prefect while asyncio runs.
    """
    words = command(sys.argv, sys.orig_argv)
    if not words:
        return None
    url = str(ctx.api_url or "").rstrip("/")
    if needs_server(words) and url and _reachable_directly(url, os.environ):
        if sentence := trouble(url):
            print(sentence, file=sys.stderr)
            raise SystemExit(1)
        if warning := no_worker(url, words):
            print(warning, file=sys.stderr)
    return SetupResult(env=OFF) if words[0] in ("server", "worker", "flow-run") else None


def command(argv: Sequence[str], orig_argv: Sequence[str]) -> list[str] | None:
    """What was said to Prefect's CLI, without options before the command; None in any other program."""
    if argv[:1] == ["-m"]:  # `python -m prefect …` imports the package first
        at = list(orig_argv).index("-m") if "-m" in orig_argv else len(orig_argv)
        if list(orig_argv[at + 1 : at + 2]) != ["prefect"]:
            return None
    elif not argv or Path(argv[0]).name not in ("prefect", "prefect.exe"):
        return None
    words = list(argv[1:])
    while words and words[0].startswith("-"):
        takes_value = words[0] in ("--profile", "-p")
        words = words[2 if takes_value else 1 :]
    return words


def needs_server(words: Sequence[str]) -> bool:
    """Does a command of Prefect's need the API?"""
    if not words or words[0] not in NEEDY or "--help" in words or "-h" in words:
        return False
    subcommand = next((word for word in words[1:] if not word.startswith("-")), "")
    return bool(subcommand or words[0] in ALONE) and (words[0], subcommand) not in LOCAL


def trouble(url: str, timeout: float = TIMEOUT_S) -> str:
    """Why the API at `url` cannot be used, and what to do; empty when a Prefect server answers there.

    One that is there and slow is Prefect's own affair: its client is more patient.
    """
    address = urlsplit(url)
    local = address.hostname in LOOPBACK
    try:
        port = address.port or (443 if address.scheme == "https" else 80)
        socket.create_connection((address.hostname or "", port), timeout).close()
    except (OSError, ValueError):
        what = "start it with `make up`" if local else "is it on, and PREFECT_API_URL right?"
        return f"No Prefect server answers at {url}: {what} (docs/services.md)"
    try:
        status, _ = ask(f"{url}/health", timeout=timeout)
    except TimeoutError:
        return ""
    except OSError:
        status = 404
    if status != 404:
        return ""
    what = "take another port, `make up PORT=…`" if local else "is PREFECT_API_URL right?"
    return f"What answers at {url} is no Prefect server: {what} (docs/services.md)"


def no_worker(url: str, words: Sequence[str]) -> str:
    """A warning when `deployment run` asks for something that nobody is there to run; mostly empty."""
    name = next((word for word in words[2:] if "/" in word and not word.startswith("-")), "")
    if words[0] not in ("deployment", "deployments") or words[1:2] != ["run"] or not name:
        return ""
    try:
        status, deployment = ask(f"{url}/deployments/name/{quote(name)}")
        pool = (deployment or {}).get("work_pool_name") if status == 200 else None
        if not pool:
            return ""
        status, workers = ask(f"{url}/work_pools/{quote(pool, safe='')}/workers/filter", body={})
    except OSError:
        return ""
    if status != 200 or any(worker.get("status") == "ONLINE" for worker in workers or ()):
        return ""
    return (
        f"Work pool {pool!r} has no worker: the run waits until there is one "
        f"(`make up`, or `prefect worker start --pool {pool}`)."
    )


def ask(
    url: str, *, body: Mapping[str, Any] | None = None, timeout: float = TIMEOUT_S
) -> tuple[int, Any]:
    """Status and JSON (None if it is none) of a GET, or of a POST of `body`. OSError when nobody answers."""
    import http.client  # 20 ms that a program which only imports Prefect does not spend

    address = urlsplit(url)
    kinds = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
    if address.scheme not in kinds or not address.hostname:
        raise OSError(f"{url} is no address of a web server")
    headers = {"Accept": "application/json", "Content-Type": "application/json"}
    if user := os.environ.get("PREFECT_API_AUTH_STRING"):
        headers["Authorization"] = f"Basic {base64.b64encode(user.encode()).decode()}"
    try:
        line = kinds[address.scheme](address.hostname, address.port, timeout=timeout)
        try:
            sent = None if body is None else json.dumps(body)
            line.request("GET" if sent is None else "POST", address.path or "/", sent, headers)
            answer = line.getresponse()
            said = answer.read()
        finally:
            line.close()
    except (http.client.HTTPException, ValueError) as error:
        raise OSError(f"{url}: {error}") from error
    try:
        return answer.status, json.loads(said)
    except ValueError:
        return answer.status, None


def _reachable_directly(url: str, environment: Mapping[str, str]) -> bool:
    """Or only through a proxy, which Prefect's client asks and this does not?"""
    proxies = ("http_proxy", "https_proxy", "all_proxy")
    if urlsplit(url).hostname in LOOPBACK:
        return True
    return not any(environment.get(name) or environment.get(name.upper()) for name in proxies)
