"""Measured cost of each stage: seconds and peak memory when DVC ran it (`vidprompt cost`).

A stage writes a measurement to `cache/cost/<dataset>/<stage>.json`, which DVC does not track. `update`
collects them in `results/<dataset>/cost.json`, which is in git. `inputs` of an entry is a digest of the
stage's command, dependencies and parameters in dvc.lock: an entry stays while these are the same, so a
repeated run changes nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from vidprompt.files.atomic import write_json
from vidprompt.files.hashes import digest
from vidprompt.system.cores import available_cores
from vidprompt.system.errors import UserError
from vidprompt.system.suggestions import suggestion

Entries = dict[str, dict[str, Any]]  # stage → what cost.json says of it
MEASURED = ("seconds", "peak_memory_mb", "gpu_memory_mb", "machine")
_MB = 1 << 20


def cost_file(dataset: str) -> Path:
    """Relative to the project."""
    return Path("results") / dataset / "cost.json"


def measurements(dataset: str) -> Path:
    """The folder of the stages' measurements, relative to the project."""
    return Path("cache/cost") / dataset


@dataclass(frozen=True)
class StageTimer:
    """Measures a stage that DVC runs; `stage` is empty outside DVC, and nothing is recorded."""

    stage: str
    root: Path
    began: float

    @classmethod
    def start(cls) -> StageTimer:
        """Takes the stage's name out of the environment: processes it launches are part of it."""
        stage, root = os.environ.pop("DVC_STAGE", ""), os.environ.get("DVC_ROOT", "")
        return cls(stage if root else "", Path(root), time.perf_counter())

    def record(self, dataset: str) -> None:
        """Write the measurement. Never raises: a stage that succeeded does not fail because of it."""
        if self.stage:
            with contextlib.suppress(Exception):
                seconds = time.perf_counter() - self.began
                measurement = {"seconds": round(seconds, 1), "machine": machine(), **_peaks()}
                write_json(self.root / measurements(dataset) / f"{self.stage}.json", measurement)


def _peaks() -> dict[str, int]:
    """Largest resident memory of this process or of one of its children, and of a GPU, in MB."""
    import resource

    sides = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    unit = 1 if sys.platform == "darwin" else 1024  # bytes of what getrusage counts in
    peak = max(resource.getrusage(side).ru_maxrss for side in sides) * unit
    peaks = {"peak_memory_mb": round(peak / _MB)}
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        devices = range(torch.cuda.device_count())
        most = max((torch.cuda.max_memory_allocated(i) for i in devices), default=0)
        peaks["gpu_memory_mb"] = round(most / _MB)
    return peaks


def machine() -> str:
    """`<CPU>, <N> cores` and the GPU where one was used; nothing that names the machine."""
    cpu = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
        named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
        cpu = next(named, "") or cpu
    text = f"{' '.join(cpu.split())}, {available_cores()} cores"
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        text += f", {torch.cuda.get_device_name()}"
    return text


def inputs_of(entry: Mapping[str, Any]) -> str:
    """What a stage of dvc.lock ran with: a digest of command, dependencies and parameters."""
    deps = {dep["path"]: dep.get("md5") for dep in entry.get("deps", ())}
    return digest({"cmd": entry.get("cmd"), "deps": deps, "params": entry.get("params", {})})


def current_inputs(lock: Mapping[str, Any], dataset: str) -> dict[str, str]:
    """Stage of the dataset → `inputs_of` it; `lock` is dvc.lock's `stages`."""
    return {
        stage: inputs_of(entry)
        for stage, entry in lock.items()
        if stage.partition("@")[2].split("-")[0] == dataset
    }


@dataclass(frozen=True)
class Update:
    """What `update` did: the entries there are now, which of them are new, and stages without one."""

    path: Path
    entries: Entries
    measured: tuple[str, ...]
    unmeasured: tuple[str, ...]

    def __str__(self) -> str:
        if not self.entries:
            return f"{self.path}: nothing is measured yet, `dvc repro` measures what it runs"
        text = f"{self.path}: {len(self.entries)} stages, {len(self.measured)} of them new"
        return text + (f"; {len(self.unmeasured)} not measured" if self.unmeasured else "")


