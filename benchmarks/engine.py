"""The training engine: what it adds to a step, memory against batch size, two processes, a GPU.

    python benchmarks/engine.py                         # about 6 minutes on two cores
    python benchmarks/engine.py --parts overhead        # one part alone; writes no file
    python benchmarks/engine.py --quick                 # a try; writes no file

On a GPU: benchmarks/gpu.py.

The real `vidprompt.training.engine.train` in processes of its own, on batches of noise in memory: the
demo's backbone with the demo's recipe (24 clips of 8 frames at 48), ViT-B/16 with random weights as
released but in float32 (8 frames at 224), both with 48 classes, the demo's number; with 400, as
published, Vita-CLIP's texts take more time and the engine's share is smaller.

overhead    the share of a step's wall time outside the model's forward (`prepare`, `encode_video`,
            `loss_terms`), the backward pass and torch's optimiser step. A step lasts from one asking for
            a batch to the next, so snapshots, the step log and the live bar (drawn on a pseudo-terminal)
            count. ViT-B/16 takes too few steps here for a snapshot every `save_every`: of both one is
            timed where it is written, and counted 1 / `save_every` in a step. Waiting for data (there
            is none in memory) is a figure beside and no part of it.
memory      the maximum resident set of two steps, minus the set before them (interpreter, weights), in
            GB, a process with one thread each. 8 clips in 4 parts (`micro_batches`) keep what 2 clips
            keep, and the pixels and features of 8.
processes   clips/s of 1 process with 1 and 2 threads and of 2 processes (gloo) with 1 thread each, equal
            batch of 24, turns taken; the ratios are to the first. Each process encodes the texts of the
            whole batch, so that part is not shared. Losses are compared as logged, with 7 digits.

Writes `benchmarks/results/engine.json`.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.machine import ROOT, provenance
from benchmarks.training_runs import (
    INSIDE,
    METHODS,
    Clock,
    Setting,
    in_memory,
    terminal,
    timing,
    trained,
    watched,
)

from vidprompt.system.launch import _environments

OUT = ROOT / "benchmarks/results/engine.json"
WARM_UP = 1  # steps that do not count
NAMES = {"demo": "demo backbone", "vit": "ViT-B/16"}
LIMITS = {  # at most
    "overhead, demo backbone": 0.05,
    "overhead, ViT-B/16": 0.02,
    "memory, 8 clips in 4 parts / 2 clips": 1.25,
}
WAYS = {  # processes, threads of each
    "1 process, 1 thread": (1, 1),
    "1 process, 2 threads": (1, 2),
    "2 processes, 1 thread each": (2, 1),
}


# -- in a process of its own ----------------------------------------------------------------------


def overhead_of(setting: Setting) -> dict[str, Any]:
    """Milliseconds a step by where they go, and the share outside the model and the optimiser."""
    config, clock = setting.config(), Clock()
    usual = int(config.trainer.save_every)
    settings, objective = setting.settings(config), setting.objective(config)
    source = in_memory(setting, settings, objective)
    with timing(objective, clock), terminal():
        log = trained(objective, watched(source, clock), settings)
    plain_steps: list[dict[str, float]] = []
    saving: list[float] = []
    for number, (step, line) in enumerate(zip(clock.steps(), log, strict=False), 1):
        step["data"] = line["data_s"]
        step["outside"] = step["whole"] - sum(step[name] for name in ("data", *INSIDE))
        if not number % settings.save_every:
            saving.append(step["outside"])
        elif number > WARM_UP:
            plain_steps.append(step)
    means = {k: sum(s[k] for s in plain_steps) / len(plain_steps) for k in plain_steps[0]}
    usually = median(step["outside"] for step in plain_steps)
    snapshot = max(0.0, median(saving) - usually)
    outside, whole = means["outside"] + snapshot / usual, means["whole"] + snapshot / usual
    return {
        "steps": len(plain_steps),
        "ms a step": {k: round(1000 * v, 2) for k, v in means.items()},
        "ms a snapshot": round(1000 * snapshot, 1),
        "save_every": usual,
        "share outside": round(outside / whole, 4),
        "share waiting for data": round(means["data"] / whole, 4),
    }


def memory_of(setting: Setting) -> dict[str, Any]:
    """GB that a run takes beyond what was there before it."""
    config = setting.config()
    settings, objective = setting.settings(config), setting.objective(config)
    source = in_memory(setting, settings, objective, first=1)  # after that AdamW has its moments
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the maximum begins anew
    before = resident_gb("VmRSS")
    trained(objective, source, settings)
    return {"before": round(before, 3), "training": round(resident_gb("VmHWM") - before, 3)}


def resident_gb(field: str) -> float:
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(field))) * 1024 / 1e9


def rate_of(setting: Setting) -> dict[str, Any]:
    """Seconds of each step of this process's run, by method, and the losses (of the first process)."""
    found: dict[str, Any] = {}
    for method in METHODS:
        one, clock = replace(setting, method=method), Clock()
        config = one.config()
        settings, objective = one.settings(config), one.objective(config)
        source = in_memory(one, settings, objective)
        log = trained(objective, watched(source, clock), settings)
        seconds = [step["whole"] for step in clock.steps()][WARM_UP:]
        found[method] = {"seconds": seconds, "loss": [line["loss"] for line in log]}
    return found


CHILDREN: dict[str, Callable[[Setting], dict[str, Any]]] = {
    "overhead": overhead_of,
    "memory": memory_of,
    "processes": rate_of,
}


