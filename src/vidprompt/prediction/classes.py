"""The classes of a prediction: their names, the features of their texts, and how a command line gives them.

Used without torch too, with exported models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidprompt.data.annotations.label_maps import read_label_map
from vidprompt.system.errors import UserError

Classes = Sequence[str] | Mapping[str, str | Sequence[str]]  # names, or name → description(s)


@dataclass(frozen=True)
class ClassTexts:
    """Classes and the features of their texts.

    `features` (C, P, E): float32, not normalised. `source`: "learned context", "descriptions", "prompts" or
    "class names". `ensemble`, `logit_scale`: how probabilities follow (`metrics.scores`).
    """

    names: tuple[str, ...]
    features: NDArray[np.float32]
    source: str
    ensemble: Any
    logit_scale: float


def class_names(classes: Classes) -> tuple[str, ...]:
    """The names of given classes, in order. Raises UserError for none, an empty or a repeated one."""
    if isinstance(classes, str):
        raise UserError(f"classes={classes!r} is one text: give a list of names")
    names = tuple(str(name) for name in classes)
    if not names:
        raise UserError("no class is given: name at least one")
    if repeated := [name for number, name in enumerate(names) if name in names[:number]]:
        raise UserError(f"class {repeated[0]!r} is given twice")
    if not all(name.strip() for name in names):
        raise UserError("a class has an empty name")
    return names


def parse_classes(text: str) -> list[str]:
    """Classes of a command line: names with commas between them, or a file (any form of a label map).

    A name with a comma in it needs a file. Raises UserError.
    """
    path = Path(text).expanduser()
    if path.is_file():
        return list(read_label_map(path).values())
    if path.suffix.lower() in (".txt", ".csv", ".json") and "," not in text:
        raise UserError(f"there is no file {path} of classes")
    return [name.strip() for name in text.split(",") if name.strip()]
