"""Calibrate a model's threshold for "none of these classes" on videos whose classes are known."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from vidprompt.data.annotations.label_maps import resolve_labels
from vidprompt.data.annotations.list_files import ROLES, read_list
from vidprompt.files.atomic import replacing
from vidprompt.metrics.unknown import MIN_VIDEOS, UnknownThreshold, calibrate, class_cosines
from vidprompt.models.checkpoint_metadata import read_metadata
from vidprompt.prediction.inputs import videos_below
from vidprompt.prediction.many import decoding_workers
from vidprompt.prediction.model import Model
from vidprompt.prediction.results import Failure
from vidprompt.system.errors import DataError, UserError
from vidprompt.system.progress import Progress

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelledVideos:
    """Videos and the names of their classes; `notes` are sentences on files that are left out."""

    videos: tuple[Path, ...]
    labels: tuple[str, ...]
    notes: tuple[str, ...] = ()


def labelled_videos(source: Path) -> LabelledVideos:
    """Videos in class folders (walking/a.mp4, test/walking/b.mp4), or of a list (`list_files`).

    A list's paths are relative to its folder. Raises DataError for a layout that is neither.
    """
    if source.is_dir():
        videos, notes = videos_below(source)
        parts = [video.relative_to(source).parts for video in videos]
        if loose := [video for video, part in zip(videos, parts, strict=True) if len(part) < 2]:
            raise DataError(
                f"{loose[0]} lies in no class's folder: expected a folder for each class, as walking/a.mp4"
            )
        heads = {part[0].casefold() for part in parts}
        above = int(heads <= ROLES.keys() and all(len(part) > 2 for part in parts))
        labels = tuple(part[above] for part in parts)
        return LabelledVideos(tuple(videos), labels, tuple(notes))
    if not source.is_file():
        raise DataError(f"{source}: no such folder or list")
    rows, _ = resolve_labels(read_list(source, source.parent), None)
    return LabelledVideos(
        tuple(source.parent / row.path for row in rows), tuple(row.label for row in rows)
    )


def calibrated(
    model: Model,
    known: LabelledVideos,
    *,
    workers: int = 0,
    on_result: Callable[[], None] | None = None,
) -> tuple[UnknownThreshold, list[Failure]]:
    """The threshold from the model's similarities to all classes of the videos, and the broken videos.

    Raises UserError where there are too few of them.
    """
    names = tuple(dict.fromkeys(known.labels))
    if len(names) < 2:
        raise UserError(f"{len(names)} class: at least 2 are needed, each in turn left out")
    texts = model.texts(names)
    rows, labels, failures = list[np.ndarray](), list[int](), list[Failure]()
    results = model.features(known.videos, workers=workers, on_result=on_result)
    for label, result in zip(known.labels, results, strict=True):
        if isinstance(result, Failure):
            failures.append(result)
        else:
            rows.append(class_cosines(result[1][None], texts.features)[0])
            labels.append(names.index(label))
    threshold = calibrate(np.stack(rows), labels) if rows else None
    if threshold is None:
        raise UserError(
            f"{len(rows)} videos can be used, and at least {MIN_VIDEOS} are needed"
            + (f": {failures[0].video}: {failures[0].reason}" if failures else "")
        )
    return threshold, failures


def write_calibrated(checkpoint: Path, out: Path, threshold: UnknownThreshold) -> Path:
    """Write a copy of a checkpoint with the threshold; `out` is a file, or a folder. Returns the file."""
    from safetensors.torch import load_file, save_file

    if out.suffix != ".safetensors":
        out = out / "model.safetensors"
    if out.exists() and out.samefile(checkpoint):
        raise UserError(f"{out} is the checkpoint itself: name another file with --out")
    metadata = read_metadata(checkpoint)
    spec = dict(metadata.backbone_spec)
    if spec.get("weights") and (place := _from(checkpoint, str(spec["weights"]))) is not None:
        spec["weights"] = str(place)  # found from wherever the copy lies
    if spec.get("tokenizer") and (place := _from(checkpoint, str(spec["tokenizer"]))) is not None:
        spec["tokenizer"] = str(place)
    changed = replace(metadata, backbone_spec=spec, unknown=threshold.to_dict())
    text = json.dumps(asdict(changed), sort_keys=True, ensure_ascii=False)
    with replacing(out) as temporary:
        save_file(load_file(checkpoint), temporary, {"vidprompt": text})
    return out


def _from(checkpoint: Path, recorded: str) -> Path | None:
    """A relative path of a checkpoint's backbone as an absolute one; None where it leads nowhere."""
    if Path(recorded).is_absolute():
        return None
    folders: Sequence[Path] = [Path.cwd(), *checkpoint.absolute().parents]
    return next((folder / recorded for folder in folders if (folder / recorded).exists()), None)


def run_calibration(
    load: Callable[[], Model], videos: Path, out: Path, workers: int | None = None
) -> Iterator[str]:
    """Calibrate a model's threshold and write it into a copy of its checkpoint; lines to print."""
    known = labelled_videos(videos)
    for note in known.notes:
        logger.info(note)
    model = load()
    if model.source.checkpoint is None:
        raise UserError(
            f"{model.name} is a backbone: the threshold is stored in a checkpoint, and it has none"
        )
    with Progress("calibrate", len(known.videos), unit="videos") as progress:
        threshold, failures = calibrated(
            model,
            known,
            workers=decoding_workers(workers, len(known.videos)),
            on_result=progress.advance,
        )
    for failure in failures:
        logger.warning(f"left out: {failure.reason}")
    file = write_calibrated(model.source.checkpoint, out, threshold)
    yield (
        f"cosine similarity below {threshold.cosine:.4f}: none of the classes ({threshold.videos:,} videos: "
        f"{threshold.known_kept:.1%} are kept with their class, {threshold.unknown_refused:.1%} refused "
        "without it)"
    )
    yield str(file)
