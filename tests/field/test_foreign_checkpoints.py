"""Checkpoints as other people's trainers save them: objects beside the weights."""

from __future__ import annotations

import argparse
import collections
import datetime
import os
import random
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
import pytest
import torch
from tests.models.small import small_backbone

from vidprompt.models.backbones.loading import _load_weights
from vidprompt.models.foreign_checkpoint import load_foreign
from vidprompt.published.files import SIGNATURES, read_published
from vidprompt.system.errors import UserError

WEIGHTS = {SIGNATURES["ez_clip"]: torch.arange(3.0)}
HARMLESS = {
    "namespace": argparse.Namespace(
        lr=1, out=Path("/logs"), best=np.float64(52.9), nested={"a": [1]}
    ),
    "scalars": [
        np.float32(1),
        np.int64(2),
        np.bool_(True),
        np.str_("x"),
        np.datetime64("2024-01-01"),
    ],
    "arrays": [np.arange(3.0), np.array(["a", None], object), np.zeros((2, 0)), np.zeros((3, 2)).T],
    "dtypes": [np.dtype("f4"), np.dtype([("a", "i8"), ("b", "O")]), np.float32],
    "random states": [random.getstate(), np.random.get_state(), torch.get_rng_state()],
    "paths": {Path("a/b"): 1, "c": PureWindowsPath("d:/e")},
    "containers": [
        collections.OrderedDict(a=1),
        collections.Counter("ab"),
        {1},
        frozenset(),
        b"",
        range(3),
    ],
    "dates": [datetime.datetime(2024, 1, 2), datetime.timedelta(seconds=3)],
}


class Config(dict[str, Any]):
    """A class of the trainer's own, as yacs and DotMap have them."""


class Code:
    """Runs a function where it is unpickled."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.reduced = function, arguments

    def __reduce__(self) -> Any:
        return self.reduced


def saved(folder: Path, beside: Any, **options: Any) -> Path:
    path = folder / "foreign.pt"
    torch.save({"model_state_dict": WEIGHTS, "epoch": 3, "args": beside}, path, **options)
    return path


@pytest.mark.parametrize("old_format", [False, True])
@pytest.mark.parametrize("name", HARMLESS)
def test_weights_are_read_whatever_harmless_is_beside(
    name: str, old_format: bool, tmp_path: Path
) -> None:
    path = saved(tmp_path, HARMLESS[name], _use_new_zipfile_serialization=not old_format)
    before = set(torch.serialization.get_safe_globals())
    method, state = read_published(path)
    assert method == "ez_clip"
    assert torch.equal(state[SIGNATURES["ez_clip"]], torch.arange(3.0))
    assert set(torch.serialization.get_safe_globals()) == before  # in this file only


def test_names_of_other_versions_of_numpy_and_python_are_known(tmp_path: Path) -> None:
    path = saved(tmp_path, [np.float64(1), Path("a")], _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    modules = ["pathlib", "pathlib._local"]  # until Python 3.12, and in 3.13
    modules.sort(key=type(Path("a")).__module__.__ne__)
    for here, there in (
        (b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"),
        tuple(f"c{module}\n".encode() for module in modules),
        (b"PosixPath\n", b"WindowsPath\n"),
    ):
        assert here in content
        content = content.replace(here, there)
    path.write_bytes(content)
    assert read_published(path)[0] == "ez_clip"


def test_nothing_is_kept_of_what_is_beside(tmp_path: Path) -> None:
    args = load_foreign(saved(tmp_path, argparse.Namespace(lr=1)))["args"]
    assert not isinstance(args, argparse.Namespace)
    assert vars(args) == {}


@pytest.mark.parametrize("old_format", [False, True])
@pytest.mark.parametrize(
    ("beside", "names"),
    [
        (Config(lr=1), "test_foreign_checkpoints.Config"),
        (argparse.Namespace(config=Config(lr=1)), "test_foreign_checkpoints.Config"),
        (torch.nn.Linear(1, 1), "torch.nn.modules.linear.Linear"),
        (Code(os.system, "touch evil"), "posix.system"),
        (Code(eval, "open('evil', 'w')"), "eval"),
        (Code(np.lib.format.open_memmap, "evil"), "open_memmap"),
    ],
)
def test_other_objects_are_named_and_not_built(
    beside: Any, names: str, old_format: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = saved(tmp_path, beside, _use_new_zipfile_serialization=not old_format)
    with pytest.raises(UserError) as error:
        read_published(path)
    message = str(error.value)
    assert str(path) in message
    assert names in message
    assert "holds Python objects other than tensors" in message
    assert "\x1b" not in message
    assert "\n" not in message
    assert not (tmp_path / "evil").exists()


def test_another_pickle_protocol_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="save it again without pickle_protocol") as error:
        read_published(saved(tmp_path, 1, pickle_protocol=5))
    assert "\x1b" not in str(error.value)


def test_a_damaged_pickle_is_a_sentence(tmp_path: Path) -> None:
    path = saved(tmp_path, argparse.Namespace(lr=1), _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    messages = set()
    for at in range(150, len(content), 61):
        path.write_bytes(content[:at] + b"R" + content[at + 1 :])
        try:
            read_published(path)
        except UserError as error:
            messages.add(str(error))
    assert messages
    assert not [message for message in messages if "\x1b" in message or "\n" in message]


def test_a_backbones_file_may_have_harmless_objects_too(tmp_path: Path) -> None:
    clip = small_backbone().clip
    path, state = tmp_path / "clip.pt", clip.state_dict()
    torch.save({"state_dict": state, "args": argparse.Namespace(lr=np.float32(1))}, path)
    _load_weights(clip, path, "small")
    torch.save({"state_dict": state, "args": Config(lr=1)}, path)
    with pytest.raises(UserError, match="test_foreign_checkpoints.Config"):
        _load_weights(clip, path, "small")
