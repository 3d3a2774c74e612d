"""Training steps beside other processes: how long OpenMP's threads spin at a barrier before they sleep.

    python benchmarks/shared_machine.py             # about 5 minutes on two cores, with nothing else running

A thread that spins keeps its core from whoever has work, also from the thread that it waits for. Each run
is a process of its own with `GOMP_SPINCOUNT` set (`default`: OpenMP's own), on an idle machine and beside as
many busy processes as there are cores. Runs take turns, and a figure is the median over rounds, in steps/s.
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
SPINS = ("default", "100000", "30000", "10000", "3000", "1000", "0")
CASES = {"demo": 24, "ViT-B/16": 1}  # clips a step
SECONDS = 4.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--spins", nargs="+", default=list(SPINS))
    parser.add_argument("--run", choices=CASES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        print(steps_per_second(arguments.run))
        return
    cores = len(os.sched_getaffinity(0))
    found: dict[tuple[str, str, str], list[float]] = {}
    for _, case, load, spin in product(
        range(arguments.rounds), arguments.cases, ("idle", "loaded"), arguments.spins
    ):
        with busy_processes(cores if load == "loaded" else 0):
            found.setdefault((case, load, spin), []).append(measure(case, spin))
        print(case, load, spin, f"{found[case, load, spin][-1]:.2f}", file=sys.stderr)
    rates = {
        case: {
            spin: {load: round(median(found[case, load, spin]), 2) for load in ("idle", "loaded")}
            for spin in arguments.spins
        }
        for case in arguments.cases
    }
    from vidprompt.files.atomic import write_json

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


def measure(case: str, spin: str) -> float:
    """Steps/s of a process with this spin count."""
    unset = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "OMP_NUM_THREADS")
    environment = {key: value for key, value in os.environ.items() if key not in unset}
    # one that the package would not set itself: "default" is OpenMP's own choice
    environment |= {"OMP_DISPLAY_ENV": "false"} if spin == "default" else {"GOMP_SPINCOUNT": spin}
    command = [sys.executable, __file__, "--run", case]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


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
