"""A small /dev/shm, as Docker gives: batches pass through pipes, or the sentence says what to do."""

from __future__ import annotations

import errno
import os
import subprocess
from multiprocessing import resource_sharer
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.field.small_project import OVERRIDES, make_project, run_stage
from tests.pipeline.project import environment

from vidprompt.data.clips import loading
from vidprompt.data.clips.loading import load_batches
from vidprompt.system import machine_errors
from vidprompt.system.errors import DataError, TransientError
from vidprompt.system.machine_errors import machine_error


class Numbered(torch.utils.data.Dataset):
    """Items (tensor, int); item 9 is a mistake in the data."""

    def __getitem__(self, item: int) -> tuple[torch.Tensor, int]:
        if item == 9:
            raise DataError("v.mp4: frame 3 is\nDataError: damaged")
        return torch.full((2, 3), item, dtype=torch.uint8), item


def default_collated(items: Any, _stack: Any) -> Any:
    return torch.utils.data.default_collate(items)


def test_batches_through_pipes_are_the_same(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(loading, "free_shared_memory", lambda: 1000)
    plan = [[0, 1], [2, 3], [4], [9]]
    loaded = load_batches(
        Numbered(), plan, 1, collate=default_collated, pin_memory=False, batch_bytes=600
    )
    for numbers in plan[:3]:
        clips, labels = next(loaded)
        assert clips.tolist() == [[[n] * 3] * 2 for n in numbers]
        assert (clips.dtype, labels.tolist()) == (torch.uint8, numbers)
        assert not clips.is_shared()
        clips += 1  # it is its own memory
    assert "batches pass through pipes" in caplog.text
    with pytest.raises(DataError) as caught:
        next(loaded)
    assert "damaged" in str(caught.value)
    assert "Traceback" not in str(caught.value)


@pytest.mark.parametrize(
    ("free", "wanted", "processes", "fits"),
    [
        (None, 100 << 20, 1, True),  # no /dev/shm: another system
        (64 << 20, 72 << 20, 1, False),  # Docker's
        (64 << 20, 24 << 20, 1, True),
        (64 << 20, 24 << 20, 4, False),  # of four processes
        (1 << 30, 72 << 20, 4, True),
    ],
)
def test_what_fits(
    monkeypatch: pytest.MonkeyPatch, free: int | None, wanted: int, processes: int, fits: bool
) -> None:
    monkeypatch.setattr(loading, "free_shared_memory", lambda: free)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    assert loading._fits_shared_memory(wanted) == fits


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),  # a semaphore
        RuntimeError(
            "unable to allocate shared memory(shm) for file </torch_1_2_0>: No space left on device (28)"
        ),
        RuntimeError("unable to open shared memory object </torch_1_2_0> in read-write mode"),
        RuntimeError(
            "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's "
            "workers are out of shared memory. Please try to raise your shared memory limit."
        ),
    ],
)
def test_what_says_that_it_is_small(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    monkeypatch.setattr(machine_errors, "free_shared_memory", lambda: 0)
    message = str(machine_error(error))
    assert message.startswith("/dev/shm ")
    assert "--shm-size=1g" in message
    assert "trainer.workers" in message


def test_other_errors_of_memory_and_workers_say_what_they_are() -> None:
    text = "[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried"
    for error in (
        MemoryError(),
        RuntimeError(text),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ):
        assert "smaller trainer.batch_size" in str(machine_error(error))
    killed = machine_error(RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "))
    assert isinstance(killed, TransientError)
    assert "a loading process (7) was ended by a signal (Killed)" in str(killed)
    lost = machine_error(RuntimeError("DataLoader worker (pid(s) 7, 8) exited unexpectedly"))
    assert isinstance(lost, TransientError)
    assert "a loading process (7, 8) ended unexpectedly" in str(lost)
    gpu = RuntimeError("out of resource: shared memory, Required: 164096, Hardware limit: 101376")
    assert machine_error(gpu) is None
    full = OSError(errno.ENOSPC, "No space left on device", "models/x")
    assert "models/x cannot be written" in str(machine_error(full))


def test_a_batch_of_a_worker_that_has_gone_is_a_sentence() -> None:
    """The parts of a batch are fetched from its maker: who is killed in between refuses the connection."""
    sharer = resource_sharer._ResourceSharer()
    address, key = sharer.register(lambda _connection, _pid: None, lambda: None)
    sharer.stop()
    with pytest.raises(OSError) as caught:
        resource_sharer._ResourceSharer.get_connection((address, key))
    assert isinstance(machine_error(caught.value), TransientError)
    assert machine_error(ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")) is None


@pytest.mark.slow  # half a minute; where a user may mount a file system
@pytest.mark.parametrize(("size", "code"), [("48k", 2), ("64k", 0), ("1m", 0)])
def test_a_training_in_a_container(tmp_path: Path, size: str, code: int) -> None:
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system")
    make_project(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        for stage in ("manifest", "splits", "frames"):
            run_stage(stage)
    mounted = f'mount -t tmpfs -o size={size} tmpfs /dev/shm && exec vidprompt train "$@"'
    done = subprocess.run(
        [*("unshare", "-m", "bash", "-c", mounted, "bash", *OVERRIDES), "trainer.workers=2"],
        cwd=tmp_path,
        env=environment() | {"TMPDIR": os.environ.get("TMPDIR", str(tmp_path))},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == code, done.stderr
    # the semaphores take 56 kB; after the sentence PyTorch says that its half-made loader cannot be collected
    said = done.stderr.partition("Exception ignored in")[0]
    assert "Traceback" not in said
    assert ("vidprompt: /dev/shm has" in said) == (code == 2)
    assert ("--shm-size=1g" in said) == (size != "1m")  # what passes through pipes takes longer
