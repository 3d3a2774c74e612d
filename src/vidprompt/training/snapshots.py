"""Where a training stands, on disk: a run that was killed goes on from there, byte for byte.

Batches and random numbers are functions of the step, so a snapshot is the step, what is trained, the
optimiser's moments and what was logged. Each is a safetensors file and a JSON file that names its
SHA-256 and is written last; without it, or with another hash, there is no snapshot.
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

KEPT = 2  # newest snapshots
ASIDE = "other"  # folder of those of other settings: looked at, once they are this run's again


@dataclass
class Standing:
    """What is known after a step beside tensors: log rows, sums since the last, what was best."""

    step: int = 0
    rows: list[dict[str, float]] = field(default_factory=list)
    sums: dict[str, float] = field(default_factory=dict)
    summed: int = 0
    skipped: list[int] = field(default_factory=list)
    looks: list[dict[str, float]] = field(default_factory=list)  # at held-out (and test) videos
    scaler: dict[str, float] = field(default_factory=dict)


class Snapshots:
    """The snapshots of one run, in a folder.

    `about` says what the run is (configuration, data, code): snapshots of another are set aside, in
    `other/`, and gone on from when that one is run again. `say` is told what a user should know.
    """

    def __init__(
        self, folder: Path, about: Mapping[str, Any], say: Callable[[str], object]
    ) -> None:
        self.folder, self.about, self.say = folder, dict(about), say

    def save(self, standing: Standing, tensors: Mapping[str, torch.Tensor]) -> Path:
        """Write a snapshot, then remove all but the newest two."""
        weights = self.folder / f"step-{standing.step:09d}.safetensors"
        try:
            with replacing(weights) as temporary:
                save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, temporary)
            head = {"about": self.about, "sha256": sha256(weights), "standing": asdict(standing)}
            write_json(weights.with_suffix(".json"), head)
        except (OSError, SafetensorError) as error:
            raise UserError(
                f"{weights} cannot be written ({error}). Last good snapshot: {self.last_good()}: make "
                "room and run the same again"
            ) from error
        for old in _heads(self.folder)[KEPT:]:
            old.unlink()
            old.with_suffix(".safetensors").unlink(missing_ok=True)
        return weights

    def newest(self) -> tuple[Standing, dict[str, torch.Tensor]] | None:
        """The newest whole snapshot of this run; one that is damaged gives way to the one before."""
        for left in self.folder.glob(".step-*.part"):  # of a kill in the middle of writing
            left.unlink()
        for path in _heads(self.folder) + _heads(self.folder / ASIDE):
            weights = path.with_suffix(".safetensors")
            try:
                head = json.loads(path.read_text("utf-8"))
                if head["about"] != self.about:
                    continue
                if head["sha256"] != sha256(weights):
                    raise ValueError("its content is not what was written")
                standing, tensors = Standing(**head["standing"]), load_file(weights)
            except (OSError, ValueError, TypeError, KeyError, SafetensorError) as error:
                self.say(f"{weights} is damaged ({error}): the snapshot before it is taken")
                continue
            self.say(f"going on after step {standing.step} ({weights})")
            if path.parent != self.folder:
                self._exchange()
            return standing, tensors
        self._begin_anew()
        return None

    def _begin_anew(self) -> None:
        """Keep what another run has saved, in place of what was set aside before."""
        heads = _heads(self.folder)
        other = [name for head in heads[:1] for name in _differences(_about(head), self.about)]
        if other:
            self.say(
                f"{heads[0].with_suffix('.safetensors')} is of another run ({', '.join(other[:5])} "
                f"changed): training begins anew, and that is kept in {self.folder / ASIDE}"
            )
            self._exchange()
        _remove(self.folder)

    def _exchange(self) -> None:
        """What was set aside for what is here."""
        aside, between = self.folder / ASIDE, self.folder / "between"
        for start, end in ((self.folder, between), (aside, self.folder), (between, aside)):
            end.mkdir(exist_ok=True)
            for head in _heads(start):
                for path in (head.with_suffix(".safetensors"), head):
                    if path.is_file():
                        path.replace(end / path.name)
        between.rmdir()

    def last_good(self) -> str:
        """For a message: where the newest snapshot lies."""
        heads = _heads(self.folder)
        return str(heads[0].with_suffix(".safetensors")) if heads else "none was written yet"

    def clear(self) -> None:
        """Remove this run's: it is finished."""
        _remove(self.folder)


def _about(head: Path) -> Any:
    try:
        return json.loads(head.read_text("utf-8"))["about"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _heads(folder: Path) -> list[Path]:
    """JSON files, the newest first."""
    return sorted(folder.glob("step-*.json"), reverse=True)


def _remove(folder: Path) -> None:
    for pattern in ("step-*.json", "step-*.safetensors"):
        for path in folder.glob(pattern):
            path.unlink()


def _differences(old: Any, new: Any, inside: str = "") -> list[str]:
    """Dotted names of what differs between two values of JSON."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            name
            for key in sorted({*old, *new})
            for name in _differences(old.get(key), new.get(key), f"{inside}{key}.")
        ]
    return [] if old == new else [inside.rstrip(".")]


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """An optimiser's state as named tensors."""
    return {
        f"optimizer/{index}/{name}": torch.as_tensor(value)
        for index, state in optimizer.state_dict()["state"].items()
        for name, value in state.items()
    }


def restore_optimizer(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]
) -> None:
    """Undo `optimizer_tensors`."""
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer/"):
            _, index, name = key.split("/")
            state.setdefault(int(index), {})[name] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
