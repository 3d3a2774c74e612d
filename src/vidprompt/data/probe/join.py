"""Join annotations with probe results into the manifest's table: one row a video."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pyarrow as pa

from vidprompt.data.annotations.base import Annotation
from vidprompt.data.manifest.table import SCHEMA
from vidprompt.data.probe.result import ProbeResult
from vidprompt.system.errors import DataError


def build_manifest(
    annotations: Sequence[Annotation], probes: Sequence[ProbeResult], folders: dict[str, str]
) -> pa.Table:
    """The manifest's table (`SCHEMA`) of annotations and their probe results, sorted by id.

    `folders` maps a source to its folder in the dataset's root; paths become relative to the root.
    Raises DataError when an id occurs twice.
    """
    order = sorted(range(len(annotations)), key=lambda row: annotations[row].video_id)
    for before, after in pairwise(order):
        if annotations[before].video_id == annotations[after].video_id:
            raise DataError(f"video {annotations[after].video_id} is annotated twice")
    prefixes = {source: "" if folder == "." else f"{folder}/" for source, folder in folders.items()}
    columns = []
    for field in SCHEMA:
        if field.name == "path":
            rows = (annotations[row] for row in order)
            values = [prefixes[a.source] + a.path for a in rows]
        elif field.name == "detail":
            found = (probes[row] for row in order)
            values = [" ".join(filter(None, (probe.detail, *probe.notes))) for probe in found]
        else:
            table = annotations if field.name in Annotation.__slots__ else probes
            values = [getattr(table[row], field.name) for row in order]
        columns.append(pa.array(values, field.type))
    return pa.Table.from_arrays(columns, schema=SCHEMA)
