"""Paths of the files that stages read and write, relative to the project."""

from __future__ import annotations

from pathlib import Path


def manifest(dataset: str) -> Path:
    return Path("cache/manifest") / dataset / "manifest.parquet"


def classes(dataset: str) -> Path:
    return Path("cache/manifest") / dataset / "classes.json"


def class_groups(dataset: str) -> Path:
    """Column → class → group, for accuracy within a group of classes."""
    return Path("cache/manifest") / dataset / "class_groups.json"


def missing(dataset: str) -> Path:
    return Path("cache/manifest") / dataset / "missing.csv"


def probes(dataset: str) -> Path:
    """Cached probes of the video files; DVC does not track it."""
    return Path("cache/probes") / f"{dataset}.sqlite"


def splits(dataset: str) -> Path:
    return Path("cache/splits") / dataset


def frames(dataset: str) -> Path:
    return Path("cache/frames") / dataset


def backbone(dataset: str) -> Path:
    return Path("cache/backbone") / f"{dataset}.json"


def checkpoint(dataset: str, method: str, run: str) -> Path:
    """`run` is a training list of the dataset, or `<dataset>/<run>` of another."""
    home, _, name = run.rpartition("/")
    return Path("models") / (home or dataset) / method / name / "model.safetensors"


def starting_checkpoint(given: str) -> Path:
    """The file of `trainer.start_from`: a run DATASET/METHOD/SPLIT, or a checkpoint's path."""
    parts = given.split("/")
    if len(parts) == 3 and all(parts) and not given.endswith(".safetensors"):
        return checkpoint(*parts)
    return Path(given)


def features(dataset: str, method: str, run: str) -> Path:
    return Path("cache/features") / dataset / method / run


def encoding(dataset: str, method: str, run: str) -> Path:
    """Blocks of features of an unfinished run; DVC does not track them."""
    return Path("cache/encoding") / dataset / method / run


def predictions(dataset: str, method: str, protocol: str) -> Path:
    return Path("cache/predictions") / dataset / method / f"{protocol}.parquet"


def training_log(dataset: str, method: str, run: str) -> Path:
    return Path("results") / dataset / method / "runs" / run / "loss.csv"


def image_model_log(dataset: str, method: str, run: str) -> Path:
    """Of the image model that is trained first (`protocol.image_model`)."""
    return training_log(dataset, method, run).with_name("image_loss.csv")


def training_summary(dataset: str, method: str, run: str) -> Path:
    return Path("results") / dataset / method / "runs" / run / "training.json"


def training(dataset: str, method: str, run: str) -> Path:
    """Step log and snapshots of an unfinished run; DVC does not track them."""
    return Path("cache/training") / dataset / method / run


def results(dataset: str, method: str, protocol: str) -> Path:
    return Path("results") / dataset / method / protocol


def report(dataset: str) -> Path:
    return Path("results") / dataset / "report.html"


def health(dataset: str) -> Path:
    return Path("results") / dataset / "health.json"


def validation(dataset: str) -> Path:
    return Path("results") / dataset / "validation.json"