def update(dataset: str, root: Path = Path()) -> Update:
    """Bring cost.json up to date with dvc.lock and the measurements; written only if something changed.

    A measurement belongs to the inputs that dvc.lock has when it is first collected.
    Raises UserError for a dataset without stages and for a cost.json that cannot be read.
    """
    wanted = _current_stages(dataset, root)
    before = read_costs(root / cost_file(dataset))
    entries: Entries = {}
    measured = []
    for stage, inputs in sorted(wanted.items()):
        entry = before.get(stage)
        if entry is None or entry.get("inputs") != inputs:
            entry = _measurement(root / measurements(dataset) / f"{stage}.json", inputs)
            measured += [stage] if entry else []
        if entry:
            entries[stage] = entry
    if entries != before:
        write_json(root / cost_file(dataset), entries)
    missing = tuple(sorted(wanted.keys() - entries.keys()))
    return Update(cost_file(dataset), entries, tuple(measured), missing)


def stale(dataset: str, root: Path = Path()) -> list[str]:
    """Stages whose entry in cost.json is not of dvc.lock's inputs, or which are gone. Raises UserError."""
    wanted = _current_stages(dataset, root)
    entries = read_costs(root / cost_file(dataset))
    return sorted(s for s, entry in entries.items() if entry.get("inputs") != wanted.get(s))


def read_costs(path: Path) -> Entries:
    """cost.json, empty where there is none. Raises UserError when it cannot be read."""
    if not path.is_file():
        return {}
    try:
        return parse_costs(path.read_bytes())
    except ValueError as error:
        raise UserError(
            f"{path} cannot be read ({error}): delete it, and `vidprompt cost` writes it again"
        ) from error


def parse_costs(content: bytes) -> Entries:
    """Raises ValueError when it is no JSON mapping of stages to what they cost, numbers where they belong."""
    entries = json.loads(content)
    if not isinstance(entries, dict) or not all(isinstance(e, dict) for e in entries.values()):
        raise ValueError("no mapping of stages")
    for entry in entries.values():
        _check(entry)
    return entries


def _check(entry: Mapping[str, Any]) -> None:
    """Raises ValueError for what is no number, or no word."""
    for key in entry.keys() & {"seconds", "peak_memory_mb", "gpu_memory_mb"}:
        value = entry[key]
        if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
            raise ValueError(f"{key} is no number")
    for key in entry.keys() & {"machine", "inputs"}:
        if not isinstance(entry[key], str):
            raise ValueError(f"{key} is no text")


def _current_stages(dataset: str, root: Path) -> dict[str, str]:
    import yaml

    path = root / "dvc.lock"
    try:
        lock = (yaml.safe_load(path.read_text("utf-8")) or {}).get("stages", {})
    except FileNotFoundError:
        raise UserError(f"{path} is not there: run `dvc repro` in the project's folder") from None
    except (yaml.YAMLError, AttributeError) as error:
        raise UserError(f"{path} cannot be read: mend it, or run `dvc repro`") from error
    stages = current_inputs(lock, dataset)
    if not stages:
        known = sorted({stage.partition("@")[2].split("-")[0] for stage in lock} - {""})
        raise UserError(f"{path} has no stage of dataset {dataset!r}: {suggestion(dataset, known)}")
    return stages


def _measurement(path: Path, inputs: str) -> dict[str, Any] | None:
    """The stage's measurement of these inputs, or None; one without inputs is given these."""
    try:
        measurement = json.loads(path.read_text("utf-8"))
        if not isinstance(measurement, dict) or "seconds" not in measurement:
            return None
        _check(measurement)
    except (OSError, ValueError):
        return None
    if measurement.setdefault("inputs", inputs) != inputs:
        return None
    write_json(path, measurement)
    return {key: measurement[key] for key in (*MEASURED, "inputs") if key in measurement}
