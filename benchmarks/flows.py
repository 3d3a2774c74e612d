"""What a flow costs beside `dvc repro` of the same stages, and how long `make up` takes.

    python benchmarks/flows.py     # about 5 minutes on two cores; nothing else should run on them

1. A pipeline of small stages of several kinds, in a temporary folder, through `dvc repro` and through the
   flow train-eval against a server of the benchmark's own: everything to do, then nothing to do. Overhead a
   stage is the difference of the two wall times, of whole commands, divided by the stages.
2. The demo's own stages with nothing to do, in a copy of this working tree, both ways.
3. `python -m flows.services up` from nothing, again, and `down`, with a home and ports of their own.
Writes `benchmarks/results/flows.json`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.machine import ROOT, provenance

OUT = ROOT / "benchmarks/results/flows.json"
SCRIPTS = Path(sys.executable).parent
LIMITS = {"overhead a stage, s": 2.0, "make up from nothing, s": 60.0, "make up again, s": 10.0}
RUNS = 8  # of each kind of stage that there are several of
FLOW = "import sys; sys.path.insert(0, '.')\nfrom flows.train_eval import train_eval\ntrain_eval('demo')\n"
KINDS = ("train", "features", "evaluate")
STAGES = 1 + len(KINDS) * RUNS


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def environment(home: Path, port: int) -> dict[str, str]:
    given = {
        "PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}",
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "OMP_NUM_THREADS": "2",
    }
    return os.environ | given


def timed(command: list[str], folder: Path, given: dict[str, str]) -> float:
    began = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=given, capture_output=True, text=True)
    seconds = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return seconds


@contextlib.contextmanager
def server(folder: Path) -> Iterator[dict[str, str]]:
    """A Prefect server with the GPU limit; the environment that knows it."""
    port = free_port()
    given = environment(folder / "home", port)
    command = [str(SCRIPTS / "prefect"), "server", "start", "--port", str(port)]
    process = subprocess.Popen(
        command,
        env=given,
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        for _ in range(600):
            with (
                contextlib.suppress(OSError),
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api/health", timeout=2),
            ):
                break
            time.sleep(0.2)
        timed(["prefect", "gcl", "create", "gpu", "--limit", "1"], folder, given)
        yield given
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def small_project(folder: Path) -> None:
    """One stage, then RUNS of each other kind, each after the last kind's; all of them copy a file."""
    folder.mkdir()
    for name in ("flows", "params"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    stages: dict[str, Any] = {"manifest@demo": _copy("data.txt", "manifest.txt")}
    before = ["manifest.txt"] * RUNS
    for kind in KINDS:
        after = [f"{kind}{i}.txt" for i in range(RUNS)]
        stages |= {f"{kind}@demo-ez_clip-run{i}": _copy(before[i], after[i]) for i in range(RUNS)}
        before = after
    # DVC names an expanded stage `kind@key`
    groups: dict[str, dict[str, Any]] = {}
    for name, stage in stages.items():
        kind, _, key = name.partition("@")
        groups.setdefault(kind, {})[key] = stage
    lines = ["stages:"]
    for kind, members in groups.items():
        lines += [f"  {kind}:", "    foreach:"]
        for key, one in members.items():
            lines.append(f"      {key}: {{from: {one['deps'][0]}, to: {one['outs'][0]}}}")
        lines += ["    do:", "      cmd: cp ${item.from} ${item.to}"]
        lines += ['      deps: ["${item.from}"]', '      outs: ["${item.to}"]']
    (folder / "dvc.yaml").write_text("\n".join(lines) + "\n")
    (folder / ".dvc").mkdir()
    (folder / ".dvc/config").write_text("[core]\n    no_scm = true\n    analytics = false\n")
    (folder / "data.txt").write_text("begin\n")


def _copy(source: str, target: str) -> dict[str, Any]:
    return {"deps": [source], "outs": [target]}


def small_stages(scratch: Path, given: dict[str, str]) -> dict[str, float]:
    """Seconds by repro and by the flow, with everything and with nothing to do."""
    found = {}
    for way, command in (("dvc repro", ["dvc", "repro"]), ("flow", [sys.executable, "-c", FLOW])):
        folder = scratch / way.replace(" ", "_")
        small_project(folder)
        found[f"{way}, everything to do, s"] = timed(command, folder, given)
        found[f"{way}, nothing to do, s"] = timed(command, folder, given)
    for state in ("everything", "nothing"):
        difference = found[f"flow, {state} to do, s"] - found[f"dvc repro, {state} to do, s"]
        found[f"overhead a stage, {state} to do, s"] = difference / STAGES
    return found


def demo_stages(scratch: Path, given: dict[str, str]) -> dict[str, float]:
    """The demo with nothing to do: a copy of this working tree with DVC's cache."""
    folder = scratch / "demo"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(folder)], check=True)
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    for name in listed:
        if (ROOT / name).is_file() and not name.startswith(".dvcstore"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    shutil.copytree(ROOT / ".dvc/cache", folder / ".dvc/cache")
    subprocess.run([SCRIPTS / "dvc", "checkout", "-q"], cwd=folder, check=True)
    repro = timed(["dvc", "repro"], folder, given)
    flow = timed([sys.executable, "-c", FLOW], folder, given)
    names = subprocess.run(
        [SCRIPTS / "dvc", "stage", "list", "--name-only"],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    stages = sum("@demo" in name for name in names)
    return {
        "stages": stages,
        "dvc repro, s": repro,
        "flow with its pictures and verdict, s": flow,
        "overhead a stage, s": (flow - repro) / stages,
    }


def services(scratch: Path) -> dict[str, float]:
    """`up` from nothing, again, and `down`, in a copy of the tree's files that they need."""
    folder = scratch / "services"
    folder.mkdir()
    for name in ("flows", "params"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("prefect.yaml", "pyproject.toml"):
        shutil.copy(ROOT / name, folder / name)
    (folder / "results").mkdir()
    given = environment(folder / ".prefect", free_port())
    given["REPORTS_PORT"] = str(free_port())
    command = [sys.executable, "-m", "flows.services"]
    found = {}
    try:
        found["make up from nothing, s"] = timed([*command, "up"], folder, given)
        found["make up again, s"] = timed([*command, "up"], folder, given)
    finally:
        found["make down, s"] = timed([*command, "down"], folder, given)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        up = services(scratch)
        with server(scratch) as given:
            small = small_stages(scratch, given)
            demo = demo_stages(scratch, given)
    worst = max(value for key, value in small.items() if key.startswith("overhead"))
    asked = {"overhead a stage, s": max(worst, demo["overhead a stage, s"])} | up
    missed = [key for key, limit in LIMITS.items() if asked[key] > limit]
    result = {
        "services": up,
        f"{STAGES} stages that copy a file": small,
        "demo with nothing to do": demo,
        "limits": LIMITS,
        "missed": missed,
        "provenance": provenance(),
    }
    rounded = json.loads(json.dumps(result), parse_float=lambda text: round(float(text), 3))
    OUT.write_text(json.dumps(rounded, indent=1, sort_keys=True) + "\n")
    print(json.dumps(rounded, indent=1, sort_keys=True))


if __name__ == "__main__":
    main()
