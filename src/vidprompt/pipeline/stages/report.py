"""Stage report: everything evaluated so far, on one HTML page."""

from __future__ import annotations

import logging

from vidprompt.config import paths
from vidprompt.config.schema import Config
from vidprompt.reporting.dataset_report.page import write_report

logger = logging.getLogger(__name__)


def run(config: Config) -> None:
    """Write the report of the dataset.

    Faces in re-identification pictures are pixelated unless the dataset says `mosaic: false`; the
    demo's people are rendered.
    """
    dataset = config.dataset.name
    out = paths.report(dataset)
    write_report(
        dataset,
        manifest_path=paths.manifest(dataset),
        splits_folder=paths.splits(dataset),
        frames_folder=paths.frames(dataset),
        predictions_root=paths.predictions(dataset, "any", "any").parents[2],
        results_root=out.parents[1],
        out=out,
        mosaic=dataset != "demo" if config.dataset.mosaic is None else config.dataset.mosaic,
    )
    logger.info(f"{out}: {out.stat().st_size / 1e6:.2f} MB")
