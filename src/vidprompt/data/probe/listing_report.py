"""Report how many of the listed videos exist, by source and official role, and list the missing ones."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from vidprompt.data.annotations import Annotation
from vidprompt.files.atomic import write_text

ROLES = ("split1", "split2", "split3")


def write_listing_report(
    annotations: Sequence[Annotation], missing: Sequence[bool], out: Path
) -> list[str]:
    """The sentences of `listing_report`; writes the missing videos to `out` (CSV) if there are any."""
    if any(missing):
        write_text(out, _missing_table(annotations, missing))
    return list(listing_report(annotations, missing, out))


def listing_report(
    annotations: Sequence[Annotation], missing: Sequence[bool], written_to: Path
) -> Iterator[str]:
    """A sentence a source and a role: "ucf101 split1 train: 9,537 listed, 9,535 found, 2 missing".

    `missing`: for each annotation, whether its video does not exist. A source of which no video exists
    gives a warning first: its folder is most likely wrong.
    """
    listed: Counter[str] = Counter()
    absent: Counter[str] = Counter()
    expected: dict[str, str] = {}  # source → path of its first video
    for annotation, is_missing in zip(annotations, missing, strict=True):
        roles = ((split, getattr(annotation, split)) for split in ROLES)
        keys = [f"{annotation.source} {split} {role}" for split, role in roles if role]
        for key in (annotation.source, *keys):
            listed[key] += 1
            absent[key] += is_missing
        expected.setdefault(annotation.source, annotation.path)
    for source, path in sorted(expected.items()):
        if absent[source] == listed[source]:
            yield (
                f"warning: none of the {listed[source]:,} listed videos was found below the folder of "
                f"{source}: the first would be {path} there. See docs/datasets/ for the layout, or name "
                "their folder in the source's options"
            )
    for key in sorted(listed):
        count, lost = listed[key], absent[key]
        sentence = f"{key}: {count:,} listed, {count - lost:,} found"
        if lost:
            sentence += f", {lost:,} missing"
            if " " not in key:
                sentence += f" (written to {written_to})"
        yield sentence


def _missing_table(annotations: Sequence[Annotation], missing: Sequence[bool]) -> str:
    """CSV of the missing videos, sorted by id: id, label, expected path, official roles."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("video_id", "label", "expected", *ROLES))
    gone = [a for a, absent in zip(annotations, missing, strict=True) if absent]
    for a in sorted(gone, key=lambda a: a.video_id):
        writer.writerow((a.video_id, a.label, a.path, a.split1, a.split2, a.split3))
    return out.getvalue()
