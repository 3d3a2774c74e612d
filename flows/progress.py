"""Show the progress of a stage in the Prefect UI, from its log lines (`vidprompt.system.progress`)."""

from __future__ import annotations

import re
from contextlib import suppress
from contextvars import copy_context
from queue import SimpleQueue
from threading import Thread
from types import TracebackType
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact

LAST_S = 5.0  # for the last share to reach the server
_LINE = re.compile(r"^(?P<title>[^:]+): (?P<done>\d+)/(?P<total>\d+) (?P<rest>.*)$")


class StageProgress:
    """A context with one progress artifact a title, created at its first progress line.

    A thread writes the newest value only, so that reading the stage's output never waits for the server.
    """

    def __init__(self, stage: str) -> None:
        self._key = artifact_key(f"progress {stage}")
        self._artifacts: dict[str, UUID] = {}
        self._newest: SimpleQueue[tuple[str, float] | None] = SimpleQueue()
        # the run that artifacts belong to is in the context
        self._writer = Thread(target=copy_context().run, args=[self._write], daemon=True)

    def __enter__(self) -> StageProgress:
        self._writer.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._newest.put(None)
        self._writer.join(LAST_S)

    def read(self, line: str) -> None:
        """Show the progress that a log line reports, if it does. Never waits, never fails."""
        if share := share_done(line):
            self._newest.put(share)

    def _write(self) -> None:
        ended = False
        while not ended:
            items = [self._newest.get()]
            while not self._newest.empty():
                items.append(self._newest.get())
            ended = None in items
            for title, percent in dict(filter(None, items)).items():
                with suppress(Exception):  # no server: the next share may be luckier
                    self._show(title, percent)

    def _show(self, title: str, percent: float) -> None:
        if title in self._artifacts:
            update_progress_artifact(self._artifacts[title], percent)
        else:
            created = create_progress_artifact(percent, key=self._key, description=title)
            if isinstance(created, UUID):  # and no coroutine: this is not called from one
                self._artifacts[title] = created


def share_done(line: str) -> tuple[str, float] | None:
    """`train ez_clip reid: 120/250 3.1 steps/s 0:00:42 left` → its title and 48.0 (%)."""
    match = _LINE.match(line)
    if match is None or not int(match["total"]):
        return None
    return match["title"], min(100.0, 100 * int(match["done"]) / int(match["total"]))


def artifact_key(text: str) -> str:
    """A valid key of a Prefect artifact: lower-case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
