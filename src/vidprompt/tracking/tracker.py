"""A training's run in an experiment tracker: its configuration, what it reads, its numbers, and its files.

The trackers are accelerate's (`accelerate.tracking`); each reads its own environment variables (where the
server is, the account). Nothing of a tracker enters a result: one that fails after the start is a warning.
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from vidprompt.files.atomic import write_json
from vidprompt.provenance.git import find_commit, git
from vidprompt.provenance.revision import Revision
from vidprompt.system.errors import UserError, first_line

logger = logging.getLogger(__name__)

OFF = "none"
PROJECT = "vidprompt"
PACKAGES = {  # where a tracker's name is not that of its package
    "aim": "'aim>=3.20'",
    "comet_ml": "'comet-ml>=3.41'",
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
        from accelerate.tracking import get_available_trackers

        if self.name not in {str(one) for one in get_available_trackers()}:
            package = PACKAGES.get(self.name, self.name)
            raise UserError(f"trainer.tracker={self.name} needs its package: pip install {package}")
        self.folder.mkdir(parents=True, exist_ok=True)
        values = dict(_flat(self.config)) | provenance(self.inputs)
        try:
            self._tracker = self._start(values)
            self._keep_run()
        except Exception as error:  # of a server, an account, a disk: whatever the tracker raises
            raise UserError(
                f"trainer.tracker={self.name} cannot be started: {first_line(error)}. "
                "trainer.tracker=none trains without it"
            ) from error
        return self

    def log(self, numbers: Mapping[str, float]) -> None:
        """Record the numbers of a step, under `step`."""
        finite = {k: v for k, v in numbers.items() if k != "step" and math.isfinite(v)}
        if self.name == "dvclive":  # which takes `lr/biases` for a part of `lr`, and fails
            finite = {k.replace("/", "."): v for k, v in finite.items()}
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
            logger.warning(f"{self.name} records no more of this run: {first_line(error)}")

    def _start(self, values: Mapping[str, Any]) -> Any:
        """accelerate's tracker with a run: that of the training which is resumed, where it is still there."""
        commit = str(values.get("git/commit", ""))
        kept = self._kept_run()
        if kept is not None:
            try:
                tracker = self._open(kept, commit)
            except Exception as error:  # deleted, or of another server
                logger.warning(
                    f"{self.name} has no run {kept} to go on with ({first_line(error)}): a new one begins"
                )
            else:
                with suppress(Exception):  # MLflow refuses values other than those of its start
                    tracker.store_init_configuration(dict(values))
                return tracker
        tracker = self._open(None, commit)
        tracker.store_init_configuration(dict(values))
        return tracker

    def _open(self, id_: str | None, commit: str) -> Any:
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS

        arguments, options = self._arguments(id_, commit)
        tracker = LOGGER_TYPE_TO_CLASS[self.name](*arguments, **options)
        if hasattr(tracker, "start"):  # older ones of accelerate start when they are made
            tracker.start()
        return tracker

    def _arguments(self, id_: str | None, commit: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """How the run is named, placed and, by its `id_`, gone on with, in a tracker's own words."""
        if self.name == "tensorboard":
            return (PROJECT, str(self.folder)), {}
        if self.name == "mlflow":
            tags = {"mlflow.source.git.commit": commit} if commit else {}
            return (PROJECT,), {"run_name": self.run, "run_id": id_, "tags": tags}
        if self.name == "wandb":
            place = os.environ.get("WANDB_DIR") or str(self.folder)
            return (PROJECT,), {"name": self.run, "dir": place, "id": id_, "resume": "allow"}
        if self.name == "comet_ml":
            from comet_ml import ExperimentConfig

            config = ExperimentConfig(name=self.run, display_summary_level=0)
            return (PROJECT,), {"experiment_config": config, "experiment_key": id_}
        if self.name == "aim":
            # no folder: the nearest .aim, so that one repository has all runs
            again = {"run_hash": id_, "force_resume": True} if id_ else {}
            return (self.run, None), {"experiment": PROJECT, **again}
        # DVCLive: its own summary of the repository is the pipeline's: it writes no dvc.yaml, no experiment
        options = {"report": None, "save_dvc_exp": False, "dvcyaml": None}
        return (PROJECT,), {"dir": str(self.folder / "dvclive"), "resume": bool(id_), **options}

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
            "comet_ml": lambda: tracker.get_key(),
            "aim": lambda: tracker.hash,
            "dvclive": lambda: tracker.dir,
        }
        if self.name in ids:
            write_json(self.folder / RUN_FILE, {"tracker": self.name, "id": str(ids[self.name]())})


def provenance(inputs: Iterable[Path]) -> dict[str, str]:
    """The commit, whether files differ from it, and the hashes that dvc.lock has of the inputs' paths."""
    root, values = Path(), {}
    with suppress(UserError):  # without git, or where it does not read the repository
        if commit := find_commit(root, "HEAD"):
            changed = git(root, "status", "--porcelain", "--untracked-files=no")
            values = {"git/commit": commit, "git/changed": str(bool(changed)).lower()}
    md5s = Revision(root).output_md5s
    paths = (path.as_posix() for path in inputs)
    return values | {f"dvc/{path}": md5s[path] for path in paths if path in md5s}


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
