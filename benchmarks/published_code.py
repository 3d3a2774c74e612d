"""EZ-CLIP's and Vita-CLIP's published code beside ours: trainings on the demo, and 50 steps without chance.

    git clone https://github.com/Shahzadnit/EZ-CLIP; git clone https://github.com/TalalWasim/Vita-CLIP
    pip install einops
    python benchmarks/published_code.py --ez-clip EZ-CLIP --vita-clip Vita-CLIP

The checkouts are imported as they are; nothing of them is copied or changed. Their models, losses,
optimisers, schedules and random draws (crops, colours, frames, texts, dropout, order) run on the demo's
frames, texts and backbone on the CPU; ours runs the pipeline's stages with the released recipe and the same
numbers. Where their code has fixed what the demo's small backbone has otherwise (77 positions of a text,
heads of width 64, QuickGELU) both get what is said under "bridges" in the results.

without_chance  50 steps from equal values on equal clips, texts and order, without dropout, stochastic
                depth and augmentation: the losses, which have to differ by less than 1e-3.
training        several seeds of each code (SEEDS) with all random parts on: loss curves, accuracy on the
                demo's test videos, time, memory. Intervals are over seeds (Student's t; differences Welch's).

Each run is a process of its own and is kept in --work: a benchmark that was stopped goes on where it was.
On two cores it takes 40 minutes with two of them at once (--jobs 2), more where others use them;
--stored makes the results from the runs that are there. Writes
`benchmarks/results/published_code.json` and `docs/pictures/published_code.png`, and prints the table.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.machine import ROOT, provenance
from benchmarks.side_by_side.checkouts import STAND_INS, check_checkout, checkout_version
from benchmarks.side_by_side.setting import BRIDGES, SETTINGS, SHARED, Setting

from vidprompt.files.atomic import write_json
from vidprompt.pipeline.sandbox import make_sandbox
from vidprompt.provenance.code import code_hash
from vidprompt.system.errors import UserError

OUT = ROOT / "benchmarks/results/published_code.json"
PICTURE = ROOT / "docs/pictures/published_code.png"
SEEDS = {"ez_clip": 3, "vita_clip": 6}  # three left a difference of Vita-CLIP open
LIMIT = 1e-3  # of a loss without chance
STAGES = (  # that make the demo's lists and frames, all frames of a video
    ("unpack",),
    ("manifest",),
    ("splits",),
    ("validate",),
    ("frames", "frames.frames=null"),
)


@dataclass(frozen=True)
class Run:
    """One process: `code` is "published", "ours" or "without_chance"."""

    method: str
    code: str
    seed: int
    setting: Setting

    @property
    def name(self) -> str:
        return f"{self.method}/{self.code}/{self.seed}"

    def file(self, work: Path) -> Path:
        return work / "runs" / f"{self.name.replace('/', '-')}.json"

    def fingerprint(self, versions: dict[str, dict[str, str]]) -> dict[str, Any]:
        """What its result follows from: a stored one with another is not used."""
        names = ["setting"]
        if self.code != "ours":
            names += ["checkouts", f"published_{self.method}"]
        files = [ROOT / f"benchmarks/side_by_side/{name}.py" for name in names]
        driver = sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
        found: dict[str, Any] = {"run": self.name, "setting": asdict(self.setting)}
        found["driver"] = driver
        if self.code != "ours":
            found["checkout"] = versions[self.method]["commit"]
        if self.code != "published":
            found["code"] = [code_hash(stage) for stage in ("train", "features", "evaluate")]
        return found


def planned(methods: Sequence[str], quick: bool) -> list[Run]:
    """All runs; `quick`: one seed and a short epoch."""
    runs = []
    for method in methods:
        setting = SETTINGS[method]
        if quick:
            setting = replace(setting, epochs=1, warmup=0, batch=96)
        runs.append(Run(method, "without_chance", 1, SETTINGS[method]))
        for seed in range(1, (1 if quick else SEEDS[method]) + 1):
            runs += [Run(method, code, seed, setting) for code in ("published", "ours")]
    return runs


# -- in a process of its own ----------------------------------------------------------------------


def child(run: Run, work: Path, checkout: Path | None) -> dict[str, Any]:
    from benchmarks.side_by_side import runs

    os.chdir(work / "project")
    if run.code == "ours":
        folder = work / "ours" / run.name.replace("/", "-")
        return runs.our_run(run.method, run.seed, folder, run.setting)
    assert checkout is not None
    if run.code == "without_chance":
        return runs.without_chance(run.method, checkout)
    return runs.published_run(run.method, run.seed, checkout, run.setting)


# -- the benchmark --------------------------------------------------------------------------------


def make_project(work: Path) -> None:
    """A project folder with the demo's lists and frames; what is there is kept."""
    project = work / "project"
    if not (ROOT / "data/demo").is_dir():
        raise UserError("no data/demo: `dvc pull data.dvc` fetches the demo's data")
    os.chdir(ROOT)
    make_sandbox(project, ("data",))
    if (project / "cache/frames/demo/frames.json").is_file():
        return
    for stage, *overrides in STAGES:
        command = [sys.executable, "-m", "vidprompt.cli", stage, "dataset=demo", *overrides]
        subprocess.run(command, cwd=project, check=True)


