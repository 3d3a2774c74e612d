"""Which GPUs a stage may use: a limit on the Prefect server counts them, locks on this machine name them."""

from __future__ import annotations

import fcntl
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

import yaml
from prefect.client.orchestration import get_client
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectNotFound

from vidprompt.errors import UserError

KINDS = frozenset({"train", "features", "floor"})  # of stages that compute on a GPU
LEASE_S = 60.0  # a slot of a killed flow is free again after that; Prefect takes no less
LOCKS = Path(".prefect/gpus")
LOOK_S = 1.0


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


def check_limit(slots: int) -> None:
    """Raises UserError when the server has no such limit, or one that never lets `slots` in.

    Without it, two runs would train on one GPU; Prefect itself would only warn.
    """
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


@contextmanager
def occupied(
    slots: int, found: list[str], log: Callable[[str], object], stopped: Callable[[], bool]
) -> Iterator[dict[str, str]]:
    """Within, `slots` slots of the limit and as many GPUs are this one's; yields a child's environment.

    Waits for both. The locks end with the process that holds them, however it ends.
    """
    limit = concurrency(
        limit_name(),
        occupy=slots,
        lease_duration=LEASE_S,
        strict=True,
        raise_on_lease_renewal_failure=False,  # a restarted server is no reason to stop a training
    )
    with limit, ExitStack() as held:
        if not found:
            yield {}
            return
        names: list[str] = []
        while len(names) < slots and not stopped():
            names += _locked([n for n in found if n not in names], slots - len(names), held)
            if len(names) < slots:
                log(f"waiting for {slots - len(names)} of the GPUs {', '.join(found)}")
                time.sleep(LOOK_S)
        yield {"CUDA_VISIBLE_DEVICES": ",".join(sorted(names))}


def _locked(names: list[str], most: int, held: ExitStack) -> list[str]:
    """Up to `most` of the GPUs that nobody on this machine holds, locked until `held` is left."""
    LOCKS.mkdir(parents=True, exist_ok=True)
    taken: list[str] = []
    for name in names:
        if len(taken) == most:
            break
        file: IO[str] = (LOCKS / name.replace("/", "_")).open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            continue
        held.enter_context(file)
        taken.append(name)
    return taken
