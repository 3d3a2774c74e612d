"""Progress of long work: a bar on a terminal, a log message now and then elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from datetime import timedelta
from types import TracebackType
from typing import Any

from vidprompt.system.logging import console

logger = logging.getLogger(__name__)


class Progress:
    """`with Progress("frames", total) as p: p.advance(1)`; `quiet`: shows nothing.

    flows/progress.py reads the log messages.
    """

    def __init__(
        self,
        title: str,
        total: int,
        *,
        unit: str = "it",
        every_s: float = 15.0,
        quiet: bool = False,
    ) -> None:
        self.title, self.total, self.unit, self.every_s = title, total, unit, every_s
        self.quiet = quiet or not logger.isEnabledFor(logging.INFO)
        self.done = 0
        self._before = 0
        self._notes = ""
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Progress:
        self._began = self._logged = time.monotonic()
        if sys.stderr.isatty() and not self.quiet:
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            self._bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[notes]}"),
                console=console(),
            )
            self._bar.start()
            self._task = self._bar.add_task(self.title, total=self.total, notes="")
        return self

    def advance(self, amount: int = 1, notes: str = "") -> None:
        """Count `amount` more; shows `notes` beside the counts."""
        self.done += amount
        self._notes = notes
        if self._bar is not None:
            self._bar.update(self._task, advance=amount, notes=notes)
        elif not self.quiet and time.monotonic() - self._logged > self.every_s:
            self._logged = time.monotonic()
            self._log()

    def reach(self, done: int, total: int) -> None:
        """Set `done` and `total`: the form of callbacks."""
        self.total = total
        self.advance(done - self.done)

    def begin_at(self, done: int) -> None:
        """Count `done` as done by an earlier run, which does not enter the rate."""
        self._before = done
        self.advance(done)

    def _log(self) -> None:
        seconds = max(time.monotonic() - self._began, 1e-6)
        rate = (self.done - self._before) / seconds
        left = (self.total - self.done) / rate if rate else 0.0
        eta = f" {timedelta(seconds=round(left))} left" if 0 < left < 1e7 else ""
        line = f"{self.title}: {self.done}/{self.total} {rate:.1f} {self.unit}/s{eta} {self._notes}"
        logger.info("%s", line.strip())

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif not self.quiet:
            self._log()
