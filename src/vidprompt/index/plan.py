"""Plan the shards of an index, and find which rows of earlier shards they keep."""

from __future__ import annotations

import hashlib
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from vidprompt.files.hashes import digest
from vidprompt.index.scan import VideoFile
from vidprompt.index.store import (
    IndexInfo,
    made_alike,
    map_features,
    read_table,
    shard_key,
    shard_names,
)
from vidprompt.system.errors import DataError

SHARD_VIDEOS = 128  # on average: what a killed process loses at most
SHARD_BYTES = 1 << 30  # of videos, on average
MAX_SHARD_VIDEOS = 4 * SHARD_VIDEOS


@dataclass(frozen=True)
class ShardPlan:
    """A shard's key and its videos, in the order of their paths."""

    key: str
    files: tuple[VideoFile, ...]


@dataclass(frozen=True)
class ShardTask:
    """A shard to make. `sources`: shards on disk that may have rows of its videos."""

    plan: ShardPlan
    sources: tuple[str, ...]


@dataclass(frozen=True)
class KnownVideo:
    """What an earlier shard has of a video: its file then, (start, end) of each row, features (n, E)."""

    file: VideoFile
    sha256: str
    spans: tuple[tuple[float, float], ...]
    features: NDArray[np.float32]


def plan_shards(files: Sequence[VideoFile], info: IndexInfo) -> Iterator[ShardPlan]:
    """Cut the videos into shards.

    The hash of a path decides whether a shard ends with it, and large files end one more often: so a new or
    a missing video changes its own shard, and no other.
    """
    begin = 0
    for end, file in enumerate(files, 1):
        if _ends_shard(file) or end - begin == MAX_SHARD_VIDEOS or end == len(files):
            part = tuple(files[begin:end])
            yield ShardPlan(_key(part, info), part)
            begin = end


def _ends_shard(file: VideoFile) -> bool:
    drawn = int.from_bytes(hashlib.blake2b(file.path.encode(), digest_size=4).digest(), "big")
    return drawn < (1 / SHARD_VIDEOS + file.size / SHARD_BYTES) * 2**32


def _key(files: Sequence[VideoFile], info: IndexInfo) -> str:
    """A hash of all that a shard's rows depend on."""
    return digest([info.fingerprint(), *files])


def pending_tasks(index: Path, plans: Iterable[ShardPlan], info: IndexInfo) -> list[ShardTask]:
    """The shards that are still to be made: not on disk, or with failed videos to try again."""
    present = defaultdict(list)
    for name in shard_names(index):
        present[shard_key(name)].append(name)
    missing = [plan for plan in plans if plan.key not in present[plan.key]]
    if not missing:
        return []
    ranges = _ranges(index, [name for names in present.values() for name in names], info)
    return [
        ShardTask(plan, sources)
        for plan, sources in zip(missing, _overlapping(missing, ranges), strict=True)
    ]


def _ranges(index: Path, names: Sequence[str], info: IndexInfo) -> list[tuple[str, str, str]]:
    """(name, first video, last video) of each shard; one that cannot be read is left out."""
    listed = {shard.name: (shard.first, shard.last) for shard in info.shards}
    ranges = []
    for name in names:
        if name not in listed:
            try:
                videos = read_table(index, name)["video"]
            except DataError:
                continue
            listed[name] = videos[0].as_py(), videos[-1].as_py()
        ranges.append((name, *listed[name]))
    return ranges


def _overlapping(
    plans: Sequence[ShardPlan], ranges: Sequence[tuple[str, str, str]]
) -> Iterator[tuple[str, ...]]:
    """The shards whose ranges overlap each plan's; plans and ranges are in the order of paths."""
    active: list[tuple[str, str, str]] = []
    coming = deque(sorted(ranges, key=lambda one: one[1]))
    for plan in plans:
        first, last = plan.files[0].path, plan.files[-1].path
        while coming and coming[0][1] <= last:
            active.append(coming.popleft())
        active = [one for one in active if one[2] >= first]
        yield tuple(name for name, *_ in active)


def known_videos(index: Path, task: ShardTask, info: IndexInfo) -> dict[str, KnownVideo]:
    """The videos of a task that its sources have a feature of, by path; rows of the same file win."""
    files = {file.path: file for file in task.plan.files}
    known: dict[str, KnownVideo] = {}
    for name in task.sources:
        try:
            table, features = read_table(index, name), map_features(index, name)
        except (DataError, FileNotFoundError):
            continue  # its videos are encoded again
        if not made_alike(table, info):
            continue
        table = table.filter(pc.equal(table["reason"], ""))
        if len(table) != len(features):
            continue
        columns = {column: table[column].to_pylist() for column in table.column_names}
        spans: dict[str, list[int]] = defaultdict(list)
        for row, video in enumerate(columns["video"]):
            if video in files:
                spans[video].append(row)
        for video, rows in spans.items():
            row = rows[0]
            file = VideoFile(video, columns["size"][row], columns["mtime_ns"][row])
            if video in known and file != files[video]:
                continue
            known[video] = KnownVideo(
                file,
                columns["sha256"][row],
                tuple((columns["start"][i], columns["end"][i]) for i in rows),
                features[rows[0] : rows[-1] + 1],
            )
    return known
