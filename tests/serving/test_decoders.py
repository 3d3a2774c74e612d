"""Processes that hang, die or take too much memory cost their request alone."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from vidprompt.serving.batching import Batcher
from vidprompt.serving.capacity import Capacity
from vidprompt.serving.decoders import DecoderPool, DecodingError
from vidprompt.serving.errors import RequestError
from vidprompt.system.errors import DataError


def act(item: str) -> Iterator[str]:
    if item == "hang":
        time.sleep(60)
    if item == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if item == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if item == "fill":
        held = bytearray(2**31)
        yield str(len(held))
    if item == "refuse":
        raise DataError("it is no video")
    yield "first"
    yield f"done {item} in {os.getpid()}"


@pytest.fixture(scope="module")
def lost() -> list[str]:
    return []


@pytest.fixture(scope="module")
def pool(lost: list[str]) -> Iterator[DecoderPool[str, str]]:
    pool = DecoderPool(act, 2, 300, on_loss=lost.append)
    pool.start()
    yield pool
    pool.close()
    with pytest.raises(DecodingError, match="stopping"):
        list(pool.values("a", 5))


def run(pool: DecoderPool[str, str], *items: str, timeout_s: float = 20) -> list[Any]:
    async def all_of_them() -> list[Any]:
        runs = [pool.run(item, timeout_s) for item in items]
        return await asyncio.gather(*runs, return_exceptions=True)

    return asyncio.run(all_of_them())


def test_more_items_than_processes(pool: DecoderPool[str, str]) -> None:
    results = run(pool, *"abcdefgh")
    assert [result.split(" in ")[0] for result in results] == [f"done {x}" for x in "abcdefgh"]
    assert len({result.split(" in ")[1] for result in results}) <= 2


def test_an_item_that_fails_costs_itself(pool: DecoderPool[str, str], lost: list[str]) -> None:
    began = time.monotonic()
    results = run(pool, "refuse", "crash", "hang", "fill", "a", "killed", "b", timeout_s=1.5)
    assert time.monotonic() - began < 30
    reasons = [getattr(result, "reason", "") for result in results]
    assert reasons == ["raised", "crashed", "timed_out", "out_of_memory", "", "crashed", ""]
    assert str(results[0]) == "it is no video"
    assert "SIGSEGV" in str(results[1])
    assert str(results[2]) == "it was not decoded within 1.5 s"
    assert "300 MB" in str(results[3])
    # one that something outside killed is tried a second time
    assert sorted(lost) == ["crashed", "crashed", "crashed", "out_of_memory", "timed_out"]


def test_values_come_one_by_one_and_may_be_left(pool: DecoderPool[str, str]) -> None:
    values = pool.values("a", 20)
    assert next(values) == "first"
    values.close()
    assert run(pool, "b")[0].startswith("done b")


def test_a_batch_takes_what_waits_and_a_bad_item_fails_alone() -> None:
    batches: list[int] = []

    def double(items: Any) -> list[int]:
        if 3 in items:
            raise ValueError("three")
        return [2 * item for item in items]

    async def work() -> list[Any]:
        batcher = Batcher(double, 4, 0.05, None, batches.append)  # type: ignore[arg-type]
        batcher.start()
        results = await asyncio.gather(*map(batcher, range(6)), return_exceptions=True)
        await batcher.close()
        return results

    results = asyncio.run(work())
    assert [results[k] for k in (0, 1, 2, 4, 5)] == [0, 2, 4, 8, 10]
    assert isinstance(results[3], ValueError)
    assert batches == [4, 1, 1, 1, 1, 2]


def test_one_request_too_many_is_told_when_to_come_again() -> None:
    capacity = Capacity(2)
    with capacity.admit(), capacity.admit():
        with pytest.raises(RequestError) as refused, capacity.admit():
            pass
        assert refused.value.status == 429
        assert 1 <= int(refused.value.headers["Retry-After"]) <= 60
    with capacity.admit():
        assert capacity.running == 1
    capacity.stopping = True
    with pytest.raises(RequestError, match="stopping"), capacity.admit():
        pass
