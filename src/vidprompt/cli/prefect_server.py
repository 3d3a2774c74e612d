"""A hook of Prefect's command line: one message and exit 1 where a command finds no Prefect server.

Prefect calls `setup_environment` on import (entry point group `prefect.plugins`, enabled in pyproject.toml).
The hook acts in Prefect's own command line only.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from prefect.plugins import SetupResult, register_hook

TIMEOUT_S = 2.0
LOOPBACK = ("127.0.0.1", "localhost", "::1")
# Groups of commands that use the server.
SERVER_COMMANDS = re.compile(
    "api|artifact|automations?|blocks?|concurrency-limits?|deploy|deployments?|events?|flows?|flow-runs?"
    "|gcl|global-concurrency-limit|task|task-runs?|variable|work-pools?|work-queues?|worker"
)
# Not `flow-run execute`: a run that starts waits for a server that is away for a moment.
LOCAL = frozenset({("flow-run", "execute"), ("work-pool", "get-default-base-job-template")})
PLUGINS_OFF = {"PREFECT_PLUGINS_ENABLED": "false"}


@register_hook
def setup_environment(*, ctx: Any) -> SetupResult | None:
    """Prefect's hook: may end the process (exit 1) or print a warning.

    Processes that a server or a worker starts do not call it: Prefect's call logs a traceback where Prefect
    is imported while asyncio runs.
    """
    words = command(sys.argv, sys.orig_argv)
    if not words:
        return None
    url = str(ctx.api_url or "").rstrip("/")
    if needs_server(words) and url:
        if problem := server_problem(url):
            print(problem, file=sys.stderr)
            raise SystemExit(1)
        if warning := no_worker(url, words):
            print(warning, file=sys.stderr)
    return SetupResult(env=PLUGINS_OFF) if words[0] in ("server", "worker", "flow-run") else None


def command(argv: Sequence[str], orig_argv: Sequence[str]) -> list[str]:
    """The words of Prefect's command line, without options before the command; empty in another program."""
    # `python -m prefect` imports the package while argv[0] is still "-m"
    program = orig_argv[-len(argv)] if argv[:1] == ["-m"] else "".join(argv[:1])
    if Path(program).name not in ("prefect", "prefect.exe"):
        return []
    words = list(argv[1:])
    while words and words[0].startswith("-"):
        words = words[2 if words[0] in ("--profile", "-p") else 1 :]
    return words


def needs_server(words: Sequence[str]) -> bool:
    """True for a command of Prefect's that uses the API."""
    if not words or not SERVER_COMMANDS.fullmatch(words[0]) or {"--help", "-h"} & set(words):
        return False
    subcommand = next((word for word in words[1:] if not word.startswith("-")), "")
    complete = bool(subcommand) or words[0] == "deploy"
    return complete and (words[0], subcommand) not in LOCAL


def server_problem(url: str, timeout: float = TIMEOUT_S) -> str:
    """Why the API at `url` cannot be used, and what to do; empty when a Prefect server answers.

    Empty for a slow server, too: Prefect's client waits longer.
    """
    import httpx  # here: a program that only imports Prefect does not need it

    local = urlsplit(url).hostname in LOOPBACK
    try:  # a proxy is not for this machine
        status = httpx.get(f"{url}/health", timeout=timeout, trust_env=not local).status_code
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol, httpx.InvalidURL):
        what = "start it with `make up`" if local else "is it on, and PREFECT_API_URL right?"
        return f"No Prefect server answers at {url}: {what} (docs/services.md)"
    except httpx.TimeoutException:
        return ""
    except httpx.HTTPError:
        status = 404
    if status != 404:
        return ""
    what = "take another port, `make up PORT=…`" if local else "is PREFECT_API_URL right?"
    return f"What answers at {url} is no Prefect server: {what} (docs/services.md)"


def no_worker(url: str, words: Sequence[str]) -> str:
    """A warning when `deployment run` starts a run in a work pool without a worker; else empty."""
    import httpx

    name = next((word for word in words[2:] if "/" in word and not word.startswith("-")), "")
    if words[0] not in ("deployment", "deployments") or words[1:2] != ["run"] or not name:
        return ""
    user, _, password = os.environ.get("PREFECT_API_AUTH_STRING", "").partition(":")
    auth = (user, password) if user else None
    proxy = urlsplit(url).hostname not in LOOPBACK
    try:
        with httpx.Client(auth=auth, timeout=TIMEOUT_S, trust_env=proxy) as client:
            deployment = client.get(f"{url}/deployments/name/{quote(name)}").json() or {}
            pool = deployment.get("work_pool_name")
            if not pool:
                return ""
            address = f"{url}/work_pools/{quote(pool, safe='')}/workers/filter"
            workers = client.post(address, json={}).raise_for_status().json()
    except (httpx.HTTPError, ValueError):
        return ""
    if any(worker.get("status") == "ONLINE" for worker in workers or ()):
        return ""
    return (
        f"Work pool {pool!r} has no worker: the run waits until there is one "
        f"(`make up`, or `prefect worker start --pool {shlex.quote(pool)}`)."
    )
