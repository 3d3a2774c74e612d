"""Read official annotations: one reader a dataset layout, each returning `DatasetAnnotations`."""

from __future__ import annotations

from dataclasses import replace

from vidprompt.config.plugins import Registry
from vidprompt.data.annotations.base import Annotation, DatasetAnnotations, Reader, Source
from vidprompt.data.annotations.ccvid import read_ccvid
from vidprompt.data.annotations.folder import read_folder
from vidprompt.data.annotations.hmdb51 import read_hmdb51
from vidprompt.data.annotations.kinetics import read_kinetics
from vidprompt.data.annotations.ssv2 import read_ssv2
from vidprompt.data.annotations.ucf101 import read_ucf101
from vidprompt.system.errors import UserError

READERS: Registry[Reader] = Registry(
    "datasets",
    {
        "ucf101": read_ucf101,
        "hmdb51": read_hmdb51,
        "kinetics": read_kinetics,
        "ssv2": read_ssv2,
        "ccvid": read_ccvid,
        "folder": read_folder,
    },
    lambda found: "" if callable(found) else "is no function of a Source",
)


def read_annotations(reader: str, source: Source) -> DatasetAnnotations:
    """All annotated videos of a source, sorted by id.

    Raises UserError for an unknown reader, or a plug-in's that does not work; DataError for annotations that
    cannot be read.
    """
    listing = READERS[reader](source)
    if not isinstance(listing, DatasetAnnotations):
        raise UserError(
            f"the reader {reader} returns no DatasetAnnotations: {type(listing).__name__}"
        )
    return replace(listing, annotations=sorted(listing.annotations, key=lambda a: a.video_id))


__all__ = ["READERS", "Annotation", "DatasetAnnotations", "Source", "read_annotations"]
