"""How many of the listed videos are there, in numbers a person can check against the papers."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from vidprompt.data.annotations import Annotation
from vidprompt.files.atomic import write_text

ROLES = ("split1", "split2", "split3")


def report_presence(
    annotations: Sequence[Annotation], missing: Sequence[bool], out: Path
) -> list[str]:
    """Write the missing videos to `out` if there are any; the sentences of `presence`."""
    if any(missing):
        write_text(out, missing_table(annotations, missing))
    return list(presence(annotations, missing, out))


def presence(
    annotations: Sequence[Annotation], missing: Sequence[bool], written_to: Path
) -> Iterator[str]:
    """A sentence a source and a role: "ucf101 split1 train: 9,537 listed, 9,535 found, 2 missing".

    Of a source of which nothing is there, a warning first: its folder is most likely another.
    """
    listed: Counter[str] = Counter()
    absent: Counter[str] = Counter()
    expected: dict[str, str] = {}  # source → where one of its videos would lie
    for annotation, gone in zip(annotations, missing, strict=True):
        roles = ((split, getattr(annotation, split)) for split in ROLES)
        keys = [f"{annotation.source} {split} {role}" for split, role in roles if role]
        for key in (annotation.source, *keys):
            listed[key] += 1
            absent[key] += gone
        expected.setdefault(annotation.source, annotation.path)
    for source, path in sorted(expected.items()):
        if absent[source] == listed[source]:
            yield _nothing(source, listed[source], path)
    for key in sorted(listed):
        count, lost = listed[key], absent[key]
        sentence = f"{key}: {count:,} listed, {count - lost:,} found"
        if lost:
            sentence += f", {lost:,} missing"
            if " " not in key:
                sentence += f" (written to {written_to})"
        yield sentence


def _nothing(source: str, count: int, path: str) -> str:
    """`path` is what the first video was looked for as, relative to the source's folder."""
    return (
        f"warning: none of the {count:,} listed videos was found below the folder of {source}: the first "
        f"would be {path} there. See docs/datasets/ for the layout, or say where they lie in the "
        "source's options"
    )


def missing_table(annotations: Sequence[Annotation], missing: Sequence[bool]) -> str:
    """CSV of the missing videos, sorted by id: id, label, where it was looked for, official roles."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("video_id", "label", "expected", *ROLES))
    gone = [a for a, absent in zip(annotations, missing, strict=True) if absent]
    for a in sorted(gone, key=lambda a: a.video_id):
        writer.writerow((a.video_id, a.label, a.path, a.split1, a.split2, a.split3))
    return out.getvalue()
