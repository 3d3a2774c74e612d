"""Plan which videos go into which shard, from the manifest and the settings alone.

Nothing is decoded for it, so every shard can be built by itself, on any machine, in any order, and comes
out the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple

from vidprompt.data.frames.cache import FORMAT_VERSION
from vidprompt.data.frames.sampling import TestFrames, cached_frames
from vidprompt.files.hashes import digest
from vidprompt.system.errors import DataError, UserError
from vidprompt.system.suggestions import suggestion

# Bytes a pixel of natural video at quality 90, roughly: it only decides where one shard ends.
BYTES_A_PIXEL = 0.25
USUAL_ASPECT = 4 / 3


@dataclass(frozen=True)
class FrameSettings:
    """How frames are stored. Raises UserError for invalid values.

    `short_side`: pixels; smaller videos are not enlarged. `frames`: how many of each video (all where there
    are fewer), or None for all. `tests`: the tests whose frames are among them, in place of evenly spaced
    ones, and beyond `frames` where they need more (see `cached_frames`). `quality`: 1-100.
    `shard_mb`: approximate size of a shard in megabytes. `stretch`: (height, width) to resize to without
    keeping the aspect ratio (re-identification); it replaces `short_side`. Resizing is Pillow's bicubic,
    and the long side is rounded down, as torchvision's `Resize` of a Pillow image.
    """

    short_side: int = 256
    frames: int | None = 32
    quality: int = 90
    format: Literal["jpeg", "webp"] = "jpeg"
    shard_mb: int = 256
    stretch: tuple[int, int] | None = None
    tests: tuple[TestFrames, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "tests", tuple(TestFrames.of(test) for test in self.tests))
        if self.stretch is not None:
            if len(self.stretch) != 2:
                raise UserError(f"stretch is (height, width), not {self.stretch}")
            object.__setattr__(self, "stretch", tuple(int(side) for side in self.stretch))
        positive = [self.short_side, self.quality, self.shard_mb, *(self.stretch or ())]
        if min(positive) < 1 or (self.frames is not None and self.frames < 1):
            raise UserError(f"frame settings must be positive: {self}")
        if self.quality > 100:
            raise UserError(f"frame quality {self.quality} is above 100")
        if self.format not in ("jpeg", "webp"):
            raise UserError(f"unknown frame format {self.format!r}: choose jpeg or webp")

    def stored_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) in pixels that frames of this size are stored with."""
        short = min(height, width)
        if self.stretch is not None:
            return self.stretch
        if short <= self.short_side:
            return height, width
        return height * self.short_side // short, width * self.short_side // short

    def frame_numbers(self, n_frames: int) -> list[int]:
        """The frames that are stored of a video of `n_frames`, by number, ascending."""
        return list(cached_frames(n_frames, self.frames, self.tests))


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
        """A hash of the input and the settings: a shard of equal fingerprints is not rebuilt.

        A replaced file is noticed by its size; modification times would differ between machines.
        """
        path = Path(self.row.path)
        size = path.stat().st_size if path.is_file() else 0
        row = [self.row.video_id, self.row.kind, self.row.n_frames, self.row.exact, size]
        return digest([FORMAT_VERSION, row, asdict(self.settings)])

    def expected_bytes(self) -> float:
        """Estimated size of the stored frames in bytes."""
        size = self.row.height, self.row.width
        if not all(size):
            short = self.settings.short_side
            size = short, round(short * USUAL_ASPECT)
        height, width = self.settings.stored_size(*size)
        frames = len(self.settings.frame_numbers(self.row.n_frames))
        return frames * height * width * BYTES_A_PIXEL


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
    """Sort videos by id and cut them into shards of about `settings.shard_mb` megabytes.

    `by_source`: settings of the sources that have their own. Raises DataError for an id that occurs twice.
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
    """Settings of the sources that override some. Raises UserError for one that cannot be overridden."""
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
