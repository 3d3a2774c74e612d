"""Runs the jobs of a plan as processes, several at once; a job that fails does not stop the others."""

from __future__ import annotations

import logging
import os
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from vidprompt.sweep.plan import MULTIRUNS, Configurations, Job, Plan
from vidprompt.sweep.steps import RECORD, Record, Step, prepare, steps_of, take
from vidprompt.system.cores import available_cores
from vidprompt.system.errors import UserError
from vidprompt.system.interruption import Interrupted, Interruption
from vidprompt.system.locks import exclusive_lock
from vidprompt.system.progress import Progress

logger = logging.getLogger(__name__)

LOG = "log.txt"
VIDPROMPT = (sys.executable, "-m", "vidprompt.cli")  # each stage has its own memory and state
POLL_S = 0.2  # how often an interruption is checked for
OTHER_PROCESS = "another process runs this job"  # why a job failed


@dataclass(frozen=True)
class Work:
    """A job with its steps, and those of them that have to run."""

    job: Job
    folder: Path
    steps: list[Step]
    record: Record
    pending: list[Step]


def work_of(plan: Plan, configs: Configurations, *, again: bool = False) -> list[Work]:
    """The steps to run of each job; `again`: finished steps, too. Writes nothing."""
    works = []
    for job in plan.jobs:
        folder = plan.folder / job.name
        steps, record = steps_of(job, plan.protocols, configs), Record(folder)
        works.append(Work(job, folder, steps, record, steps if again else record.pending(steps)))
    return works


def pending_steps(
    plan: Plan, configs: Configurations, *, again: bool = False
) -> dict[str, list[str]]:
    """Job → titles of its steps to run, see `work_of`."""
    works = work_of(plan, configs, again=again)
    return {work.job.name: [step.title for step in work.pending] for work in works}


