"""Step log of a training: a line of JSON for each step, and TensorBoard's event files on request."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from contextlib import closing, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any

from vidprompt.files.atomic import naming_full_disk, write_text
from vidprompt.system.errors import UserError


class StepLog:
    """`steps.jsonl` in a folder: one JSON object a step, written at once.

    A run that resumes after step `start` first removes the lines of later steps. `tensorboard` writes event
    files to `tensorboard/` too. Raises UserError if the package is missing, and when the disk is full.
    """

    def __init__(self, folder: Path, start: int, *, tensorboard: bool) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "steps.jsonl"
        write_text(self.path, "".join(_lines_until(self.path, start)))
        self._file = self.path.open("a", encoding="utf-8")
        self._writer: Any = None
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as error:
                raise UserError(
                    "trainer.tensorboard=true needs its package: pip install 'vidprompt[tensorboard]'"
                ) from error
            self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=start + 1)

    def __enter__(self) -> StepLog:
        return self

    def write(self, values: Mapping[str, float]) -> None:
        """Write one step: `step` and any numbers; a number that is not finite becomes null."""
        row = {key: _number(value) for key, value in values.items()}
        with naming_full_disk(self.path):
            self._file.write(json.dumps(row) + "\n")
            self._file.flush()
        if self._writer is not None:
            with naming_full_disk(self.path.with_name("tensorboard")):
                for key, value in values.items():
                    if key != "step":
                        self._writer.add_scalar(key, value, int(values["step"]))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """After an error, what cannot be written any more is left out: the next run drops half a line."""
        try:
            with naming_full_disk(self.path):
                self._close()
        except (OSError, UserError):
            if error is None:
                raise

    def _close(self) -> None:
        with closing(self._file), closing(self._writer) if self._writer else nullcontext():
            self._file.flush()
            os.fsync(self._file.fileno())


def _number(value: float) -> float | int | None:
    if isinstance(value, int):
        return value
    return float(f"{value:.7g}") if math.isfinite(value) else None


def _lines_until(path: Path, step: int) -> list[str]:
    """The complete lines of steps up to `step`; the last line of a killed run may be incomplete."""
    kept = []
    for line in path.read_text("utf-8").splitlines(keepends=True) if path.is_file() else []:
        try:
            if json.loads(line)["step"] <= step and line.endswith("\n"):
                kept.append(line)
        except (ValueError, KeyError, TypeError):
            continue
    return kept
