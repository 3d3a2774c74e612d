"""Processes that are lost: what it costs, and what it does not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from vidprompt.data.workers.isolated import TaskResult, isolated_map, isolated_map_unordered


def killed_once(marker: Path) -> Iterator[str]:
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    yield "done"


def killed(name: str) -> Iterator[str]:
    if name == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if name == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    yield "begun"
    if name == "later":
        os.kill(os.getpid(), signal.SIGKILL)


def hungry(megabytes: int) -> Iterator[int]:
    yield len(bytearray(megabytes * 2**20)) // 2**20


def slow(seconds: float) -> Iterator[float]:
    time.sleep(seconds)
    yield seconds


def unstartable(_item: int) -> Iterator[int]:
    yield 0


def test_a_piece_whose_process_was_killed_is_tried_once_more(tmp_path: Path) -> None:
    outcomes = list(isolated_map(killed_once, [tmp_path / "a", tmp_path / "b"], 1, 60))
    assert outcomes == [TaskResult("done"), TaskResult("done")]


def test_what_kills_every_process_that_tries_it_is_lost_alone() -> None:
    items = ["fine", "segfault", "kill", "later", "fine too"]
    outcomes = list(isolated_map(killed, items, 2, 60))
    assert [o.failure for o in outcomes] == [None, "crashed", "crashed", "crashed", None]
    assert [o.value for o in outcomes] == ["begun", None, None, "begun", "begun"]
    assert "twice (SIGSEGV)" in outcomes[1].detail
    # a crash will come again; who was killed from outside may be spared another time
    assert [o.killed for o in outcomes] == [False, False, True, True, False]


def test_memory_is_limited_for_each_piece() -> None:
    outcomes = list(isolated_map(hungry, [10, 250, 20, 30], 1, 60, memory_mb=100))
    assert [o.value for o in outcomes] == [10, None, 20, 30]
    assert (outcomes[1].failure, outcomes[1].detail) == (
        "out_of_memory",
        "It wanted more memory than it could have (the limit is 100 MB).",
    )
    assert [o.value for o in isolated_map(hungry, [250], 1, 60)] == [250]


def test_what_is_done_first_is_told_first() -> None:
    seconds = [1.0, 0.0, 0.01, 0.02]
    order = [index for index, _ in isolated_map_unordered(slow, seconds, 2, 60)]
    assert order == [1, 2, 3, 0]
    assert [o.value for o in isolated_map(slow, seconds, 2, 60)] == seconds


def test_not_more_is_begun_than_asked_for() -> None:
    began = time.monotonic()
    first = next(isolated_map(slow, [0.0, *[30.0] * 4], 1, 60, ahead=1))
    assert first.value == 0.0
    assert time.monotonic() - began < 20


def test_processes_that_cannot_start_are_an_error_and_no_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("vidprompt.data.workers.worker._START_LIMIT_S", 0.0)
    with pytest.raises(RuntimeError, match="did not start"):
        list(isolated_map(unstartable, [1], 1, 60))


def test_no_process_outlives_a_parent_that_was_killed(tmp_path: Path) -> None:
    """Each would go on with a decoder that hangs."""
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "from test_isolated_workers import hang\n"
        "from vidprompt.data.workers.isolated import isolated_map\n"
        "if __name__ == '__main__':\n"
        "    list(isolated_map(hang, [Path(sys.argv[2])], 1, 600))\n"
    )
    script = tmp_path / "script.py"
    script.write_text(code)
    note = tmp_path / "worker"
    parent = subprocess.Popen([sys.executable, script, Path(__file__).parent, note])
    worker = int(_wait_for(lambda: note.read_text("utf-8") if note.exists() else ""))
    parent.kill()
    parent.wait()
    _wait_for(lambda: "gone" if not Path(f"/proc/{worker}/cmdline").exists() else "")


def hang(note: Path) -> Iterator[None]:
    note.write_text(str(os.getpid()), encoding="utf-8")
    time.sleep(600)
    yield None


def _wait_for(ask, limit_s: float = 30.0) -> str:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + limit_s
    while not (answer := ask()):
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.05)
    return answer
