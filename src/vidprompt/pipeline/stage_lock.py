"""The lock of a stage: no second process writes the same outputs at the same time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path

from vidprompt.config import paths
from vidprompt.config.schema import Config
from vidprompt.files.hashes import digest
from vidprompt.system.locks import exclusive_lock

LOCKS = Path("cache/locks")  # not beside the outputs: DVC tracks those folders


@contextmanager
def stage_lock(stage: str, config: Config) -> Iterator[None]:
    """Hold the lock of what `stage` writes; of processes launched together the first one holds it.

    Raises UserError, which names the holder, when another process has it.
    """
    if os.environ.get("RANK", "0") != "0":
        yield
        return
    output = stage_output(stage, config)
    name = f"{stage}-{output.name}-{digest(output.absolute().as_posix())}.lock"
    with exclusive_lock(output, LOCKS / name):
        if stage != "unpack":  # what is there is the user's
            _remove_half_written(output)
        yield


def _remove_half_written(output: Path) -> None:
    """Remove the temporary files that a killed run left: DVC would take those in a folder for outputs."""
    inside = output.is_dir()
    pattern = ".*.part" if inside else f".{escape(output.name)}.*.part"
    for path in (output if inside else output.parent).glob(pattern):
        path.unlink(missing_ok=True)


def stage_output(stage: str, config: Config) -> Path:
    """What a stage writes, or the chief part of it: two runs with the same one exclude each other."""
    dataset, method, run = config.dataset.name, config.method.name, config.split
    outputs = {
        "unpack": lambda: Path(config.dataset.root),
        "manifest": lambda: paths.manifest(dataset).parent,
        "splits": lambda: paths.splits(dataset),
        "validate": lambda: paths.validation(dataset),
        "frames": lambda: paths.frames(dataset),
        "backbone": lambda: paths.backbone(dataset),
        "train": lambda: paths.training(dataset, method, run),
        "features": lambda: paths.features(dataset, method, config.method.encoding_of(run)),
        "evaluate": lambda: paths.results(dataset, method, config.protocol.name),
        "report": lambda: paths.report(dataset),
    }
    return outputs[stage]()