def child(
    part: str, setting: Setting, environments: list[dict[str, str]] | None = None
) -> dict[str, Any]:
    """What one of CHILDREN says, in a process for each environment; the first one's answer."""
    this = [sys.executable, str(Path(__file__).resolve())]
    command = [*this, "--child", part, "--setting", json.dumps(asdict(setting))]
    started = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=e)
        for e in environments or [dict(os.environ)]
    ]
    said = [process.communicate() for process in started]
    if any(process.returncode for process in started):
        raise SystemExit("\n".join(error for _, error in said))
    found: dict[str, Any] = json.loads(said[0][0].splitlines()[-1])
    return found


# -- parts ----------------------------------------------------------------------------------------


def overhead(quick: bool) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for method in METHODS:
        # the first is no step like others, the last one's end is not seen: of ViT-B/16's, two count
        demo = Setting("demo", method, 24, 13 if quick else 103, save_every=5 if quick else 50)
        figures[f"{NAMES['demo']}, {method}"] = child("overhead", demo)
        if not quick:
            vit = Setting("vit", method, 2, 5, save_every=4)
            figures[f"{NAMES['vit']}, {method}"] = child("overhead", vit)
    return figures


def memory(quick: bool) -> dict[str, Any]:
    """GB by backbone, method and clips, and what 8 clips in parts of 2 take beside 2."""
    large = "demo" if quick else "vit"
    runs = {
        f"{NAMES['demo']}, {method}, {batch} clips": Setting("demo", method, batch, 2)
        for method in METHODS
        for batch in (8, 24, 96)
    }
    for recompute in ("nothing", "layer"):
        for batch in (1, 2, 4):
            name = f"{NAMES[large]}, ez_clip, recompute {recompute}, {batch} clips"
            runs[name] = Setting(large, "ez_clip", batch, 2, recompute=recompute)
    in_parts = f"{NAMES[large]}, ez_clip, 8 clips in 4 parts"
    runs[in_parts] = Setting(large, "ez_clip", 8, 2, micro_batches=4)
    alone = [dict(os.environ) | {"OMP_NUM_THREADS": "1"}]
    with ThreadPoolExecutor(2) as pool:  # memory is not time: two at once, the longest first
        found = pool.map(lambda one: child("memory", one, alone), reversed(runs.values()))
        taken = {
            name: figures["training"] for name, figures in zip(reversed(runs), found, strict=True)
        }
    two = taken[f"{NAMES[large]}, ez_clip, recompute nothing, 2 clips"]
    return {"GB": taken, "8 clips in 4 parts / 2 clips": round(taken[in_parts] / two, 3)}


def processes(quick: bool) -> dict[str, Any]:
    """Clips/s by method and way, ratios, and how far the losses are apart."""
    rounds, steps = (1, 6) if quick else (2, 12)
    seconds: dict[str, dict[str, list[float]]] = {m: {way: [] for way in WAYS} for m in METHODS}
    losses: dict[str, dict[str, list[float]]] = {m: {} for m in METHODS}
    setting = Setting(steps=steps)
    for _ in range(rounds):
        for way, (count, threads) in WAYS.items():
            own = {"OMP_NUM_THREADS": str(threads)}
            alone = [dict(os.environ)]
            environments = [e | own for e in (_environments(count) if count > 1 else alone)]
            for method, found in child("processes", setting, environments).items():
                seconds[method][way] += found["seconds"]
                losses[method][way] = found["loss"]
    figures: dict[str, Any] = {}
    for method in METHODS:
        rates = {way: setting.batch / median(times) for way, times in seconds[method].items()}
        first, *others = WAYS
        base = losses[method][first]
        apart = [
            abs(a - b) for way in others for a, b in zip(base, losses[method][way], strict=True)
        ]
        figures[method] = {
            "clips/s": {way: round(rate, 1) for way, rate in rates.items()},
            "times as fast": {way: round(rates[way] / rates[first], 2) for way in others},
            "largest difference of a loss": max(apart),
            "steps": steps,
        }
    return figures


PARTS: dict[str, Callable[[bool], dict[str, Any]]] = {
    "overhead": overhead,
    "memory": memory,
    "processes": processes,
}


def missed_limits(found: dict[str, Any]) -> list[str]:
    """The figures above their limits."""
    missed = [
        f"overhead, {name}"
        for name, figures in found.get("overhead", {}).items()
        if figures["share outside"] > LIMITS[f"overhead, {name.split(',')[0]}"]
    ]
    name = "8 clips in 4 parts / 2 clips"
    more = "memory" in found and found["memory"][name] > LIMITS[f"memory, {name}"]
    return missed + ([f"memory, {name}"] if more else [])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--child", choices=CHILDREN, help=argparse.SUPPRESS)
    parser.add_argument("--setting", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    os.chdir(ROOT)  # where params/ is
    if arguments.child:
        print(json.dumps(CHILDREN[arguments.child](Setting(**arguments.setting))))
        return
    load = round(os.getloadavg()[0], 1)  # shares mean little beside other work
    found: dict[str, Any] = {}
    for part in arguments.parts:
        found[part] = PARTS[part](arguments.quick)
        print(json.dumps({part: found[part]}, indent=1), flush=True)
    missed = missed_limits(found)
    print("missed: " + (", ".join(missed) or "nothing"))
    if not arguments.quick and len(arguments.parts) == len(PARTS):
        result = provenance() | found | {"limits": LIMITS, "missed": missed}
        result |= {"load when it began": load, "threads": os.environ.get("OMP_NUM_THREADS", "")}
        OUT.parent.mkdir(parents=True, exist_ok=True)
        OUT.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
