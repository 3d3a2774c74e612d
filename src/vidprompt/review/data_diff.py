"""Changes of the data: videos, their health, their labels, and the lists of the splits."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from vidprompt.config import paths
from vidprompt.provenance.dvc_project import DvcProject
from vidprompt.review.sides import Side

GOOD = ("ok", "unopened")
ROLES = ("split1", "split2", "split3")


@dataclass(frozen=True)
class VideoChanges:
    """The ids of changed videos, sorted.

    `reasons`: why a video is broken now. `known_up_to`: the last id up to which `broken` and `mended` are
    known; None where they are complete.
    """

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()
    mended: tuple[str, ...] = ()
    relabelled: tuple[tuple[str, str, str], ...] = ()  # video, base's, head's
    moved: tuple[str, ...] = ()  # to another official split
    replaced: tuple[str, ...] = ()  # other bytes under the same name
    reasons: dict[str, str] = field(default_factory=dict)
    known_up_to: str | None = None

    def __bool__(self) -> bool:
        presence = (self.added, self.removed, self.broken, self.mended)
        return any((*presence, self.relabelled, self.moved, self.replaced))


@dataclass(frozen=True)
class ListChange:
    """A list (`split file/part`): its number of videos on each side, None on a side without it."""

    name: str
    base: int | None
    head: int | None
    id: tuple[str, str] = ("", "")


@dataclass(frozen=True)
class DataDiff:
    """Changes of one dataset.

    `present`: which of base and head has the dataset. `counts`: usable and all videos of base and head, None
    without a health.json. `complete`: False where a manifest is missing; `videos` then holds what the
    lists of broken videos in git show.
    """

    dataset: str
    present: tuple[bool, bool]
    counts: tuple[tuple[int, int] | None, tuple[int, int] | None]
    complete: bool
    videos: VideoChanges
    lists: tuple[ListChange, ...]

    @property
    def changed(self) -> bool:
        one_sided = self.present[0] != self.present[1]
        counted = None not in self.counts and self.counts[0] != self.counts[1]
        return one_sided or counted or bool(self.videos) or bool(self.lists)


def data_diffs(base: Side, head: Side, project: DvcProject) -> list[DataDiff]:
    """A diff for each dataset of either side."""
    diffs = []
    for dataset in sorted({*base.datasets, *head.datasets}):
        health = [_health(side, dataset) for side in (base, head)]
        present = dataset in base.datasets, dataset in head.datasets
        if all(present):
            videos, complete = _videos(dataset, base, head, health, project)
            lists = _lists(dataset, base, head, project)
        else:
            videos, complete, lists = VideoChanges(), True, ()
        counts = _count(health[0]), _count(health[1])
        diffs.append(DataDiff(dataset, present, counts, complete, videos, lists))
    return diffs


def _health(side: Side, dataset: str) -> dict[str, Any]:
    """health.json; of an older revision, validation.json, which has the list of broken videos too."""
    for path in (paths.health(dataset), paths.validation(dataset)):
        health = side.try_json(path.as_posix())
        if isinstance(health, dict) and isinstance(health.get("broken"), list):
            return health
    return {}


def _count(health: Mapping[str, Any]) -> tuple[int, int] | None:
    counts = health.get("usable"), health.get("videos")
    return counts if all(isinstance(n, int) for n in counts) else None  # type: ignore[return-value]


def _videos(
    dataset: str, base: Side, head: Side, health: Sequence[Mapping[str, Any]], project: DvcProject
) -> tuple[VideoChanges, bool]:
    """The changed videos, and whether they are complete: from the manifests, else from health.json."""
    folder = paths.manifest(dataset).parent.as_posix()
    names = [side.output_md5s.get(folder, "") for side in (base, head)]
    if names[0] and names[0] == names[1]:
        return VideoChanges(), True
    tables = [_manifest(side, folder, project) for side in (base, head)]
    if tables[0] is None or tables[1] is None:
        return compare_health(*health), False
    return compare_manifests(tables[0], tables[1]), True


def _manifest(side: Side, folder: str, project: DvcProject) -> pd.DataFrame | None:
    file = project.find_in_folder(side.output_md5s.get(folder, ""), folder, "manifest.parquet")
    if file is None:
        return None
    try:
        return pd.read_parquet(file).set_index("video_id").sort_index()
    except (OSError, ValueError, KeyError):
        return None


def compare_manifests(base: pd.DataFrame, head: pd.DataFrame) -> VideoChanges:
    """Compare two manifests, indexed by video_id; columns that one of them lacks are left out."""
    common = base.index.intersection(head.index)
    one, two = base.loc[common], head.loc[common]

    def differ(column: str, known: bool = False) -> pd.Series:
        if column not in one or column not in two:
            return pd.Series(False, index=common)
        other = one[column].astype(str) != two[column].astype(str)
        return other & (one[column] != "") & (two[column] != "") if known else other

    def ids(mask: Any) -> tuple[str, ...]:
        return tuple(sorted(map(str, common[mask.to_numpy(bool)])))

    health = [side["health"].isin(GOOD) for side in (one, two)]
    added = tuple(sorted(map(str, head.index.difference(base.index))))
    broken = ids(health[0] & ~health[1])
    bad = [video for video in added if head.at[video, "health"] not in GOOD]
    other = differ("label")
    labels = zip(common[other], one.loc[other, "label"], two.loc[other, "label"], strict=True)
    moved = pd.concat([differ(role) for role in ROLES], axis=1).any(axis=1)
    return VideoChanges(
        added=added,
        removed=tuple(sorted(map(str, base.index.difference(head.index)))),
        broken=broken,
        mended=ids(~health[0] & health[1]),
        relabelled=tuple(sorted((str(v), str(a), str(b)) for v, a, b in labels)),
        moved=ids(moved),
        replaced=ids(differ("hash", known=True)),
        reasons={video: str(head.at[video, "health"]) for video in (*broken, *bad)},
    )


def compare_health(base: Mapping[str, Any], head: Mapping[str, Any]) -> VideoChanges:
    """Compare the broken videos that two health.json list; no change where a side has no file.

    health.json lists the first ones by id: those after the last listed id of a longer list are unknown.
    """
    if not (base and head):
        return VideoChanges()
    one, two = (_broken(health) for health in (base, head))
    ends = [max(names, default="") for names in (one, two)]
    cut = [end for end, health in zip(ends, (base, head), strict=True) if _has_unlisted(health)]
    known_up_to = min(cut) if cut else None
    broken, mended = (
        tuple(sorted(video for video in left if known_up_to is None or video <= known_up_to))
        for left in (two.keys() - one.keys(), one.keys() - two.keys())
    )
    return VideoChanges(
        broken=broken,
        mended=mended,
        reasons={video: two[video] for video in broken},
        known_up_to=known_up_to,
    )


def _broken(health: Mapping[str, Any]) -> dict[str, str]:
    return {
        str(entry.get("video_id")): str(entry.get("health") or entry.get("reason", ""))
        for entry in health["broken"]
        if isinstance(entry, Mapping)
    }


def _has_unlisted(health: Mapping[str, Any]) -> bool:
    """Whether there are more broken videos than health.json lists; an old file gives counts only."""
    counts = _count(health)
    more = health.get("unlisted", counts[1] - counts[0] - len(health["broken"]) if counts else 0)
    return not isinstance(more, int) or more > 0


def _lists(dataset: str, base: Side, head: Side, project: DvcProject) -> tuple[ListChange, ...]:
    """Lists whose id, length or content changed: from the split files, else from metrics.json."""
    folder = paths.splits(dataset).as_posix()
    names = [side.output_md5s.get(folder, "") for side in (base, head)]
    if names[0] and names[0] == names[1]:
        return ()
    sides = [_split_files(side, folder, project) for side in (base, head)]
    if sides[0] is None or sides[1] is None:
        sides = [_from_metrics(side, dataset) for side in (base, head)]
    one, two = (lists or {} for lists in sides)
    changed = []
    for name in sorted({*one, *two}):
        a, b = one.get(name), two.get(name)
        if a != b:
            ids = (a[0] if a else "", b[0] if b else "")
            changed.append(ListChange(name, a[1] if a else None, b[1] if b else None, ids))
    return tuple(changed)


SplitLists = dict[str, tuple[str, int, str]]  # name → id, number of videos, their ids and labels


def _split_files(side: Side, folder: str, project: DvcProject) -> SplitLists | None:
    listing = project.listing(side.output_md5s.get(folder, ""))
    if listing is None:
        return None
    lists: SplitLists = {}
    for name, md5 in sorted(listing.items()):
        file = project.find(md5, f"{folder}/{name}") if name.endswith(".json") else None
        if file is None:
            continue
        try:
            lists |= _subsets(name.removesuffix(".json"), json.loads(file.read_bytes()))
        except (ValueError, KeyError, TypeError, AttributeError):
            return None
    return lists


def _subsets(name: str, split: Mapping[str, Any]) -> SplitLists:
    subsets = {"train": split.get("train"), "val": split.get("val"), **(split.get("tests") or {})}
    return {
        f"{name}/{part}": (
            str(split.get("id")),
            len(subset["videos"]),
            json.dumps([subset["videos"], subset["labels"], subset["classes"]]),
        )
        for part, subset in subsets.items()
        if subset
    }


def _from_metrics(side: Side, dataset: str) -> SplitLists:
    lists: SplitLists = {}
    for (owner, _, _), result in side.results.items():
        for name, split in result.splits.items() if owner == dataset else ():
            for test, entry in split.tests.items():
                lists[f"{name}/{test}"] = split.id, entry.listed, ""
    return lists
