"""Say which files below a folder of videos are left out, and why: counted, the first ones named."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from vidprompt.data.annotations.video_files import Entry, Kind, suffix_of
from vidprompt.system.suggestions import first_names

NAMED = 3  # of each kind
_REASONS = {  # singular and plural, of what `{}` says
    Kind.NO_VIDEO: ("file is no video by its name", "files are no videos by their names"),
    Kind.OPEN: ("file is no video (opened)", "files are no videos (opened)"),
    Kind.HIDDEN: ("hidden file is not read", "hidden files are not read"),
    Kind.SPECIAL: (
        "entry is no regular file or a link that leads nowhere",
        "entries are no regular files or links that lead nowhere",
    ),
    Kind.UNREADABLE: ("folder cannot be read", "folders cannot be read"),
    Kind.SEEN: (
        "link leads to a folder that is read already",
        "links lead to folders that are read already",
    ),
}


@dataclass
class LeftOut:
    """Counts of files that are no videos, by the reason, with the first names of each."""

    counts: dict[Kind, int] = field(default_factory=dict)
    suffixes: dict[str, int] = field(default_factory=dict)  # of files that are no videos by name
    first: dict[Kind, list[str]] = field(default_factory=dict)

    def add(self, entry: Entry) -> None:
        """Count a file that is left out."""
        self.counts[entry.kind] = self.counts.get(entry.kind, 0) + 1
        if entry.kind is Kind.NO_VIDEO:
            suffix = suffix_of(entry.path)
            self.suffixes[suffix] = self.suffixes.get(suffix, 0) + 1
        first = self.first.setdefault(entry.kind, [])
        if len(first) < NAMED:
            first.append(entry.path)

    def sentences(self) -> Iterator[str]:
        """A sentence a reason: `6 files are no videos by their names (.txt 4, .json 2): walk/a.txt, …`."""
        for kind, (one, many) in _REASONS.items():
            if count := self.counts.get(kind, 0):
                by_suffix = ""
                if kind is Kind.NO_VIDEO:
                    largest = sorted(self.suffixes.items(), key=lambda item: (-item[1], item[0]))
                    by_suffix = ", ".join(f"{suffix} {number:,}" for suffix, number in largest)
                    by_suffix = f" ({by_suffix})"
                more = ", …" if count > NAMED else ""
                names = ", ".join(self.first[kind])
                yield f"{count:,} {one if count == 1 else many}{by_suffix}: {names}{more}"


def empty_classes(folders: set[str], classes: set[str]) -> str:
    """A sentence about folders that stand where classes do and have no video; "" without any."""
    names = sorted(folders - classes)
    if not names:
        return ""
    plural = "s have" if len(names) > 1 else " has"
    return (
        f"{len(names):,} folder{plural} no video and {'are' if len(names) > 1 else 'is'} no class: "
        f"{first_names(names, 2 * NAMED)}"
    )
