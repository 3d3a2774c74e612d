"""Which videos go into which shard: decided before anything is decoded.

A plan depends on the manifest and the settings alone, so every shard can be built by itself, anywhere,
in any order, and comes out the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from vidprompt.data.frames.cache import FORMAT_VERSION, FrameSettings
from vidprompt.files.hashes import digest
from vidprompt.system.errors import DataError, UserError
from vidprompt.system.suggestions import suggestion

# Bytes a pixel of natural video at quality 90, roughly: it decides only where one shard ends.
BYTES_A_PIXEL = 0.25
USUAL_ASPECT = 4 / 3


class FrameRow(NamedTuple):
    """A video to cache: the manifest's columns, `path` absolute, `n_frames` as probed.

    `height` and `width` in pixels, 0 where unknown.
    """

    video_id: str
    path: Path
    kind: str
    n_frames: int
    exact: bool
    source: str
    height: int = 0
    width: int = 0


class Job(NamedTuple):
    """A video and how its frames are to be stored."""

    row: FrameRow
    settings: FrameSettings

    def fingerprint(self) -> str:
        """Names the input and the settings: a shard of equal fingerprints need not be rebuilt.

        A replaced file is noticed by its size; modification times would differ between machines.
        """
        path = Path(self.row.path)
        size = path.stat().st_size if path.is_file() else 0
        row = [self.row.video_id, self.row.kind, self.row.n_frames, self.row.exact, size]
        return digest([FORMAT_VERSION, row, asdict(self.settings)])

    def expected_bytes(self) -> float:
        """About how large the stored frames will be."""
        height, width = self.settings.stored_size(*self._size())
        frames = self.row.n_frames
        if self.settings.frames is not None:
            frames = min(frames, self.settings.frames)
        return frames * height * width * BYTES_A_PIXEL

    def _size(self) -> tuple[int, int]:
        if self.row.height and self.row.width:
            return self.row.height, self.row.width
        return self.settings.short_side, round(self.settings.short_side * USUAL_ASPECT)


@dataclass(frozen=True)
class ShardPlan:
    """A shard's number and its videos, in the order of their ids."""

    number: int
    jobs: tuple[Job, ...]

    @property
    def tar(self) -> str:
        return f"shard-{self.number:05d}.tar"

    @property
    def sidecar(self) -> str:
        return f"shard-{self.number:05d}.json"


def plan_shards(
    rows: Iterable[FrameRow | tuple[Any, ...]],
    settings: FrameSettings,
    by_source: Mapping[str, FrameSettings],
) -> list[ShardPlan]:
    """Videos sorted by id, cut where about `settings.shard_mb` megabytes are reached.

    Raises DataError for an id that occurs twice.
    """
    ordered = sorted((FrameRow(*row) for row in rows), key=lambda row: row.video_id)
    for one, next_one in pairwise(ordered):
        if one.video_id == next_one.video_id:
            raise DataError(f"video {one.video_id!r} occurs twice in the list to cache")
    plans: list[ShardPlan] = []
    jobs: list[Job] = []
    filled = 0.0
    for row in ordered:
        jobs.append(Job(row, by_source.get(row.source, settings)))
        filled += jobs[-1].expected_bytes()
        if filled >= settings.shard_mb * 1_000_000:
            plans.append(ShardPlan(len(plans), tuple(jobs)))
            jobs, filled = [], 0.0
    if jobs:
        plans.append(ShardPlan(len(plans), tuple(jobs)))
    return plans


def settings_by_source(
    settings: FrameSettings, per_source: Mapping[str, Mapping[str, Any]]
) -> dict[str, FrameSettings]:
    """Settings of the sources that have their own. Raises UserError for one that cannot be set."""
    by_source = {}
    for source, overrides in per_source.items():
        known = set(asdict(settings)) - {"shard_mb"}
        wrong = sorted(set(overrides) - known)
        if wrong:
            raise UserError(
                f"frames of source {source!r}: {wrong[0]!r} cannot be set: "
                f"{suggestion(wrong[0], sorted(known))}"
            )
        by_source[source] = replace(settings, **dict(overrides))
    return by_source
