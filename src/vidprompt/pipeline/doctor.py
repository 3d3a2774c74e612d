"""`vidprompt doctor`: what a dataset has, what is missing, and estimates of its disk and time."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from shlex import quote

from vidprompt.config import paths
from vidprompt.config.compose import protocols_of
from vidprompt.config.schema import Config
from vidprompt.data.annotations import Annotation, Source, read_annotations
from vidprompt.data.annotations.class_names import check_class_names
from vidprompt.data.probe.listing_report import ROLES, write_listing_report
from vidprompt.system.cores import available_cores
from vidprompt.system.errors import UserError


class State(StrEnum):
    OK = "ok"
    NOTE = "note"  # works, and should be known
    MISSING = "missing"  # nothing further runs without it


@dataclass(frozen=True)
class Finding:
    """One line of the report: a subject, its state and a message."""

    subject: str
    state: State
    message: str


def examine(
    config: Config, measure: bool = True, runs: Sequence[str] | None = None
) -> Iterator[Finding]:
    """The state of a dataset: machine, backbone, pipeline, annotations, files, videos, disk and time.

    `measure`: decode a few videos and train a step, to estimate disk and time on this machine. `runs`: the
    only trainings that are of interest, with `config`'s method; without them all of the pipeline.
    """
    yield _machine()
    yield from _backbone(config)
    yield from _texts(config)
    if runs is None:
        yield from _pipeline(config)
    root = Path(config.dataset.root)
    if not root.is_dir():
        message = (
            f"{root} is missing: run `vidprompt unpack {quote(f'dataset={config.dataset.name}')}`"
            if config.dataset.archives
            else f"{root} is missing: put the download there, or link it; its layout is in docs/datasets/"
        )
        yield Finding("videos", State.MISSING, message)
        return
    annotations: list[Annotation] = []
    classes: dict[str, list[str]] = {}
    for name, source in config.dataset.sources.items():
        try:
            listing = read_annotations(
                source.reader, Source(name, root / source.folder, source.options)
            )
        except UserError as error:
            yield Finding("annotations", State.MISSING, str(error))
            continue
        annotations += listing.annotations
        if name in (config.dataset.roles.get(role) for role in ("recognition", "zero_shot")):
            yield from _class_names(name, listing.classes)
        classes[name] = listing.classes
        message = f"{name}: {len(listing.annotations):,} videos of {len(listing.classes)} classes"
        yield Finding("annotations", State.OK, message)
        for note in listing.notes:
            yield Finding("annotations", State.NOTE, note)
    yield from _files(config)
    if annotations:
        yield from _splits(config, annotations, classes)
        yield from _videos(config.dataset.name, annotations)
        yield from _estimates(config, root, annotations, measure, runs)


def _machine() -> Finding:
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    python = ".".join(map(str, sys.version_info[:3]))
    message = (
        f"Python {python}, torch {version('torch')}, open_clip {version('open_clip_torch')}; "
        f"{available_cores()} cores, {memory:.0f} GB, {', '.join(gpus) or 'no GPU'}"
    )
    return Finding("machine", State.OK if gpus else State.NOTE, message)


def _backbone(config: Config) -> Iterator[Finding]:
    from vidprompt.models.backbones.specification import local_weights

    spec = config.backbone
    name = f"{spec.name}:{spec.pretrained}" if spec.pretrained else spec.name
    file = local_weights(vars(spec))
    if file is not None:
        yield Finding("backbone", State.OK, f"{name}: {file.stat().st_size / 1e6:,.0f} MB are here")
    elif spec.weights:
        message = f"{name}: {spec.weights} is not there (`dvc pull data.dvc` fetches the demo's)"
        yield Finding("backbone", State.MISSING, message)
    elif spec.pretrained:
        message = (
            f"{name} is not here yet and is downloaded by the first stage that needs it; without internet, "
            "set backbone.weights to a file"
        )
        yield Finding("backbone", State.NOTE, message)
    else:
        yield Finding("backbone", State.NOTE, f"{name} has random weights: for trying out only")


def _texts(config: Config) -> Iterator[Finding]:
    """The file of descriptions, where the prompts are such."""
    from vidprompt.models.text.descriptions import read_descriptions

    if config.prompts.descriptions is None:
        return
    try:
        count = len(read_descriptions(Path(config.prompts.descriptions)))
    except UserError as error:
        yield Finding("texts", State.MISSING, str(error))
    else:
        yield Finding("texts", State.OK, f"{config.prompts.descriptions}: {count} classes")


def _class_names(source: str, classes: Sequence[str]) -> Iterator[Finding]:
    """Two classes that become one text in a prompt, or one that becomes none."""
    try:
        check_class_names(classes, source)
    except UserError as error:
        yield Finding("classes", State.MISSING, str(error))


def _pipeline(config: Config) -> Iterator[Finding]:
    from vidprompt.pipeline.matrix import read_pipeline, stale

    name = config.dataset.name
    if name not in read_pipeline()["active"]:
        message = f"`dvc repro` leaves {name} out: `vidprompt activate {quote(name)}` adds it"
        yield Finding("pipeline", State.NOTE, message)
    elif stale():
        message = "params/stages.yaml is not what the parameters say: run `vidprompt activate`"
        yield Finding("pipeline", State.MISSING, message)
    else:
        yield Finding("pipeline", State.OK, f"`dvc repro` runs {name}")


def named_lists(config: Config) -> list[Path]:
    """Files that the parameters name: class lists, partitions, published lists and their label maps."""
    named: list[str | None] = []
    if zero_shot := protocols_of(config).zero_shot:
        named += [zero_shot.known_classes, zero_shot.renamed_classes, *zero_shot.partitions]
    for entry in config.dataset.published:
        maps = entry.label_map or {}
        named += [*entry.lists.values(), *([maps] if isinstance(maps, str) else maps.values())]
    return [Path(config.dataset.root) / file for file in named if file]


def _files(config: Config) -> Iterator[Finding]:
    for file in named_lists(config):
        if not file.is_file():
            message = f"{file} is named in the parameters and is not there: you supply it"
            yield Finding("lists", State.MISSING, message)


def _splits(
    config: Config, annotations: Sequence[Annotation], classes: Mapping[str, list[str]]
) -> Iterator[Finding]:
    """What the stage splits would say: lists that cannot be drawn, or are too small to be of use."""
    import pandas as pd

    from vidprompt.data.manifest.health import Health
    from vidprompt.data.splits.dataset_splits import dataset_splits
    from vidprompt.data.splits.list_sizes import batch_note, check_lists, list_notes

    names = ("video_id", "source", "label", "group", *ROLES)
    rows = [[getattr(one, name) for name in names] for one in annotations]
    manifest = pd.DataFrame(rows, columns=list(names)).assign(health=Health.UNOPENED.value)
    health = dict.fromkeys(manifest["video_id"], Health.UNOPENED.value)
    drawn = []
    try:
        for _, split in dataset_splits(manifest, config.dataset, protocols_of(config), classes):
            check_lists(split)
            for note in list_notes(split, health):
                yield Finding("splits", State.NOTE, note)
            drawn.append(split)
        if note := batch_note(drawn, config.values["trainer"].get("batch_size")):
            yield Finding("splits", State.NOTE, note)
    except UserError as error:
        yield Finding("splits", State.MISSING, str(error))


def _videos(name: str, annotations: Sequence[Annotation]) -> Iterator[Finding]:
    missing = [not a.exists for a in annotations]
    for message in write_listing_report(annotations, missing, paths.missing(name)):
        wrong = "missing" in message or message.startswith("warning")
        state = State.MISSING if all(missing) else State.NOTE if wrong else State.OK
        yield Finding("videos", state, message)


def _estimates(
    config: Config,
    root: Path,
    annotations: Sequence[Annotation],
    measure: bool,
    runs: Sequence[str] | None,
) -> Iterator[Finding]:
    from vidprompt.pipeline import estimate

    free = shutil.disk_usage(Path.cwd()).free
    files = [
        (root / source.folder / a.path, a)
        for name, source in config.dataset.sources.items()
        for a in annotations
        if a.source == name and a.exists
    ]
    if not files:
        return
    if not measure:
        yield Finding("disk", State.OK, f"{free / 1e9:,.1f} GB free")
        return
    with tempfile.TemporaryDirectory() as folder:
        frames = estimate.measure_frames(config, files, Path(folder))
    if frames is None:
        message = "none of the videos tried could be decoded: `vidprompt manifest` says why of each"
        yield Finding("disk", State.MISSING, message)
        return
    needed = estimate.disk_needed(frames)
    message = f"about {needed / 1e9:,.1f} GB needed ({frames.text}), {free / 1e9:,.1f} GB free"
    yield Finding("disk", State.OK if needed < free else State.MISSING, message)
    times = estimate.stage_times(config, annotations, frames, runs)
    for what, seconds in times.items():
        yield Finding("time", State.OK, f"{what}: about {estimate.duration(seconds)}")
    whole = estimate.duration(sum(times.values()))
    yield Finding("time", State.OK, f"all of it on this machine: about {whole}")