class Launcher:
    """Runs the pending steps, `jobs` jobs at once.

    A training that another multirun has run with equal configuration, data and code is copied from
    there, unless `again`. `command` (default: vidprompt) gets a step's stage and overrides as arguments.
    Threads of a step: `OMP_NUM_THREADS`, or an even share of the cores. Of several jobs at once each has a
    GPU of its own, as long as there are as many.
    """

    def __init__(self, jobs: int = 1, *, again: bool = False, command: Sequence[str] = ()) -> None:
        self.jobs, self.again, self.command = jobs, again, list(command or VIDPROMPT)
        threads = str(max(1, available_cores() // jobs))
        self.environment = {"OMP_NUM_THREADS": threads} | os.environ
        self._gpus = _gpus_in_turn(jobs)
        self._trained: dict[str, Path] = {}
        self._stop = threading.Event()
        self._lock = threading.Lock()  # of what follows
        self._live: dict[str, subprocess.Popen[bytes]] = {}  # by the job's name
        self._ended: set[int] = set()  # processes that `watch` ended

    def run(self, plan: Plan, works: Sequence[Work], configs: Configurations) -> dict[str, str]:
        """Run the jobs of a plan; see `run_works`."""

        def prepared(work: Work) -> None:
            prepare(work.folder, work.job, plan.protocols, configs)

        return self.run_works(plan.name, works, prepared)

    def run_works(
        self, title: str, works: Sequence[Work], prepare: Callable[[Work], None]
    ) -> dict[str, str]:
        """Run all pending steps; returns job → why it failed. `prepare` makes a job's folder ready.

        Raises Interrupted on a signal: finished steps stay finished, and the next run resumes a training
        from its last snapshot.
        """
        todo = [work for work in works if work.pending]
        for work in todo:  # in this thread: Hydra is not thread-safe
            prepare(work)
        failed: dict[str, str] = {}

        def finished(work: Work, why: str) -> None:
            if why:
                failed[work.job.name] = why

        total = sum(len(work.pending) for work in todo)
        self.run_each(title, total, iter(todo), finished)
        return {work.job.name: failed[work.job.name] for work in todo if work.job.name in failed}

    def run_each(
        self,
        title: str,
        total: int,
        works: Iterator[Work],
        finished: Callable[[Work, str], None],
        watch: Callable[[Work], bool] | None = None,
    ) -> None:
        """Run prepared jobs as they come: the next is taken from `works` when a place is free.

        `total` is the number of steps; `finished` gets each job and why it failed (empty: it did not);
        `watch` is asked about each running job five times a second, and its step is ended where it is true.
        All three are called in this thread. Raises Interrupted as `run_works`.
        """
        for file in [] if self.again else sorted(MULTIRUNS.glob(f"*/*/{RECORD}")):
            self._trained |= Record(file.parent).trained()
        futures: dict[Future[str], Work] = {}
        left = True
        with (
            Progress(title, total, unit="steps") as progress,
            Interruption() as interruption,
            ThreadPoolExecutor(self.jobs) as pool,
        ):
            try:
                while left or futures:
                    while left and len(futures) < self.jobs:
                        work = None if self._stop.is_set() else next(works, None)
                        left = work is not None
                        if work is not None:
                            futures[pool.submit(self._job, work, progress)] = work
                    done, _ = wait(futures, POLL_S, FIRST_COMPLETED)
                    for one in done:
                        finished(futures.pop(one), one.result())
                    for work in futures.values() if watch else ():
                        if watch is not None and watch(work):
                            self._end_step(work)
                    if interruption.requested and not self._stop.is_set():
                        self._end()
            except BaseException:
                self._end()  # the pool waits for what runs
                raise
        if interruption.number is not None:
            raise Interrupted("stopped; the same command resumes it", interruption.number)

    def _job(self, work: Work, progress: Progress) -> str:
        """Run a job's pending steps; returns why some failed, empty for success.

        After a step that failed, those that do not need it are run all the same.
        """
        began, name = time.monotonic(), work.job.name
        environment, gpu = self.environment, self._gpus.get()
        if gpu is not None:
            environment = environment | {"CUDA_VISIBLE_DEVICES": gpu}
        failed: dict[str, str] = {}  # title → why; empty: it needs one that failed
        with ExitStack() as held:
            held.callback(self._gpus.put, gpu)
            try:
                lock = held.enter_context(exclusive_lock(work.folder))
            except UserError:
                return OTHER_PROCESS
            if not self._stop.is_set():
                work.record.forget(work.pending, work.job)
            for step in work.pending:
                status, why = None, ""
                if failed.keys() & set(step.needs):
                    failed[step.title] = ""
                elif not self._stop.is_set():
                    status = self._step(work, step, lock.fileno(), environment)
                if self._stop.is_set() and status != 0:
                    return "stopped"
                if status == 0 and (work.folder / step.folder / step.output).exists():
                    work.record.add(step, work.job)
                elif status is not None:
                    problem = (
                        _last_line(work.folder / LOG) if status else f"it left no {step.output}"
                    )
                    why = failed[step.title] = f"{step.title}: {problem} ({work.folder / LOG})"
                    logger.error(f"failed {name}: {why}")
                with self._lock:
                    progress.advance()
        if not failed:
            logger.info(f"done {name} ({time.monotonic() - began:.0f} s)")
        return "; ".join(why for why in failed.values() if why)

    def _step(self, work: Work, step: Step, lock: int, environment: Mapping[str, str]) -> int:
        """Run a step; returns its exit status. It inherits the lock, as it may outlive a killed parent."""
        with (work.folder / LOG).open("ab") as log:
            command = shlex.join(["vidprompt", step.stage, *step.overrides])
            log.write(f"$ {command}\n".encode())
            home = self._trained.get(step.identity)
            if home is not None and take(step, home, work.folder):
                log.write(f"taken from {home}\n".encode())
                return 0
            log.flush()
            with self._lock:
                if self._stop.is_set():
                    return 1
                process = subprocess.Popen(
                    [*self.command, step.stage, *step.overrides],
                    cwd=work.folder / step.folder,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    pass_fds=[lock],
                    start_new_session=True,  # Ctrl-C reaches it once, from here
                )
                self._live[work.job.name] = process
            try:
                return process.wait()
            finally:
                with self._lock:
                    del self._live[work.job.name]

    def _end(self) -> None:
        with self._lock:
            self._stop.set()
            for process in self._live.values():
                process.terminate()

    def _end_step(self, work: Work) -> None:
        """End the running step of a job, by one signal: a training writes a snapshot first."""
        with self._lock:
            process = self._live.get(work.job.name)
            if process is not None and process.pid not in self._ended:
                self._ended.add(process.pid)
                process.terminate()


def _gpus_in_turn(jobs: int) -> SimpleQueue[str | None]:
    """The GPU of each job at once, as CUDA_VISIBLE_DEVICES names it; None: all that there are."""
    gpus: list[str] = []
    if jobs > 1:
        import torch

        named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        gpus = named.split(",") if named else [str(i) for i in range(torch.cuda.device_count())]
    queue: SimpleQueue[str | None] = SimpleQueue()
    for job in range(jobs):
        queue.put(gpus[job % len(gpus)] if gpus else None)
    return queue


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text("utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1].removeprefix("vidprompt: ") if lines else "no output"
