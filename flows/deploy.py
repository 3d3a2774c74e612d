"""Flow deploy: bring the version that has a stage to the service, and back where it does not answer."""

from __future__ import annotations

import json
import math
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from PIL import Image
from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed, Failed

from flows.dvc_stage import Children, CommandFailed
from flows.parameters import Command, Folder, Model, Url
from flows.pipeline import refused_state
from flows.services import processes
from flows.services.record import Record
from vidprompt.registry.model_files import fetch_version
from vidprompt.registry.releases import (
    CURRENT,
    Release,
    current_release,
    remove_old,
    switch_to,
    write_release,
)
from vidprompt.registry.versions import Version, resolve
from vidprompt.system.errors import UserError
from vidprompt.system.locks import exclusive_lock

SERVICE = "model"  # its name in FOLDER/services.json and its log
GRACE_S = 20.0  # to end its requests
POLL_S = 0.2


@flow(name="deploy")
def deploy(
    model: Model = "ez-clip-demo@production",
    folder: Folder = "cache/service",
    url: Url = "http://127.0.0.1:8000",
    restart: Command = None,
    ready_s: float = 120.0,
) -> Any:
    """Fetch the version that `model` selects, check it, write it to `folder` and restart the service.

    Where the service does not answer at `url`/healthz within `ready_s` seconds, the version before is served
    again and the run fails. Nothing is done where the version is served already.
    """
    home = Path(folder).absolute()
    with Children() as children:
        try:
            if urlsplit(url).scheme not in ("http", "https"):
                raise UserError(f"url={url}: give the service's address, http://127.0.0.1:8000")
            home.mkdir(parents=True, exist_ok=True)
            with exclusive_lock(home / ".lock"):
                fetch_tags(children)
                version = resolve(Path.cwd(), model)
                before = current_release(home)
                if before and before.is_of(version) and not before.damaged() and answers(url):
                    return Completed(name="Unchanged", message=f"{version.selector} is served")
                release = fetch(version, home)
                check(release, children)
                return replace(release, before, home, url, restart, ready_s)
        except (UserError, CommandFailed) as error:
            return refused_state(UserError(str(error)))


def fetch_tags(children: Children) -> None:
    """Bring origin's tags, where it can be reached: stages are tags."""
    try:
        if children.run(["git", "remote"]):
            children.run(["git", "fetch", "--quiet", "--tags", "origin"])
    except CommandFailed as error:
        get_run_logger().warning(
            f"the tags of this clone are used, origin has not answered: {error}"
        )


@task(task_run_name="fetch {version.selector}", cache_policy=NO_CACHE)
def fetch(version: Version, home: Path) -> Release:
    """The version's files as a release; their checksums are those that were registered."""
    release = write_release(fetch_version(version, Path.cwd()), home)
    if damaged := release.damaged():
        raise UserError(f"{release.folder}: damaged: {', '.join(damaged)}")
    return release


@task(task_run_name="check {release.selector}", cache_policy=NO_CACHE)
def check(release: Release, children: Children) -> None:
    """Predict a few pictures with the release. Raises UserError where that gives no probabilities."""
    with tempfile.TemporaryDirectory(prefix="vidprompt-") as name:
        for number in range(16):
            shade = (16 * number, 128, 255 - 16 * number)
            Image.new("RGB", (96, 64), shade).save(Path(name) / f"{number:02}.png")
        command = ["vidprompt", "predict", name, "--model", str(release.folder), "--json"]
        if not release.class_names:
            command += ["--classes", "a person who walks,a person who sits"]
        lines = children.run(command)
    text = "\n".join(lines)
    try:  # what the command says on stderr is among the lines
        start = next(number for number, line in enumerate(lines) if line.startswith("["))
        (answer,), _ = json.JSONDecoder().raw_decode("\n".join(lines[start:]))
        values = [float(one["probability"]) for one in answer["classes"]]
    except (StopIteration, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{release.selector} gives no prediction: {text[-300:]}") from error
    if not values or not all(math.isfinite(value) and 0 <= value <= 1 for value in values):
        raise UserError(f"{release.selector} gives no probabilities: {values[:5]}")


def replace(
    release: Release,
    before: Release | None,
    home: Path,
    url: str,
    restart: Sequence[str] | None,
    ready_s: float,
) -> Any:
    """Serve the release; where it does not answer, serve the one before again."""
    switch_to(release, home)
    problem = restart_service(home, url, restart, ready_s)
    if not problem:
        remove_old(home)
        return Completed(message=f"{release.selector} is served at {url}")
    get_run_logger().error(f"{release.selector}: {problem}")
    switch_to(before, home)
    if before is None:
        stop_service(home)
        return Failed(message=f"{release.selector}: {problem}; nothing was served before")
    again = restart_service(home, url, restart, ready_s)
    end = (
        f"and neither does {before.selector}: {again}" if again else f"{before.selector} is served"
    )
    return Failed(name="RolledBack", message=f"{release.selector}: {problem}; {end}")


@task(task_run_name="restart", cache_policy=NO_CACHE)
def restart_service(home: Path, url: str, restart: Sequence[str] | None, ready_s: float) -> str:
    """Restart the service on what `current` is; returns why it does not answer, or an empty string.

    Without a command of the user's it is a process of this machine, on record in `home`.
    """
    try:
        if restart:
            run_restart(restart)
        else:
            start_service(home, url)
    except UserError as error:
        return str(error)
    end = time.monotonic() + ready_s
    while not answers(url):
        running = Record.read(home).processes.get(SERVICE)
        if not restart and running is None:
            log = home / "logs" / f"{SERVICE}.log"
            return f"it ended as it started: {processes.last_error(log)}"
        if time.monotonic() > end:
            return f"it does not answer at {url}/healthz after {ready_s:g} s"
        time.sleep(POLL_S)
    return ""


def run_restart(command: Sequence[str]) -> None:
    """Run the user's command. Raises UserError where it fails."""
    try:
        done = subprocess.run(
            list(command), capture_output=True, text=True, errors="replace", check=False
        )
    except OSError as error:
        raise UserError(f"{command[0]} cannot be run: {error.strerror}") from error
    if done.returncode:
        last = (done.stdout + done.stderr).strip().splitlines()[-1:]
        raise UserError(f"{' '.join(command)} ended with {done.returncode}: {' '.join(last)}")


def start_service(home: Path, url: str) -> None:
    """Start `vidprompt serve` on the current release, in place of the one that was started before."""
    stop_service(home)
    address = urlsplit(url)
    if address.hostname not in ("127.0.0.1", "localhost") or not address.port:
        raise UserError(
            f"{url} is no port of this machine (http://127.0.0.1:8000): give `restart`, the command that "
            "restarts your service"
        )
    if not processes.is_free(address.port):
        user = processes.port_user(address.port)
        raise UserError(f"port {address.port} is taken by {user}, which this flow did not start")
    command = ["vidprompt", "serve", str(home / CURRENT), "--port", str(address.port)]
    processes.start(SERVICE, command, url, Record.read(home), {})


def stop_service(home: Path) -> None:
    """Stop the process that this flow started, if it runs."""
    record = Record.read(home)
    if running := record.processes.get(SERVICE):
        processes.stop(running, GRACE_S)
        record.remove(SERVICE)


def answers(url: str) -> bool:
    """True if the service says that it is well."""
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/healthz", timeout=5) as answer:  # noqa: S310
            return bool(answer.status == 200)
    except (OSError, ValueError, urllib.error.URLError):
        return False
