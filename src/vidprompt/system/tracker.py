"""A training's run in an experiment tracker: its configuration, what it reads, its numbers, and its files.

The trackers are accelerate's (`accelerate.tracking`); each reads its own environment variables (where the
server is, the project's name). Nothing of a tracker enters a result: one that fails after the start is a
warning.
"""

from __future__ import annotations

import json
import logging
import math
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from vidprompt.system.errors import UserError

logger = logging.getLogger(__name__)

OFF = "none"
PROJECT = "vidprompt"
PACKAGES = {  # where a tracker's name is not that of its package
    "comet_ml": "comet-ml",
    "mlflow": "'vidprompt[mlflow]'",
    "tensorboard": "'vidprompt[tensorboard]'",
}
RUN_FILE = "tracker.json"  # in a training's folder: which run a resumed training goes on with


class Tracker:
    """A run of a tracker by name (`trainer.tracker`); with `none` every method does nothing.

    `run` is its name there, `folder` the training's own, `config` nested values, `inputs` the files and
    folders that the training reads, whose hashes dvc.lock has. Raises UserError where the tracker cannot be
    started.
    """

    def __init__(
        self,
        name: str,
        run: str,
        folder: Path,
        config: Mapping[str, Any],
        inputs: Iterable[Path] = (),
    ) -> None:
        self.name, self.run, self.folder = name, run, folder
        self.config, self.inputs = config, tuple(inputs)
        self._tracker: Any = None

    def __enter__(self) -> Tracker:
        if self.name == OFF:
            return self
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

        if self.name not in {str(one) for one in get_available_trackers()}:
            package = PACKAGES.get(self.name, self.name)
            raise UserError(f"trainer.tracker={self.name} needs its package: pip install {package}")
        self.folder.mkdir(parents=True, exist_ok=True)
        values = dict(_flat(self.config)) | provenance(self.inputs)
        try:
            self._tracker = LOGGER_TYPE_TO_CLASS[self.name](*self._arguments(), **self._options())
            self._tracker.start()
            self._tracker.store_init_configuration(values)
            self._keep_run()
        except Exception as error:  # of a server, an account, a disk: whatever the tracker raises
            raise UserError(
                f"trainer.tracker={self.name} cannot be started: {_first_line(error)}. "
                "trainer.tracker=none trains without it"
            ) from error
        return self

    def log(self, numbers: Mapping[str, float]) -> None:
        """Record the numbers of a step, under `step`."""
        finite = {k: v for k, v in numbers.items() if k != "step" and math.isfinite(v)}
        self._try(lambda tracker: tracker.log(finite, step=int(numbers["step"])))

    def add_files(self, files: Iterable[Path]) -> None:
        """Give the run's files to trackers that keep files."""
        for file in files:
            self._try(lambda tracker, file=file: _add_file(self.name, tracker, file))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._tracker is None:
            return
        if self.name == "mlflow" and error is not None:
            self._try(lambda _: _end_mlflow("KILLED" if kind is KeyboardInterrupt else "FAILED"))
        self._try(lambda tracker: tracker.finish())
        if error is None:
            (self.folder / RUN_FILE).unlink(missing_ok=True)

    def _try(self, action: Any) -> None:
        if self._tracker is None:
            return
        try:
            action(self._tracker)
        except Exception as error:  # training goes on without its tracker
            self._tracker = None
            logger.warning(f"{self.name} records no more of this run: {_first_line(error)}")

    def _arguments(self) -> tuple[str, ...]:
        folder = str(self.folder)
        return (PROJECT, folder) if self.name in ("tensorboard", "aim") else (PROJECT,)

    def _options(self) -> dict[str, Any]:
        """What makes a resumed training go on in its run, and names the run, in a tracker's own words."""
        id_ = self._kept_run()
        if self.name == "mlflow":
            commit = _git("rev-parse", "HEAD")
            tags = {"mlflow.source.git.commit": commit} if commit else {}
            return {"run_name": self.run, "run_id": id_, "tags": tags}
        if self.name == "wandb":
            return {"name": self.run, "dir": str(self.folder), "id": id_, "resume": "allow"}
        if self.name == "dvclive":
            # its own summary of the repository is the pipeline's: it writes no dvc.yaml, no experiment
            options = {"report": None, "save_dvc_exp": False, "dvcyaml": None}
            return {"dir": str(self.folder / "dvclive"), "resume": True, **options}
        if self.name == "aim":
            return {"run_hash": id_} if id_ else {}
        return {}

    def _kept_run(self) -> str | None:
        try:
            kept = json.loads((self.folder / RUN_FILE).read_text("utf-8"))
            return str(kept["id"]) if kept["tracker"] == self.name else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _keep_run(self) -> None:
        tracker = self._tracker.tracker
        ids = {
            "mlflow": lambda: tracker.info.run_id,
            "wandb": lambda: tracker.id,
            "aim": lambda: tracker.hash,
        }
        if self.name in ids:
            kept = {"tracker": self.name, "id": str(ids[self.name]())}
            (self.folder / RUN_FILE).write_text(json.dumps(kept) + "\n", "utf-8")


def provenance(inputs: Iterable[Path]) -> dict[str, str]:
    """The commit, whether files differ from it, and the hashes that dvc.lock has of the inputs' paths."""
    values = {}
    if commit := _git("rev-parse", "HEAD"):
        values["git/commit"] = commit
        values["git/changed"] = str(bool(_git("status", "--porcelain", "-uno"))).lower()
    wanted = tuple(path.as_posix() for path in inputs)
    try:
        import yaml

        stages = (yaml.safe_load(Path("dvc.lock").read_text("utf-8")) or {})["stages"]
        outs = [out for stage in stages.values() for out in stage.get("outs") or ()]
        values |= {f"dvc/{o['path']}": str(o["md5"]) for o in outs if o["path"] in wanted}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError):
        pass
    return values


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _add_file(name: str, tracker: Any, file: Path) -> None:
    if name == "mlflow":
        tracker.log_artifact(str(file))
    elif name == "wandb":
        tracker.tracker.save(str(file), base_path=str(file.parent), policy="now")
    elif name == "comet_ml":
        tracker.writer.log_asset(str(file))
    elif name == "dvclive":
        tracker.live.log_artifact(str(file), copy=False, cache=False)


def _end_mlflow(status: str) -> None:
    import mlflow

    mlflow.end_run(status)


def _flat(values: Mapping[str, Any], inside: str = "") -> Iterable[tuple[str, Any]]:
    """Dotted name → number, truth value or text of all values of a mapping."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{inside}{key}.")
        else:
            plain = isinstance(value, str | int | float | bool)
            yield f"{inside}{key}", value if plain else str(value)


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
