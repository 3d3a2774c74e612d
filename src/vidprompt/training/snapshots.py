"""Training snapshots: files from which an interrupted run is resumed with identical results.

Batches and random numbers are functions of the step, so a snapshot has the step, the trained values, the
optimiser's moments and the log. It is a safetensors file and a JSON file that is written last and has the
SHA-256 of the first; without it, or with another hash, the snapshot is not valid.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from vidprompt.files.atomic import replacing, write_json
from vidprompt.files.hashes import sha256
from vidprompt.system.errors import UserError
from vidprompt.system.machine_errors import DiskFullError

MAX_SNAPSHOTS = 2  # older ones are removed
SET_ASIDE = "other"  # subfolder for the snapshots of a run with another fingerprint


@dataclass
class TrainState:
    """State of a run after a step, without tensors."""

    step: int = 0  # steps done
    rows: list[dict[str, float]] = field(default_factory=list)  # of the log
    sums: dict[str, float] = field(default_factory=dict)  # of loss terms since the last row
    summed: int = 0  # steps in `sums`
    skipped: list[int] = field(default_factory=list)  # steps with a non-finite loss or gradient
    evaluations: list[dict[str, float]] = field(default_factory=list)  # step and measures of each
    scaler: dict[str, float] = field(default_factory=dict)  # state of the loss scaler


class Snapshots:
    """The snapshots of one run, in a folder.

    Args:
        folder: of the run.
        fingerprint: JSON of everything that the run's numbers follow from (configuration, data, code). The
            snapshots of another fingerprint are moved to a subfolder and used when that one is run again.
        notify: called with messages for the user.
    """

    def __init__(
        self, folder: Path, fingerprint: Mapping[str, Any], notify: Callable[[str], object]
    ) -> None:
        self.folder, self.fingerprint, self.notify = folder, dict(fingerprint), notify

    def save(self, state: TrainState, tensors: Mapping[str, torch.Tensor]) -> Path:
        """Write a snapshot and remove old ones. Raises UserError when it cannot be written."""
        weights = self.folder / f"step-{state.step:09d}.safetensors"
        try:
            with replacing(weights) as temporary:
                save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, temporary)
            header = {
                "fingerprint": self.fingerprint,
                "sha256": sha256(weights),
                "state": asdict(state),
            }
            write_json(weights.with_suffix(".json"), header)
        except DiskFullError as error:
            raise DiskFullError(f"{error}. Last good snapshot: {self.newest_path()}") from error
        except (OSError, SafetensorError) as error:
            raise UserError(
                f"{weights} cannot be written ({error}). Last good snapshot: {self.newest_path()}"
            ) from error
        for old in _headers(self.folder)[MAX_SNAPSHOTS:]:
            old.unlink()
            old.with_suffix(".safetensors").unlink(missing_ok=True)
        return weights

    def load_newest(self) -> tuple[TrainState, dict[str, torch.Tensor]] | None:
        """State and tensors of this run's newest valid snapshot; None without one.

        A damaged snapshot is skipped with a message. Without a snapshot of this run, those of another run are
        moved to the subfolder, replacing what is there.
        """
        for partial in self.folder.glob(".step-*.part"):  # of a process killed while writing
            partial.unlink()
        for header in _headers(self.folder) + _headers(self.folder / SET_ASIDE):
            weights = header.with_suffix(".safetensors")
            try:
                content = json.loads(header.read_text("utf-8"))
                if _fingerprint(content) != self.fingerprint:
                    continue
                if content["sha256"] != sha256(weights):
                    raise ValueError("its content is not what was written")
                state, tensors = TrainState(**content["state"]), load_file(weights)
            except (OSError, ValueError, TypeError, KeyError, SafetensorError) as error:
                self.notify(f"{weights} is damaged ({error}): the snapshot before it is used")
                continue
            self.notify(f"resuming after step {state.step} ({weights})")
            if header.parent != self.folder:
                self._swap_with_set_aside()
            return state, tensors
        self._set_aside()
        return None

    def _set_aside(self) -> None:
        """Move another run's snapshots to the subfolder, in place of those that are there."""
        headers = _headers(self.folder)
        changed = [
            key
            for header in headers[:1]
            for key in _differences(_read_fingerprint(header), self.fingerprint)
        ]
        if changed:
            self.notify(
                f"{headers[0].with_suffix('.safetensors')} is of another run ({', '.join(changed[:5])} "
                f"changed): training starts from the beginning, and it is kept in "
                f"{self.folder / SET_ASIDE}"
            )
            self._swap_with_set_aside()
        _remove(self.folder)

    def _swap_with_set_aside(self) -> None:
        """Exchange the snapshots in the folder and in its subfolder."""
        aside, between = self.folder / SET_ASIDE, self.folder / "between"
        for source, target in ((self.folder, between), (aside, self.folder), (between, aside)):
            target.mkdir(exist_ok=True)
            for header in _headers(source):
                for path in (header.with_suffix(".safetensors"), header):
                    if path.is_file():
                        path.replace(target / path.name)
        between.rmdir()

    def newest_path(self) -> str:
        """Path of the newest snapshot, for messages."""
        headers = _headers(self.folder)
        return str(headers[0].with_suffix(".safetensors")) if headers else "none was written yet"

    def clear(self) -> None:
        """Remove the run's snapshots: it is finished."""
        _remove(self.folder)


def _fingerprint(header: Any) -> Any:
    return header["fingerprint"] if "fingerprint" in header else header["about"]  # older releases


def _read_fingerprint(header: Path) -> Any:
    try:
        return _fingerprint(json.loads(header.read_text("utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _headers(folder: Path) -> list[Path]:
    """The snapshots' JSON files, newest first."""
    return sorted(folder.glob("step-*.json"), reverse=True)


def _remove(folder: Path) -> None:
    for pattern in ("step-*.json", "step-*.safetensors"):
        for path in folder.glob(pattern):
            path.unlink()


def _differences(old: Any, new: Any, prefix: str = "") -> list[str]:
    """Dotted keys at which two JSON values differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            name
            for key in sorted({*old, *new})
            for name in _differences(old.get(key), new.get(key), f"{prefix}{key}.")
        ]
    return [] if old == new else [prefix.rstrip(".")]


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The state of an optimiser as named tensors."""
    return {
        f"optimizer/{index}/{name}": torch.as_tensor(value)
        for index, state in optimizer.state_dict()["state"].items()
        for name, value in state.items()
        if value is not None  # SGD's buffer without momentum
    }


def restore_optimizer(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]
) -> None:
    """Load the state that `optimizer_tensors` returned; other tensors are ignored."""
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer/"):
            _, index, name = key.split("/")
            state.setdefault(int(index), {})[name] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
