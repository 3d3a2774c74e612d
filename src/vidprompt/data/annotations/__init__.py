"""Read official annotations: one reader a dataset layout, each returning `DatasetAnnotations`."""

from __future__ import annotations

from dataclasses import replace

from vidprompt.data.annotations.base import Annotation, DatasetAnnotations, Reader, Source
from vidprompt.data.annotations.ccvid import read_ccvid
from vidprompt.data.annotations.folder import read_folder
from vidprompt.data.annotations.hmdb51 import read_hmdb51
from vidprompt.data.annotations.kinetics import read_kinetics
from vidprompt.data.annotations.ssv2 import read_ssv2
from vidprompt.data.annotations.ucf101 import read_ucf101
from vidprompt.system.suggestions import check_choice

READERS: dict[str, Reader] = {
    "ucf101": read_ucf101,
    "hmdb51": read_hmdb51,
    "kinetics": read_kinetics,
    "ssv2": read_ssv2,
    "ccvid": read_ccvid,
    "folder": read_folder,
}


def read_annotations(reader: str, source: Source) -> DatasetAnnotations:
    """All annotated videos of a source, sorted by id.

    Raises UserError for an unknown reader, DataError for annotations that cannot be read.
    """
    check_choice("reader", reader, READERS)
    listing = READERS[reader](source)
    return replace(listing, annotations=sorted(listing.annotations, key=lambda a: a.video_id))


__all__ = ["READERS", "Annotation", "DatasetAnnotations", "Source", "read_annotations"]
