"""Make shards in several processes of this machine, with a GPU each if there are any."""

from __future__ import annotations

import multiprocessing
import pickle
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from vidprompt.index.encode import Encoder, EncodeSettings, make_shards
from vidprompt.index.plan import ShardTask
from vidprompt.index.store import IndexInfo
from vidprompt.system.cores import available_cores
from vidprompt.system.errors import TransientError, UserError
from vidprompt.system.machine_errors import machine_error
from vidprompt.system.workers import Workers, deferred_signals, end_with_parent


@dataclass(frozen=True)
class ModelName:
    """What loads a model in another process: the arguments of `vidprompt.load`."""

    model: str
    device: str = "auto"
    weights: str | None = None
    num_frames: int | None = None

    def load(self, rank: int = 0) -> Encoder:
        """The model; process `rank` of this machine has a GPU of its own."""
        import torch

        from vidprompt.prediction.loading import load

        device = self.device
        if device in ("auto", "cuda") and torch.cuda.is_available():
            device = f"cuda:{rank % torch.cuda.device_count()}"
        return load(self.model, device, weights=self.weights, num_frames=self.num_frames)


@dataclass(frozen=True)
class LocalProcesses:
    """A `MakeShards`: `count` processes, each of which loads the model with `load(rank)`."""

    load: Callable[[int], Encoder]
    count: int
    settings: EncodeSettings

    def __call__(
        self,
        tasks: Sequence[ShardTask],
        index: Path,
        folder: Path,
        info: IndexInfo,
        advance: Callable[[int], None],
    ) -> int:
        """Raises what a process raised, TransientError when one was killed."""
        context = multiprocessing.get_context("spawn")
        count = min(self.count, len(tasks))
        threads = max(1, available_cores() // count)
        encoded = 0
        with Workers():
            pipes: dict[Any, Any] = {}
            for rank in range(count):
                ours, theirs = context.Pipe(duplex=False)
                own = (list(tasks[rank::count]), index, folder, info)
                process = context.Process(
                    target=_work, args=(theirs, self.load, rank, threads, self.settings, own)
                )
                with (
                    deferred_signals()
                ):  # a signal to the group comes to the parent, which ends them
                    process.start()
                theirs.close()
                pipes[ours] = process
            while pipes:
                for pipe in wait(list(pipes)):
                    assert isinstance(pipe, Connection)
                    try:
                        kind, value = pipe.recv()
                    except EOFError:
                        process = pipes.pop(pipe)
                        process.join()
                        raise TransientError(_ending(process.exitcode)) from None
                    if kind == "advance":
                        advance(value)
                    elif kind == "done":
                        encoded += value
                        pipes.pop(pipe).join()
                    else:
                        raise value
        return encoded


def _work(
    pipe: Any,
    load: Callable[[int], Encoder],
    rank: int,
    threads: int,
    settings: EncodeSettings,
    task: tuple[list[ShardTask], Path, Path, IndexInfo],
) -> None:
    """The main function of a process."""
    end_with_parent()
    import torch

    torch.set_num_threads(threads)
    tasks, index, folder, info = task
    try:
        model = load(rank)
        count = make_shards(
            tasks, model, index, folder, info, settings, lambda n: pipe.send(("advance", n))
        )
    except Exception as error:
        found = machine_error(error) or error
        try:
            pickle.loads(pickle.dumps(found))  # noqa: S301
        except Exception:
            found = UserError(f"{type(error).__name__}: {error}")
        pipe.send(("raised", found))
    else:
        pipe.send(("done", count))


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        how = f"was ended by {signal.Signals(-code).name}"
    else:
        how = f"ended with exit status {code}"
    return (
        f"a process that embeds {how} (when memory is short, the system does that). What is finished is "
        "kept: run the same again, with fewer --processes or --workers if memory is short"
    )
