"""Progress of a long stage in the Prefect UI, read off the lines it says (`vidprompt.progress`)."""

from __future__ import annotations

import re
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact

_LINE = re.compile(r"^(?P<title>[^:]+): (?P<done>\d+)/(?P<total>\d+) (?P<rest>.*)$")


class StageProgress:
    """A progress artifact a title, made at the first line that says how far it is."""

    def __init__(self, stage: str) -> None:
        self._key = artifact_key(f"progress {stage}")
        self._artifacts: dict[str, UUID] = {}

    def read(self, line: str) -> None:
        """Show what a line of the stage's log says, if it says so."""
        share = share_done(line)
        if share is None:
            return
        title, percent = share
        if title in self._artifacts:
            update_progress_artifact(self._artifacts[title], percent)
        else:
            made = create_progress_artifact(percent, key=self._key, description=title)
            if isinstance(made, UUID):  # and no coroutine: this is not called from one
                self._artifacts[title] = made


def share_done(line: str) -> tuple[str, float] | None:
    """`train ez_clip reid: 120/250 3.1 steps/s 0:00:42 left` → its title and 48.0 (%)."""
    match = _LINE.match(line)
    if match is None or not int(match["total"]):
        return None
    return match["title"], min(100.0, 100 * int(match["done"]) / int(match["total"]))


def artifact_key(text: str) -> str:
    """What Prefect takes as a key: small letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
