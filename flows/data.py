"""Pull the inputs of a dataset's stages that a fresh clone or a new machine lacks."""

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

TRANSIENT = "Transient"  # name of the state of a failure that is retried
_CONNECTION_ERROR = re.compile(r"connect|timed? ?out|reset by|unreachable|temporar", re.IGNORECASE)


def is_transient_state(_task: Any, _run: Any, state: Any) -> bool:
    """Prefect's retry condition: retry a task whose state is named Transient."""
    return bool(state.name == TRANSIENT)


# waits of 10, 20 and 40 s
RETRIES: dict[str, Any] = {
    "retries": 3,
    "retry_delay_seconds": exponential_backoff(backoff_factor=10),
    "retry_jitter_factor": 0.2,
    "retry_condition_fn": is_transient_state,
}


def missing_data(dataset: str, root: Path = Path()) -> list[str]:
    """The .dvc files of missing inputs of the dataset's stages (its folder, the weights)."""
    stages = yaml.safe_load((root / "params/stages.yaml").read_text("utf-8")) or {}
    inputs = stages.get("dataset", {}).get(dataset, {}) | stages.get("unpack", {}).get(dataset, {})
    wanted = [
        Path(inputs[key]) for key in ("archives", "root", "weights", "tokenizer") if key in inputs
    ]
    absent = [path for path in wanted if not (root / path).exists()]
    return sorted(
        {
            file
            for file, out in _tracked(root)
            if (root / marker(file)).exists() or any(path.is_relative_to(out) for path in absent)
        }
    )


def marker(file: str) -> Path:
    """The file that exists during a pull and after an interrupted one."""
    return Path(".prefect/pulling") / file.replace("/", "-")


def _tracked(root: Path) -> Iterator[tuple[str, Path]]:
    """Each .dvc file of the data with each of its outputs, relative to the root."""
    for file in [*root.glob("*.dvc"), *root.glob("data/*.dvc")]:
        if file.is_file():
            for out in (yaml.safe_load(file.read_text("utf-8")) or {}).get("outs", []):
                yield (
                    file.relative_to(root).as_posix(),
                    (file.parent / out["path"]).relative_to(root),
                )


@task(task_run_name="data {file}", cache_policy=NO_CACHE, **RETRIES)
def pull(file: str, children: Children) -> Any:
    """`dvc pull` of one file; retried after a connection error."""
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
            name=TRANSIENT if _CONNECTION_ERROR.search(str(error)) else "Failed", message=str(error)
        )
    return Completed(message=file)


def pull_missing(dataset: str, children: Children) -> str:
    """Pull missing inputs; returns the first error, or an empty string."""
    for file in missing_data(dataset):
        state = pull(file, children, return_state=True)
        if not state.is_completed():
            return f"{file}: {state.message}"
    return ""