def execute(
    run: Run, work: Path, checkouts: dict[str, Path], versions: dict[str, dict[str, str]]
) -> dict[str, Any]:
    """The result of a run: the stored one, or that of a process, which is stored."""
    file, fingerprint = run.file(work), run.fingerprint(versions)
    if stored := stored_result(file, fingerprint):
        print(f"{run.name}: there", flush=True)
        return stored
    command = [sys.executable, str(Path(__file__).resolve()), "--work", str(work)]
    given = {"run": asdict(run), "checkout": str(checkouts[run.method])}
    done = subprocess.run(
        [*command, "--child", json.dumps(given)], stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise UserError(f"{run.name} failed, see above; what is done is kept in {work}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    write_json(file, {"fingerprint": fingerprint, "result": result})
    print(f"{run.name}: {headline(result)}", flush=True)
    return result


def stored_result(file: Path, fingerprint: dict[str, Any]) -> dict[str, Any] | None:
    """The result in a file, if it is of this fingerprint."""
    if not file.is_file():
        return None
    content = json.loads(file.read_text("utf-8"))
    if content.get("fingerprint") != json.loads(json.dumps(fingerprint)):
        return None
    result: dict[str, Any] = content["result"]
    return result


def headline(result: dict[str, Any]) -> str:
    """One line about a run."""
    if "top1" in result:
        last = result["loss"][-1]
        return (
            f"top-1 {result['top1']:.3f}, last loss {last:.3f}, {result['step_ms']:.0f} ms a step"
        )
    return f"losses differ by at most {result['largest difference of a loss']:.1e}"


def results(
    runs: Sequence[Run], found: dict[str, dict[str, Any]], versions: dict[str, dict[str, str]]
) -> dict[str, Any]:
    """The content of the results' file."""
    from benchmarks.side_by_side.summary import compare

    methods = list(dict.fromkeys(run.method for run in runs))
    training, chance = {}, {}
    for method in methods:
        own = [run for run in runs if run.method == method]
        by_code: dict[str, dict[int, Any]] = {"published": {}, "ours": {}}
        for run in own:
            if run.code in by_code:
                by_code[run.code][run.seed] = found[run.name]
            else:
                chance[method] = found[run.name]
        training[method] = compare(by_code) | {"settings": asdict(own[-1].setting)}
    return provenance() | {
        "checkouts": versions,
        "stand-ins": {method: STAND_INS[method] for method in methods},
        "bridges": BRIDGES,
        "ours": list(SHARED),
        "threads of a run": os.environ.get("OMP_NUM_THREADS", ""),
        "without chance": chance,
        "training": training,
    }


def missed(result: dict[str, Any]) -> Iterator[str]:
    """What is not the same."""
    for method, one in result["without chance"].items():
        for name, losses in ((method, one), (f"{method}, float16", one.get("float16 weights"))):
            if losses and losses["largest difference of a loss"] > LIMIT:
                apart = losses["largest difference of a loss"]
                yield f"{name}: losses without chance differ by {apart}"
    for method, one in result["training"].items():
        if one["same"] is False:
            yield f"{method}: trainings differ: {json.dumps(one['ours - published'])}"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ez-clip", type=Path, metavar="DIR", help="checkout of EZ-CLIP")
    parser.add_argument("--vita-clip", type=Path, metavar="DIR", help="checkout of Vita-CLIP")
    parser.add_argument(
        "--only",
        action="append",
        metavar="METHOD/CODE/SEED",
        help="do these runs only, e.g. ez_clip/published/1 or vita_clip/without_chance/1; repeatable",
    )
    parser.add_argument(
        "--stored", action="store_true", help="do no runs; write the results of those that are kept"
    )
    parser.add_argument("--jobs", type=int, default=1, help="runs at once (default 1)")
    parser.add_argument("--quick", action="store_true", help="a try of minutes; writes no results")
    parser.add_argument(
        "--work", type=Path, default=ROOT / "cache/published_code", help="where runs are kept"
    )
    parser.add_argument("--child", type=json.loads, help=argparse.SUPPRESS)
    return parser.parse_args()


def benchmark(given: argparse.Namespace) -> None:
    """Raises UserError, one line, for a checkout or a run that is none."""
    folders = {"ez_clip": given.ez_clip, "vita_clip": given.vita_clip}
    checkouts = {m: check_checkout(m, folder) for m, folder in folders.items() if folder}
    if not checkouts:
        raise UserError("give at least one checkout: --ez-clip DIR or --vita-clip DIR")
    versions = {method: checkout_version(method, folder) for method, folder in checkouts.items()}
    runs = planned(list(checkouts), given.quick)
    chosen = [run for run in runs if not given.only or run.name in given.only]
    if unknown := sorted(set(given.only or ()) - {run.name for run in runs}):
        names = ", ".join(run.name for run in runs)
        raise UserError(f"--only {unknown[0]}: no such run; there are {names}")
    work = given.work.resolve() / ("quick" if given.quick else "full")
    if given.stored:
        kept = {
            run.name for run in runs if stored_result(run.file(work), run.fingerprint(versions))
        }
        runs = chosen = [run for run in runs if run.name in kept]
    make_project(work)
    with ThreadPoolExecutor(max(1, given.jobs)) as pool:
        done = pool.map(lambda run: execute(run, work, checkouts, versions), chosen)
        found = {run.name: result for run, result in zip(chosen, done, strict=True)}
    if len(found) < len(runs):
        return
    from benchmarks.side_by_side.summary import picture, table

    result = results(runs, found, versions)
    print(table(result))
    print("\n".join(missed(result)) or "the same within the intervals")
    if not given.quick and len(checkouts) == len(SETTINGS):
        write_json(OUT, result)
        PICTURE.write_bytes(picture(result["training"]))


def main() -> None:
    given = arguments()
    try:
        if not given.child:
            benchmark(given)
            return
        run = given.child["run"]
        setting = Setting(**run.pop("setting"))
        result = child(Run(**run, setting=setting), given.work, Path(given.child["checkout"]))
        print("\n" + json.dumps(result))
    except UserError as error:
        raise SystemExit(f"published_code: {error}") from None


if __name__ == "__main__":
    main()
