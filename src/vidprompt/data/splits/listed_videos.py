"""Find the videos of a published list in the manifest.

Lists name files as they lay on their authors' machines. A listed path is compared from its end: the file's
name without suffix, then folder by folder. Folders count only between videos of one name, so absolute paths,
other folders and other containers do not matter.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cached_property

import pandas as pd

from vidprompt.data.annotations.list_files import ListedVideo
from vidprompt.data.annotations.video_files import VIDEO_SUFFIXES
from vidprompt.system.errors import DataError

SPLITS = ("split1", "split2", "split3")
_SUFFIX = re.compile(
    "(?:" + "|".join(map(re.escape, sorted(VIDEO_SUFFIXES))) + ")+$", re.IGNORECASE
)
_CLIP_TIMES = re.compile(r"_[0-9]{6}_[0-9]{6}$")  # of Kinetics' file names


class ManifestIndex:
    """The videos of a manifest by the ends of their paths; a video is known by its row's number, from 0."""

    def __init__(self, manifest: pd.DataFrame) -> None:
        self.ids: list[str] = manifest["video_id"].tolist()
        self.labels: list[str] = manifest["label"].tolist()
        self._paths: list[str] = manifest["path"].tolist()
        self._roles = manifest[[name for name in SPLITS if name in manifest]]
        counts = manifest["n_frames"].tolist() if "n_frames" in manifest else []
        self.n_frames: list[int] = counts or [-1] * len(self.ids)  # below 1: unknown
        self._by_name: dict[str, list[int]] = {}
        for row, path in enumerate(self._paths):
            self._by_name.setdefault(_name_of(path), []).append(row)

    def candidates(self, path: str) -> list[int]:
        """The videos of a listed path's name; of several, those with the longest common end of the path.

        Where no name is equal: those whose name differs in case only, or is the listed one and the times of
        a clip (Kinetics' videos listed by their YouTube id).
        """
        name = _name_of(path)
        rows = self._by_name.get(name) or self._by_folded.get(name.casefold(), [])
        if not rows:
            rows = self._by_clip.get(name, [])
        if len(rows) < 2:
            return rows
        common = [self._common_end(path, row) for row in rows]
        best = max(common)
        return [row for row, length in zip(rows, common, strict=True) if length == best]

    def choose(self, rows: Sequence[ListedVideo], candidates: Sequence[Sequence[int]]) -> list[int]:
        """The one video of each listed row; `candidates`: of each its own, one at least.

        Of several clips of a YouTube video, it is the one in the official lists that hold all the list's
        other videos. Raises DataError, naming two, where a path stays unclear.
        """
        found = list(candidates)
        unclear = [i for i, videos in enumerate(found) if len(videos) > 1]
        if unclear:
            roles = self._common_roles(videos[0] for videos in found if len(videos) == 1)
            for i in unclear:
                if self._is_clip(_name_of(rows[i].path)):
                    found[i] = [v for v in found[i] if roles & self._roles_of(v)] or found[i]
                if len(found[i]) > 1:
                    first, second = (self.ids[video] for video in found[i][:2])
                    raise DataError(
                        f"{rows[i].where}: {rows[i].path} may be {first} or {second}: list it with its folder"
                    )
        return [videos[0] for videos in found]

    def _is_clip(self, name: str) -> bool:
        """Is a listed name a YouTube id, whose clips are named by their times too?"""
        return name in self._by_clip and name not in self._by_name

    def _common_end(self, path: str, row: int) -> tuple[int, bool, bool]:
        """How many of its last folders are those of a video; whether all are; whether the suffix is equal."""
        listed = _parts(path)[-2::-1]
        longest, whole = 0, False
        for folders in (_parts(self._paths[row])[:-1], _parts(self.ids[row])[1:-1]):
            same = 0
            for a, b in zip(listed, folders[::-1], strict=False):
                if a != b:
                    break
                same += 1
            longest = max(longest, same)
            whole = whole or same == len(listed) == len(folders)
        suffixes = [match[0] for one in (path, self._paths[row]) if (match := _SUFFIX.search(one))]
        return longest, whole, len(suffixes) == 2 and suffixes[0] == suffixes[1]

    def _roles_of(self, row: int) -> set[tuple[str, str]]:
        """(split, role) of every official list that has the video."""
        values = self._roles.iloc[row].items()
        return {(str(split), str(role)) for split, role in values if role}

    def _common_roles(self, rows: Iterable[int]) -> set[tuple[str, str]]:
        """The official lists that have all these videos."""
        chosen = self._roles.iloc[list(rows)]
        values = {split: chosen[split].unique() for split in chosen}
        return {(str(s), str(v[0])) for s, v in values.items() if len(v) == 1 and v[0]}

    @cached_property
    def _by_folded(self) -> dict[str, list[int]]:
        return _regrouped((name.casefold(), rows) for name, rows in self._by_name.items())

    @cached_property
    def _by_clip(self) -> dict[str, list[int]]:
        """Videos by the YouTube id in their names."""
        clips = ((name, rows) for name, rows in self._by_name.items() if _CLIP_TIMES.search(name))
        return _regrouped((_CLIP_TIMES.sub("", name), rows) for name, rows in clips)


def _regrouped(groups: Iterable[tuple[str, list[int]]]) -> dict[str, list[int]]:
    """The rows of all groups of a name; the list of a name's only group is not copied."""
    rows: dict[str, list[int]] = {}
    for name, group in groups:
        rows[name] = rows[name] + group if name in rows else group
    return rows


def repeated(videos: Iterable[int]) -> set[int]:
    """The places of videos that stand in the list before."""
    first: dict[int, int] = {}
    return {place for place, video in enumerate(videos) if first.setdefault(video, place) != place}


def _parts(path: str) -> list[str]:
    """A path's folders and name, of either kind of system."""
    composed = unicodedata.normalize("NFC", path.replace("\\", "/"))
    return [part for part in composed.split("/") if part not in ("", ".")]


def _name_of(path: str) -> str:
    """A path's last part without a video's suffix, in Unicode's composed form."""
    name = _SUFFIX.sub("", path.replace("\\", "/").rstrip("/").rpartition("/")[2])
    return name if name.isascii() else unicodedata.normalize("NFC", name)
