"""Which GPUs a stage may use: a limit on the Prefect server counts them, locks on this machine name them."""

from __future__ import annotations

import fcntl
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
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
)  # of this machine, whatever the tree
LOOK_S = 2.0  # between looks for a slot and for GPUs
SAY_S = 60.0  # between lines about what is waited for
CPU = "cpu"  # what a slot stands for where there is no GPU, with a number


def limit_name() -> str:
    """`gpu`; on several machines each has a limit of its own, named in $VIDPROMPT_GPU_LIMIT."""
    return os.environ.get("VIDPROMPT_GPU_LIMIT") or "gpu"


def devices() -> list[str]:
    """The GPUs this process may use, as CUDA_VISIBLE_DEVICES names them; none on a CPU.

    Without that variable by UUID: an index means another GPU in another container of the same tree.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip()]
    command = ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return said.stdout.split() if said.returncode == 0 else []


def needed(found: list[str]) -> int:
    """Slots of one training: as many as `processes` in params/config.yaml says. Raises UserError."""
    wanted = yaml.safe_load(Path("params/config.yaml").read_text()).get("processes", 1)
    count = len(found) if wanted == "auto" else wanted
    if not isinstance(count, int):
        raise UserError(f"params/config.yaml: processes: {wanted} is neither a number nor auto")
    return max(1, count)


def places(slots: int, found: list[str]) -> list[str]:
    """What trainings that take `slots` can have: the GPUs, or a CPU place for each slot of the limit.

    Raises UserError when the server has no such limit, when it never lets `slots` in, or when there are
    fewer GPUs. Without the limit two runs would train on one GPU; Prefect itself would only warn.
    """
    if found and slots > len(found):
        raise UserError(
            f"A training takes {slots} GPUs (`processes` in params/config.yaml) and this worker sees "
            f"{len(found)} ({', '.join(found)}): set it to {len(found)} or auto"
        )
    name = limit_name()
    with get_client(sync_client=True) as client:
        try:
            limit = client.read_global_concurrency_limit_by_name(name)
        except ObjectNotFound:
            raise UserError(
                f"The Prefect server has no concurrency limit {name!r}, so nothing keeps two trainings off "
                f"one GPU: `make up` makes it (or `prefect gcl create {name} --limit 1`)"
            ) from None
    if not limit.active or limit.limit < slots:
        state = f"has {limit.limit} slots" if limit.active else "is switched off"
        raise UserError(
            f"The concurrency limit {name!r} {state} and a training takes {slots} (`processes` in "
            f"params/config.yaml): `prefect gcl update {name} --limit {slots} --enable`"
        )
    return found or [f"{CPU}{number}" for number in range(limit.limit)]


@contextmanager
def occupied(
    slots: int, found: list[str], log: Callable[[str], object], stopped: Callable[[], bool]
) -> Iterator[dict[str, str]]:
    """Within, `slots` slots of the limit and as many `places` are this one's; yields a child's environment.

    Waits for both, until `stopped`: then Stopped. The locks end with the process that holds them, however
    it ends; a slot whose lease ran out while the server was away gives nobody a GPU that is held.
    """
    with ExitStack() as held:
        said = -SAY_S

        def wait(sentence: str) -> None:
            nonlocal said
            if stopped():
                raise Stopped("the flow was stopped while it waited for a GPU")
            if time.monotonic() - said >= SAY_S:
                said = time.monotonic()
                log(sentence)

        while not _slots(slots, held):
            wait(f"waiting for {slots} slots of the limit {limit_name()}")
        names: list[str] = []
        while len(names := names + _locked(found, names, slots, held)) < slots:
            wait(f"waiting for {slots - len(names)} of {', '.join(found)}: held by another run")
            time.sleep(LOOK_S)
        gpus = [name for name in sorted(names) if not name.startswith(CPU)]
        yield {"CUDA_VISIBLE_DEVICES": ",".join(gpus)} if gpus else {}


def _slots(count: int, held: ExitStack) -> bool:
    """Take slots until `held` is left; False when they are not free."""
    limit = concurrency(
        limit_name(),
        occupy=count,
        timeout_seconds=LOOK_S,
        lease_duration=LEASE_S,
        strict=True,
        raise_on_lease_renewal_failure=False,  # a restarted server is no reason to stop a training
    )
    try:
        held.enter_context(limit)
    except TimeoutError:
        return False
    return True


def _locked(found: list[str], names: list[str], wanted: int, held: ExitStack) -> list[str]:
    """More of the places, up to `wanted` with `names`, that nobody on this machine holds."""
    LOCKS.mkdir(mode=0o700, parents=True, exist_ok=True)
    taken: list[str] = []
    for name in found:
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
