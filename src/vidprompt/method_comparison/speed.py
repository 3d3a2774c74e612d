"""Seconds and peak memory of a training step, in short trainings of all methods in turn.

Each is a process of its own, as its peak memory is the process's; rounds go through all methods, so that what
else the machine does falls on all of them alike. The numbers are of this machine: speed.json is no result.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from vidprompt.config import paths
from vidprompt.data.splits.split_file import write_split
from vidprompt.files.atomic import write_json
from vidprompt.files.hashes import digest
from vidprompt.method_comparison.plan import MethodPlan
from vidprompt.pipeline.sandbox import INPUTS, input_paths, make_sandbox
from vidprompt.pipeline.stage_costs import machine
from vidprompt.sweep.budget import batch_size
from vidprompt.sweep.launch import Launcher, Work
from vidprompt.sweep.plan import Configurations, Job
from vidprompt.sweep.steps import Record, Step

FILE = "speed.json"
ROUNDS, STEPS, WARM_UP = 3, 10, 4  # short trainings of a method, their steps, and those left out


def measure_speed(
    plan: MethodPlan,
    configs: Configurations,
    *,
    again: bool = False,
    command: Sequence[str] = (),
) -> dict[str, Any]:
    """What speed.json holds: the machine, and of each method that is trained `seconds` a step (median, and
    the medians of the rounds), `clips` a step, and `memory_gb` (peak; of the GPU, or of the process).

    Measured anew where methods, configurations or the machine differ from the file's, or `again`. A method
    whose short training fails is left out. Raises Interrupted when stopped.
    """
    run, file = plan.main_run, plan.plan.folder / FILE
    chosen = {method: plan.config(configs, method, run) for method in plan.trained}
    identity = digest(
        [
            machine(),
            run,
            {m: {k: v for k, v in c.values.items() if k != "multirun"} for m, c in chosen.items()},
        ]
    )
    old = _read(file)
    if not again and old.get("identity") == identity:
        return old
    works = [
        _work(plan, method, run, number) for number in range(ROUNDS) for method in plan.trained
    ]

    def prepare(work: Work) -> None:
        config = chosen[work.job.method]
        shutil.rmtree(work.folder, ignore_errors=True)
        make_sandbox(work.folder, {*INPUTS, "cache/backbone", *input_paths(config)})
        split = plan.splits[run]
        write_split(split, work.folder / paths.splits(str(config.dataset.name)) / f"{run}.json")

    failed = Launcher(1, again=True, command=command).run_works("step times", works, prepare)
    rounds: dict[str, list[list[Mapping[str, float]]]] = {}
    for work in works:
        if work.job.name not in failed:
            rounds.setdefault(work.job.method, []).append(
                _steps(work, chosen[work.job.method], run)
            )
    methods = {}
    for method, measured in rounds.items():
        train = plan.splits[run].train
        assert train is not None
        methods[method] = _summary(measured) | {"clips": batch_size(chosen[method], train)}
    result = {
        "identity": identity,
        "machine": machine(),
        "run": run,
        "rounds": ROUNDS,
        "steps": STEPS - WARM_UP,
        "methods": methods,
    }
    write_json(file, result)
    shutil.rmtree(plan.plan.folder / "speed", ignore_errors=True)
    return result


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _work(plan: MethodPlan, method: str, run: str, number: int) -> Work:
    [job, *_] = [job for job in plan.plan.jobs if job.method == method]
    overrides = (
        *job.overrides,
        f"split={run}",
        f"trainer.length={STEPS}",
        "trainer.warmup=0",
        "trainer.milestones=[]",
        "trainer.select=last",
    )
    folder = plan.plan.folder / "speed" / f"{method},{number}"
    out = paths.checkpoint(plan.dataset, method, run)
    step = Step("train", "", overrides, f"train {run}", out, digest([*overrides, number]))
    name = f"{method}, round {number + 1}"
    return Work(Job(name, method, 0, overrides, ()), folder, [step], Record(folder), [step])


def _steps(work: Work, config: Any, run: str) -> list[Mapping[str, float]]:
    folder = work.folder / paths.training(str(config.dataset.name), work.job.method, run)
    lines = (folder / "steps.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines][WARM_UP:]


def _summary(rounds: Sequence[Sequence[Mapping[str, float]]]) -> dict[str, Any]:
    medians = [median(step["step_s"] for step in steps) for steps in rounds]
    return {
        "seconds": round(median(medians), 6),
        "seconds_by_round": [round(one, 6) for one in medians],
        "memory_gb": round(max(step["memory_gb"] for steps in rounds for step in steps), 3),
    }
