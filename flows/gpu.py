"""Reserve GPUs for stages: a concurrency limit of Prefect counts them, file locks assign them."""

from __future__ import annotations

import fcntl
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from shlex import quote
from typing import IO

import yaml
from prefect.client.orchestration import get_client
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectNotFound

from flows.dvc_stage import Stopped
from vidprompt.system.errors import UserError

KINDS = frozenset({"train", "features", "floor"})  # of stages that compute on a GPU
LEASE_S = 60.0  # a slot of a killed flow is free again after that; Prefect takes no less
LOCKS = (
    Path(tempfile.gettempdir()) / f"vidprompt-gpus-{os.getuid()}"
)  # one folder for all working trees of this machine
POLL_S = 2.0  # between tries to get a slot and GPUs
LOG_EVERY_S = 60.0  # between log messages while waiting
CPU = "cpu"  # with a number: the device of a slot where there is no GPU


def limit_name() -> str:
    """`gpu`; on several machines each has a limit of its own, named in $VIDPROMPT_GPU_LIMIT."""
    return os.environ.get("VIDPROMPT_GPU_LIMIT") or "gpu"


def devices() -> list[str]:
    """The GPUs of this process, in the form of CUDA_VISIBLE_DEVICES; empty without GPUs.

    Without that variable by UUID: an index means another GPU in another container of the same tree.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip()]
    command = ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"]
    try:
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.split() if done.returncode == 0 else []


def slots_per_training(gpus: list[str]) -> int:
    """Slots that one training takes: `processes` in params/config.yaml. Raises UserError."""
    wanted = yaml.safe_load(Path("params/config.yaml").read_text("utf-8")).get("processes", 1)
    count = len(gpus) if wanted == "auto" else wanted
    if not isinstance(count, int):
        raise UserError(f"params/config.yaml: processes: {wanted} is neither a number nor auto")
    return max(1, count)


def available(slots: int, gpus: list[str]) -> list[str]:
    """The devices that trainings can reserve: the GPUs, or one CPU entry for each slot of the limit.

    Raises UserError when the server has no such limit, or when the limit or the GPUs are fewer than
    `slots`. Without the limit two runs would train on one GPU; Prefect itself would only warn.
    """
    if gpus and slots > len(gpus):
        raise UserError(
            f"A training takes {slots} GPUs (`processes` in params/config.yaml) and this worker sees "
            f"{len(gpus)} ({', '.join(gpus)}): set it to {len(gpus)} or auto"
        )
    name = limit_name()
    with get_client(sync_client=True) as client:
        try:
            limit = client.read_global_concurrency_limit_by_name(name)
        except ObjectNotFound:
            raise UserError(
                f"The Prefect server has no concurrency limit {name!r}, so nothing keeps two trainings off "
                f"one GPU: `make up` makes it (or `prefect gcl create {quote(name)} --limit 1`)"
            ) from None
    if not limit.active or limit.limit < slots:
        state = f"has {limit.limit} slots" if limit.active else "is switched off"
        raise UserError(
            f"The concurrency limit {name!r} {state} and a training takes {slots} (`processes` in "
            f"params/config.yaml): `prefect gcl update {quote(name)} --limit {slots} --enable`"
        )
    return gpus or [f"{CPU}{number}" for number in range(limit.limit)]


@contextmanager
def reserved(
    slots: int, candidates: list[str], log: Callable[[str], object], stopped: Callable[[], bool]
) -> Iterator[dict[str, str]]:
    """Hold `slots` slots of the limit and as many of the devices; yields the environment for a child process.

    Waits for both; raises Stopped when `stopped()`. A lock ends with its process, however that ends, so a
    slot whose lease ran out while the server was away never assigns a GPU in use.
    """
    with ExitStack() as held:
        logged = -LOG_EVERY_S

        def wait(sentence: str) -> None:
            nonlocal logged
            if stopped():
                raise Stopped("the flow was stopped while it waited for a GPU")
            if time.monotonic() - logged >= LOG_EVERY_S:
                logged = time.monotonic()
                log(sentence)

        while not _slots(slots, held):
            wait(f"waiting for {slots} slots of the limit {limit_name()}")
        names: list[str] = []
        while len(names := names + _locked(candidates, names, slots, held)) < slots:
            wait(
                f"waiting for {slots - len(names)} of {', '.join(candidates)}: held by another run"
            )
            time.sleep(POLL_S)
        gpus = [name for name in sorted(names) if not name.startswith(CPU)]
        yield {"CUDA_VISIBLE_DEVICES": ",".join(gpus)} if gpus else {}


def _slots(count: int, held: ExitStack) -> bool:
    """Take slots for as long as `held` is open; False when they are not free."""
    limit = concurrency(
        limit_name(),
        occupy=count,
        timeout_seconds=POLL_S,
        lease_duration=LEASE_S,
        strict=True,
        raise_on_lease_renewal_failure=False,  # a restarted server is no reason to stop a training
    )
    try:
        held.enter_context(limit)
    except TimeoutError:
        return False
    return True


def _locked(candidates: list[str], names: list[str], wanted: int, held: ExitStack) -> list[str]:
    """Lock more free devices, until there are `wanted` with those in `names`."""
    LOCKS.mkdir(mode=0o700, parents=True, exist_ok=True)
    taken: list[str] = []
    for name in candidates:
        if len(names) + len(taken) == wanted:
            break
        if name in names:
            continue
        file: IO[str] = (LOCKS / name.replace("/", "_")).open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            continue
        held.enter_context(file)
        taken.append(name)
    return taken
