"""A project with a manifest's stand-in, and stages that answer by the learning rate without training."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from vidprompt.sweep.plan import Configurations

ROOT = Path(__file__).parents[2]
MADE = Configurations()  # of the project's parameters as they are: shared, for composing takes time
EVALUATIONS = 5
# The measure grows to a height that is best at a rate of 1e-2; a rate above 0.05 is not finite.
STAGE = """
import json, math, os, signal, sys, time
from pathlib import Path
stage, *rest = sys.argv[1:]
given = dict(one.partition("=")[::2] for one in rest)
with open(os.environ["CALLS"], "a") as calls:
    calls.write(f"{stage} {os.getcwd()} {' '.join(rest)}\\n")
if stage == "splits":
    lists = Path("cache/splits/demo")
    lists.mkdir(parents=True, exist_ok=True)
    videos = lambda names: {"classes": ["a", "b"], "videos": names, "labels": [0, 1]}
    for name in ("supervised_split1", "zero_shot_split1"):
        own = name.startswith("supervised")
        (lists / f"{name}.json").write_text(json.dumps({
            "id": name, "protocol": name.removesuffix("_split1"), "run": "supervised_split1",
            "train": videos(["1", "2"]) if own else None,
            "val": videos(["3", "4"]) if own and given["protocol.held_out"] != "0" else None,
            "tests": {"test": videos(["5", "6"])},
        }))
    sys.exit()
method, run, lr = given["method"], given["split"], float(given["trainer.lr"])
if lr > 0.05:
    sys.exit("vidprompt: the loss of step 1 is not finite")
log = Path("cache/training/demo") / method / run / "steps.jsonl"
log.parent.mkdir(parents=True, exist_ok=True)
height = 1 / (1 + math.log10(lr / 1e-2) ** 2)
steps = int(given["trainer.length"])
looks = []
signal.signal(signal.SIGTERM, lambda *_: sys.exit("vidprompt: stopped by signal 15"))
with log.open("w") as file:
    for i in range(1, 6):
        if os.environ.get("DIE") == str(i) and not Path("died").exists():
            Path("died").touch()
            os.kill(os.getppid(), signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)
        looks.append({"step": steps * i // 5, "held_out": round(height * i / 5, 6)})
        file.write(json.dumps({"step": looks[-1]["step"] - 1, "loss": 1.0}) + "\\n")
        file.write(json.dumps(looks[-1]) + "\\n")
        file.flush()
        time.sleep(float(os.environ.get("SLOW", 0)))
model = Path("models/demo") / method / run / "model.safetensors"
out = Path("results/demo") / method / "runs" / run / "training.json"
for path in (model, out):
    path.parent.mkdir(parents=True, exist_ok=True)
model.write_text("weights")
out.write_text(json.dumps({"looks": looks}))
"""


def make_project(folder: Path) -> tuple[str, ...]:
    """Returns the command of its stages."""
    shutil.copytree(ROOT / "params", folder / "params")
    (folder / "data").mkdir()
    names = ("manifest/demo/manifest.parquet", "manifest/demo/classes.json")
    for name in (*names, "frames/demo/frames.json"):
        (folder / "cache" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "cache" / name).write_text("{}")
    (folder / "stage.py").write_text(STAGE)
    return (sys.executable, str(folder / "stage.py"))


def space(folder: Path, **content: object) -> None:
    """Write params/tune/small.yaml, with the rate alone to search unless `content` says otherwise."""
    usual = {
        "trials": 6,
        "sampler": "tpe",
        "startup_trials": 3,
        "pruner": "none",
        "warmup": 2,
        "held_out": {"share": 0.2, "videos": 4},
        "space": {"trainer.lr": {"low": 1.0e-5, "high": 2.0e-2, "log": True}},
    }
    (folder / "params/tune/small.yaml").write_text(json.dumps(usual | content))
