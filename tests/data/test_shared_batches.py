"""Batches in shared memory that is used again: right values for as long as the caller uses them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

import pytest
import torch

from vidprompt.data.clips.loading import load_batches
from vidprompt.data.clips.shared_batches import SharedBatches, Stack, stack


def stacked(items: Any, stack: Stack) -> torch.Tensor:
    return stack(items)


def numbered(value: int, count: int = 2) -> list[torch.Tensor]:
    return [torch.full((3, 4), value, dtype=torch.uint8)] * count


class Numbered(torch.utils.data.Dataset):
    """Items are pictures of their number."""

    def __getitem__(self, item: int) -> torch.Tensor:
        return numbered(item)[0]


def test_memory_is_used_in_turn() -> None:
    make = SharedBatches(stacked, batches=3, batch_bytes=24)
    made = [make(numbered(value)) for value in range(3)]
    assert [batch.unique().tolist() for batch in made] == [[0], [1], [2]]
    assert all(batch.is_shared() for batch in made)
    fourth = make(numbered(3))
    assert [batch.unique().tolist() for batch in made] == [[3], [1], [2]]
    assert fourth.data_ptr() == made[0].data_ptr()
    last = make(numbered(4, count=1))  # an epoch's last batch is smaller
    assert last.shape == (1, 3, 4)
    assert last.unique().tolist() == [4]


def test_what_does_not_fit_has_memory_of_its_own() -> None:
    make = SharedBatches(stacked, batches=1, batch_bytes=24)
    large, small = make(numbered(7, count=3)), make(numbered(8))
    assert (large.unique().tolist(), small.unique().tolist()) == ([7], [8])


def test_parts_of_a_batch_do_not_overlap() -> None:
    def parts(items: Any, put: Stack) -> list[torch.Tensor]:
        return [put(items[:1]), put([one[0, :3] for one in items]), put([torch.ones(2) / 3])]

    make = SharedBatches(parts, batches=1, batch_bytes=28)
    found = make(numbered(5))
    expected = parts(numbered(5), stack)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    start, end = found[0].data_ptr(), found[0].data_ptr() + 28
    assert [start <= part.data_ptr() < end for part in found] == [True, True, True]


@pytest.mark.parametrize("in_use", [1, 3])
def test_batches_keep_their_values_while_they_are_in_use(in_use: int) -> None:
    """However far ahead the loading process is."""
    plan = [[number, number] for number in range(12)]
    loaded = load_batches(
        Numbered(), plan, 1, collate=stacked, pin_memory=False, batch_bytes=24, in_use=in_use
    )
    used: deque[torch.Tensor] = deque(maxlen=in_use)
    for number, batch in enumerate(loaded):
        used.append(batch)
        time.sleep(0.05)  # the process makes what it may
        expected = [[value] for value in range(max(0, number + 1 - in_use), number + 1)]
        assert [one.unique().tolist() for one in used] == expected
        assert batch.is_shared()
    assert number == 11


PROGRAM = """
from tests.data.test_shared_batches import Numbered, stacked
from vidprompt.data.clips.loading import load_batches

if __name__ == "__main__":
    loaded = load_batches(
        Numbered(), [[0]] * 9, 1, collate=stacked, pin_memory=False, batch_bytes=12
    )
    batch = next(loaded)
    held = [loaded]
    held.append(held)  # collected at Python's very end
    raise ValueError("seen")
"""


def test_a_program_ends_whose_loader_is_open(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM, encoding="utf-8")
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, tmp_path / "program.py"], capture_output=True, text=True, timeout=60,
        env=os.environ | {"PYTHONPATH": f"{root / 'src'}{os.pathsep}{root}"},
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.rstrip().endswith("ValueError: seen")
