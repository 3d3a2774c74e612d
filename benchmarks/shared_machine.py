"""Training steps beside other processes: how long OpenMP's threads spin at a barrier before they sleep.

    python benchmarks/shared_machine.py             # about 12 minutes on two cores, with nothing else running

A thread that spins keeps its core from whoever has work, also from the thread that it waits for. Each run
is a process of its own with `GOMP_SPINCOUNT` set (`default`: OpenMP's own): alone, beside as many busy
processes as there are cores, and beside one and two trainings like itself, of which the median counts. Runs
take turns, and a figure is the median over rounds, in steps/s.

Writes `benchmarks/results/shared_machine.json`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.machine import ROOT, provenance

OUT = ROOT / "benchmarks/results/shared_machine.json"
SPINS = ("default", "10000", "5000", "2000", "0")
CASES = {"demo": 24, "ViT-B/16": 1}  # clips a step
BUSY = "beside busy processes"
TRAININGS = {"alone": 1, BUSY: 1, "two at once": 2, "three at once": 3}
SECONDS = 4.0


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--spins", nargs="+", default=list(SPINS))
    parser.add_argument("--loads", nargs="+", choices=TRAININGS, default=list(TRAININGS))
    parser.add_argument("--run", choices=CASES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        print(steps_per_second(arguments.run))
        return
    cores = len(os.sched_getaffinity(0))
    found: dict[tuple[str, str, str], list[float]] = {}
    for _, case, load, spin in product(
        range(arguments.rounds), arguments.cases, arguments.loads, arguments.spins
    ):
        with busy_processes(cores if load == BUSY else 0):
            found.setdefault((case, spin, load), []).append(measure(case, spin, TRAININGS[load]))
        print(case, load, spin, f"{found[case, spin, load][-1]:.2f}", file=sys.stderr)
    from vidprompt.files.atomic import write_json

    rates = {
        case: {
            spin: {load: round(median(found[case, spin, load]), 2) for load in arguments.loads}
            for spin in arguments.spins
        }
        for case in arguments.cases
    }
    write_json(OUT, {**provenance(), "busy processes": cores, "steps/s": rates})


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """Processes that compute without end, a core each."""
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def measure(case: str, spin: str, trainings: int) -> float:
    """Steps/s of processes with this spin count that train at once, their median."""
    unset = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "OMP_NUM_THREADS")
    environment = {key: value for key, value in os.environ.items() if key not in unset}
    # without it, the package's own does not take effect either: torch is imported before it
    environment |= {} if spin == "default" else {"GOMP_SPINCOUNT": spin}
    command = [sys.executable, __file__, "--run", case]
    running = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(trainings)
    ]
    outputs = [process.communicate()[0] for process in running]
    if any(process.returncode for process in running):
        raise SystemExit("a training failed")
    return median(float(output.split()[-1]) for output in outputs)


def steps_per_second(case: str) -> float:
    """A contrastive step with motion loss (EZ-CLIP) in this process, for SECONDS after a warm-up."""
    import torch
    from benchmarks.model import WITHOUT_CHANCE

    from vidprompt.models import create_model
    from vidprompt.models.backbones.loading import load_backbone
    from vidprompt.models.text.prompts import PromptSet
    from vidprompt.training.objectives import ContrastiveMotion

    folder = ROOT / "data/demo/backbone"
    demo = {"name": "demo_clip", "config": folder / "demo_clip.json"}
    backbone = load_backbone(demo if case == "demo" else "ViT-B-16-quickgelu")
    model = create_model("ez_clip", backbone, num_frames=8, **WITHOUT_CHANCE).train()
    names = [f"class {i}" for i in range(48)]
    objective = ContrastiveMotion(model, names, PromptSet(("a video of {}",)), motion_weight=1.0)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    size, clips = backbone.image_size, CASES[case]
    video, labels = torch.randn(clips, 8, 3, size, size), torch.arange(clips)

    def step() -> None:
        optimizer.zero_grad()
        objective(video, labels)["loss"].backward()
        optimizer.step()

    step()
    start, count = time.perf_counter(), 0
    while (seconds := time.perf_counter() - start) < SECONDS or count < 3:
        step()
        count += 1
    return count / seconds


if __name__ == "__main__":
    main()
