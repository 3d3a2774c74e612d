"""Fetch what the stages of a dataset begin with, where a fresh clone or a new machine has it not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed, Failed
from prefect.tasks import exponential_backoff

from flows.dvc_stage import Children, CommandFailed, Stopped

TRANSIENT = "Transient"  # name of the state of what is worth trying again
_PASSING = re.compile(r"connect|timed? ?out|reset by|unreachable|temporar", re.IGNORECASE)


def worth_trying_again(_task: Any, _run: Any, state: Any) -> bool:
    """Of a task's state; as Prefect asks for it."""
    return bool(state.name == TRANSIENT)


# Between tries: 10, 20 and 40 s
TRIES: dict[str, Any] = {
    "retries": 3,
    "retry_delay_seconds": exponential_backoff(backoff_factor=10),
    "retry_jitter_factor": 0.2,
    "retry_condition_fn": worth_trying_again,
}


def missing_data(dataset: str, root: Path = Path()) -> list[str]:
    """The .dvc files that track what the dataset's stages read (its folder, the weights) and is not there."""
    stages = yaml.safe_load((root / "params/stages.yaml").read_text()) or {}
    inputs = stages.get("dataset", {}).get(dataset, {}) | stages.get("unpack", {}).get(dataset, {})
    wanted = [Path(inputs[key]) for key in ("archives", "root", "weights") if key in inputs]
    absent = [path for path in wanted if not (root / path).exists()]
    begun = {file for file, _ in _tracked(root) if (root / marker(file)).exists()}
    return sorted(
        begun
        | {file for file, out in _tracked(root) for path in absent if path.is_relative_to(out)}
    )


def marker(file: str) -> Path:
    """There while a pull of the file is under way, and after one that did not come to its end."""
    return Path(".prefect/pulling") / file.replace("/", "-")


def _tracked(root: Path) -> Iterator[tuple[str, Path]]:
    """Each .dvc file of the data with each of its outputs, relative to the root."""
    for file in [*root.glob("*.dvc"), *root.glob("data/*.dvc")]:
        if file.is_file():
            for out in (yaml.safe_load(file.read_text()) or {}).get("outs", []):
                yield (
                    file.relative_to(root).as_posix(),
                    (file.parent / out["path"]).relative_to(root),
                )


@task(task_run_name="data {file}", cache_policy=NO_CACHE, **TRIES)
def pull(file: str, children: Children) -> Any:
    """`dvc pull` of one file; tried again when a connection was at fault."""
    log = get_run_logger()
    marker(file).parent.mkdir(parents=True, exist_ok=True)
    marker(file).touch()
    try:
        children.run(["dvc", "--wait-for-lock", "pull", file], log.info)
        marker(file).unlink()
    except Stopped as error:
        return Failed(name="Stopped", message=str(error))
    except CommandFailed as error:
        log.error(str(error))
        return Failed(
            name=TRANSIENT if _PASSING.search(str(error)) else "Failed", message=str(error)
        )
    return Completed(message=file)


def fetched(dataset: str, children: Children) -> str:
    """Pull what is missing; what was wrong, or nothing."""
    for file in missing_data(dataset):
        state = pull(file, children, return_state=True)
        if not state.is_completed():
            return f"{file}: {state.message}"
    return ""
