"""A project with three small split files, and stages that write down that they were called."""

import json
import shutil
import sys
from pathlib import Path

from vidprompt.data.splits.split_file import Split, Subset, write_split
from vidprompt.sweep.plan import Configurations

ROOT = Path(__file__).parents[2]
MADE = Configurations()  # of the project's parameters as they are: shared, for composing takes time
LIST = Subset(["a", "b"], ["1", "2"], [0, 1])
STAGE = """
import json, os, signal, sys, time
from pathlib import Path
stage, *rest = sys.argv[1:]
said = dict(one.partition("=")[::2] for one in rest)
with open(os.environ["CALLS"], "a") as calls:
    calls.write(f"{stage} {said.get('split') or said.get('protocol')} {os.getcwd()}\\n")
if gpus := os.environ.get("GPUS"):
    # a file for the time of a stage: two jobs at once on one GPU would find it
    mine = Path(gpus, os.environ.get("CUDA_VISIBLE_DEVICES", "all"))
    mine.touch(exist_ok=False)
    time.sleep(0.05)
    mine.unlink()
    Path(gpus, "used").open("a").write(mine.name + "\\n")
if os.environ.get("FAIL") == stage:
    sys.exit("vidprompt: as asked")
method, lr, seed = said.get("method", "ez_clip"), said.get("trainer.lr", "1"), said.get("seed", "1")
if stage == "train":
    if lr == "13":
        sys.exit("vidprompt: lr is unlucky")
    if lr == "7":
        time.sleep(60)
    out = Path("models/demo") / method / said["split"] / "model.safetensors"
    text = f"{lr} {seed}"
elif stage == "features":
    out = Path("cache/features/demo") / method / said.get("split", "frozen") / "index.parquet"
    text = said.get("views", "centre")
else:
    protocol = said["protocol"]
    counts = {"n": 1, "listed": 1, "coverage": 1.0}
    test = counts | {"within": {"pair": {"value": 0.25 * int(seed), "chance": 0.5}}}
    out = Path("results/demo") / method / protocol / "metrics.json"
    value = {"value": int(seed) / 10 + (said.get("views") == "reversed") / 100}
    split = f"{protocol}_split1"
    text = json.dumps(counts | {
        "dataset": "demo", "protocol": protocol, "method": method,
        "hashes": {"config": "c", "data": "d", "checkpoints": {}},
        "summary": {protocol: {"top1": value}},
        "splits": {split: {"id": split, "run": split, "tests": {"test": test}}},
    })
out.parent.mkdir(parents=True, exist_ok=True)
out.write_text(text)
"""


def make_project(folder: Path) -> tuple[str, ...]:
    """Returns the command of its stages."""
    shutil.copytree(ROOT / "params", folder / "params")
    (folder / "data").mkdir()
    splits = folder / "cache/splits/demo"
    for name, run in (
        ("supervised_split1", ""),
        ("zero_shot_split1", "supervised_split1"),
        ("reid", ""),
    ):
        protocol = name.removesuffix("_split1")
        split = Split(f"{protocol}/demo@split1", protocol, run or name, LIST, tests={"test": LIST})
        write_split(split, splits / f"{name}.json")
    for name in ("manifest/demo/manifest.parquet", "frames/demo/frames.json"):
        (folder / "cache" / name).parent.mkdir(parents=True)
        (folder / "cache" / name).write_text("{}")
    (folder / "stage.py").write_text(STAGE)
    return (sys.executable, str(folder / "stage.py"))


def experiment(folder: Path, **multirun: object) -> None:
    """Write params/experiment/small.yaml."""
    text = json.dumps({"multirun": multirun})
    (folder / "params/experiment/small.yaml").write_text(f"# @package _global_\n{text}\n")
