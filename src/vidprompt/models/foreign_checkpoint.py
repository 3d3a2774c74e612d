"""Read PyTorch files of other people: tensors and plain values only, and no code of the file's runs."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vidprompt.system.errors import UserError
from vidprompt.system.suggestions import first_names


class _Ignored:
    """Takes the place of an object in the file, and keeps nothing of it."""

    def __new__(cls, *_args: Any) -> _Ignored:
        return super().__new__(cls)

    def __init__(self, *_args: Any) -> None: ...

    def __setstate__(self, _state: Any) -> None: ...


# What trainers save beside the weights, by module. None of it is needed, so none is built: an object of
# NumPy's may be made so that building it breaks the process, a WindowsPath exists on Windows only.
_NUMPY_CORE = dict.fromkeys(
    ("numpy.core.multiarray", "numpy._core.multiarray"), ("scalar", "_reconstruct")
)
_PATHS = ("Path", "PosixPath", "WindowsPath", "PurePath", "PurePosixPath", "PureWindowsPath")
_HARMLESS: dict[str, tuple[str, ...]] = {
    "argparse": ("Namespace",),
    "builtins": ("bytes", "frozenset", "range", "slice"),
    "datetime": ("date", "datetime", "time", "timedelta", "timezone"),
    "numpy": (
        "dtype",
        "ndarray",
        *sorted({np.dtype(c).type.__name__ for c in np.typecodes["All"]}),
    ),
    **_NUMPY_CORE,
    "pathlib": _PATHS,
    "pathlib._local": _PATHS,  # Python 3.13's name of it
}
_IGNORED: list[Any] = [
    type(name, (_Ignored,), {"__module__": module, "__qualname__": name})
    for module, names in _HARMLESS.items()
    for name in names
]
_ESCAPE_CODES = re.compile(r"\x1b\[[0-9;]*m")
SHOWN = 4  # objects that a sentence names


@contextmanager
def harmless_objects() -> Iterator[None]:
    """Inside, torch's `weights_only` loader also takes files with harmless objects beside the tensors.

    These are Namespaces, paths, dates, and NumPy's scalars, arrays and types; a placeholder without content
    stands for each.
    """
    with torch.serialization.safe_globals(_IGNORED), warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "Detected pickle protocol"
        )  # an error follows, if it matters
        yield


def load_foreign(path: Path) -> Any:
    """The content of a PyTorch file, on the CPU. Raises UserError, which names objects that are not read."""
    try:
        with harmless_objects():
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # for other content the unpickler raises any exception
        raise UserError(why_not_loaded(path, error)) from error


def why_not_loaded(path: Path, error: Exception) -> str:
    """A sentence on a file that `weights_only` does not load with `harmless_objects`."""
    with path.open("rb") as file:
        start = file.read(8)
    if start[:2] != b"PK" and start[:1] != b"\x80":
        return f"{path} is no PyTorch file: it begins with {start!r}"
    message = " ".join(_ESCAPE_CODES.sub("", str(error)).split()) or type(error).__name__
    if objects := _other_objects(path, message):
        return (
            f"{path} holds Python objects other than tensors, which are not loaded from other people's "
            f"files: {first_names(objects, SHOWN)}. Where it was made, save its tensors alone: "
            "checkpoint = torch.load(FILE, weights_only=False), then torch.save of the dict without these "
            "objects"
        )
    if "Unsupported operand" in message:
        return (
            f"{path} is pickled in another way than torch.save does by itself: where it was made, save "
            "it again without pickle_protocol"
        )
    reason = message.rpartition("WeightsUnpickler error: ")[2]  # after torch's advice
    kind = "cannot be read as a PyTorch file"
    if isinstance(error, pickle.UnpicklingError):
        kind = "holds Python objects other than tensors, which are not loaded from other people's files"
    return f"{path} {kind}: {reason[:200]}"


def _other_objects(path: Path, message: str) -> list[str]:
    """Names of the classes and functions in the file that are not loaded; sorted."""
    try:
        with harmless_objects():
            found = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # it is torch.save's older format, or damaged
        found = []
    return sorted(found) or re.findall(r"GLOBAL ([\w.]+)", message)[:1]
