"""Stage report: everything evaluated so far, on one HTML page."""

from __future__ import annotations

import logging
from functools import partial

from vidprompt.config import paths
from vidprompt.config.compose import compose
from vidprompt.config.schema import Config
from vidprompt.data.frames.sampling import Views
from vidprompt.data.splits.split_file import read_splits
from vidprompt.inference.feature_store import read_features
from vidprompt.models.backbones.loading import Backbone, load_backbone
from vidprompt.models.checkpoint import load_checkpoint
from vidprompt.models.factory import untrained_model
from vidprompt.models.methods.video_clip import VideoCLIP
from vidprompt.pipeline.lineage import checkpoint_hash
from vidprompt.reporting.dataset_report.explained_examples import ExampleModel
from vidprompt.reporting.dataset_report.page import write_report
from vidprompt.reporting.explanations.relevance import mean_text
from vidprompt.system.errors import DataError, UserError

logger = logging.getLogger(__name__)


def run(config: Config) -> None:
    """Write the report of the dataset.

    Faces in re-identification pictures are pixelated unless the dataset says `mosaic: false`; the
    demo's people are rendered. Examples are explained by the models whose predictions they are.
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
        model_of=partial(_model_of, config),
    )
    logger.info(f"{out}: {out.stat().st_size / 1e6:.2f} MB")


def _model_of(config: Config, method: str, split: str, test: str) -> ExampleModel | None:
    """The model that a test's predictions are of; None, with a warning, where it cannot be used."""
    try:
        return _load(config, method, split, test)
    except (UserError, OSError) as error:
        logger.warning(f"the examples of {method} are not explained: {error}")
        return None


def _load(config: Config, method: str, split: str, test: str) -> ExampleModel:
    """It is known by the hash of its checkpoint, which the features are stored with."""
    dataset = config.dataset.name
    tested = read_splits(paths.splits(dataset))[split]
    chosen = compose([f"dataset={dataset}", f"method={method}"])
    folder = paths.features(dataset, method, chosen.method.encoding_of(tested.run))
    features = read_features(folder)
    if features.made_with.get("checkpoint") != checkpoint_hash(dataset, chosen.method, tested.run):
        raise DataError(f"{folder} was made with another checkpoint: run the features stage again")
    encoder = _encoder(chosen, tested.run, load_backbone(vars(config.backbone)))
    texts = zip(tested.tests[test].classes, features.text[f"{split}/{test}"], strict=True)
    return ExampleModel(
        encoder.eval().requires_grad_(False),
        Views(**features.made_with["views"]),
        {name: mean_text(prompts) for name, prompts in texts},
    )


def _encoder(config: Config, run: str, backbone: Backbone) -> VideoCLIP:
    if not config.method.trained:
        return untrained_model(config, backbone)
    path = paths.checkpoint(config.dataset.name, config.method.name, run)
    return load_checkpoint(path, backbone)[0]
