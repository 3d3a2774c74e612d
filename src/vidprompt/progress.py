"""Progress of long work: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any


class Progress:
    """`with Progress("frames", total) as p: p.advance(1)`. Everything goes to stderr."""

    def __init__(self, title: str, total: int, *, unit: str = "it", every_s: float = 15.0) -> None:
        self.title, self.total, self.unit, self.every_s = title, total, unit, every_s
        self.done = 0
        self._notes = ""
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Progress:
        self._began = self._spoke = time.monotonic()
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            self._bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[notes]}"),
                console=Console(stderr=True),
            )
            self._bar.start()
            self._task = self._bar.add_task(self.title, total=self.total, notes="")
        return self

    def advance(self, amount: int = 1, **notes: float) -> None:
        """Count `amount` more; `notes` are numbers shown beside."""
        self.done += amount
        self._notes = " ".join(f"{name} {value:.3f}" for name, value in notes.items())
        if self._bar is not None:
            self._bar.update(self._task, advance=amount, notes=self._notes)
        elif time.monotonic() - self._spoke > self.every_s:
            self._spoke = time.monotonic()
            self._say()

    def reach(self, done: int, total: int) -> None:
        """`done` of `total` so far: the form callbacks use."""
        self.total = total
        self.advance(done - self.done)

    def _say(self) -> None:
        seconds = max(time.monotonic() - self._began, 1e-6)
        rate = self.done / seconds
        print(
            f"{self.title}: {self.done}/{self.total} {rate:.1f} {self.unit}/s {self._notes}".strip(),
            file=sys.stderr,
            flush=True,
        )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        else:
            self._say()
