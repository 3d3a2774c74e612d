"""Time and memory of `vidprompt manifest`, `splits` and `validate` on datasets of the official size.

    python benchmarks/datasets.py                        # all of params/dataset but the demo (10 minutes)
    python benchmarks/datasets.py --only kinetics400     # the others' figures in the file stay as they are
    python benchmarks/datasets.py --scale 0.01           # a quick try; writes no file

Builds, in a temporary folder, each dataset's official layout: the annotation files with made-up names
and the official counts, and one-byte files (hard links) for the videos, a few of which are left out.
The stages run as the command line with `dataset.probe=stat`. Seconds are wall time from the start of
the interpreter, files freshly made (so the folders are in the system's cache); peak memory is the
command's maximum resident set. Writes `benchmarks/results/datasets.json`.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import shutil
import string
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.machine import ROOT, provenance

from vidprompt.files.hashes import sha256

OUT = ROOT / "benchmarks/results/datasets.json"
STAGES = ("manifest", "manifest again", "splits", "validate")
LIMITS = {  # figure → at most
    "kinetics400 manifest peak_gb": 1.0,
    "kinetics400 manifest seconds": 30.0,
}
# Starts a command and says what it took. It is small itself: a child's ru_maxrss begins with its parent's.
LAUNCHER = """
import json, os, subprocess, sys, time
began = time.perf_counter()
child = subprocess.Popen(sys.argv[1:])
_, status, used = os.wait4(child.pid, 0)
print()
print(json.dumps({"seconds": round(time.perf_counter() - began, 2),
                  "cpu_seconds": round(used.ru_utime + used.ru_stime, 2),
                  "peak_gb": round(used.ru_maxrss * 1024 / 1e9, 3),
                  "exit": os.waitstatus_to_exitcode(status)}))
"""


def measured(command: Sequence[str], folder: Path) -> tuple[dict[str, Any], list[str]]:
    """Wall and CPU seconds, peak memory and exit status of a command, and what it said."""
    launcher = [sys.executable, "-I", "-S", "-c", LAUNCHER, *command]
    done = subprocess.run(launcher, cwd=folder, capture_output=True, text=True, check=True)
    *said, last = [line for line in done.stdout.splitlines() if line]
    return json.loads(last), [*said, *done.stderr.splitlines()]


# -- trees --------------------------------------------------------------------------------------


class Tree:
    """A dataset's folder. Videos are links to a one-byte file; those numbered in `gone` are left out."""

    def __init__(self, root: Path, scale: float, gone: Callable[[int], bool]) -> None:
        self.root, self.scale, self._gone = root, scale, gone
        self.rng = random.Random(1)
        self.videos = self.absent = 0
        self._folders: set[str] = set()
        self._byte = root.parent / "byte"
        root.mkdir(parents=True)

    def scaled(self, total: int, least: int = 1) -> int:
        return max(least, round(total * self.scale))

    def write(self, path: str, lines: Iterable[str]) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    def video(self, path: str) -> None:
        """A listed video; for a folder of images, the path of its one image."""
        self.videos += 1
        if self._gone(self.videos):
            self.absent += 1
        else:
            self.file(path)

    def file(self, path: str) -> None:
        folder = path.rpartition("/")[0]
        if folder not in self._folders:
            (self.root / folder).mkdir(parents=True, exist_ok=True)
            self._folders.add(folder)
        try:
            os.link(self._byte, self.root / path)
        except OSError:  # not made yet, or has as many links as the file system allows
            self._byte.unlink(missing_ok=True)
            self._byte.write_bytes(b"0")
            os.link(self._byte, self.root / path)


def phrases(count: int) -> list[str]:
    """So many different names of a verb and a thing, as action classes have."""
    verbs = (
        "applying assembling blowing brushing carving catching cleaning climbing counting cracking cutting "
        "decorating drawing eating fixing folding hitting holding juggling kicking opening peeling playing "
        "pulling pushing riding shaking throwing tying washing"
    )
    things = (
        "hair,eye makeup,a bike,guitar,drums,soccer ball,a kite,teeth,shoes,pumpkin,paper,an egg,fruit,"
        "water,snow,balloons,a horse,rope,clothes,sandwich,windows,candles,a fish,golf clubs"
    )
    pairs = product(verbs.split(), things.split(","))
    names = [f"{verb} {thing}" for verb, thing in pairs]
    return random.Random(0).sample(names, len(names))[:count]


def spread(total: int, cells: int, rng: random.Random) -> list[int]:
    """`total` in so many equal parts, those that are one larger drawn at random."""
    base, extra = divmod(total, cells)
    larger = set(rng.sample(range(cells), extra))
    return [base + (cell in larger) for cell in range(cells)]


def ucf101(tree: Tree) -> None:
    """25 groups a class: 1 to 7, 8 to 14, 15 to 21 are the tests of splits 1, 2, 3."""
    classes = tree.scaled(101, least=2)
    titles = (name.title().replace(" ", "") for name in phrases(classes - 1))
    names = sorted(["HandstandPushups", *titles])
    tree.write("ucfTrainTestlist/classInd.txt", (f"{i} {name}" for i, name in enumerate(names, 1)))
    parts = [(1, range(1, 8), 3783), (2, range(8, 15), 3734), (3, range(15, 22), 3696)]
    parts.append((0, range(22, 26), 13320 - 3783 - 3734 - 3696))
    lists: dict[str, list[str]] = {}
    for tested, groups, total in parts:
        cells = list(product(range(classes), groups))
        sizes = spread(round(total * classes / 101), len(cells), tree.rng)
        for (label, group), size in zip(cells, sizes, strict=True):
            for clip in range(1, size + 1):
                name = names[label].replace("HandstandP", "HandStandP")  # as published
                path = f"{names[label]}/v_{name}_g{group:02d}_c{clip:02d}.avi"
                tree.video(f"UCF-101/{path}")
                for split in (1, 2, 3):
                    role, line = (
                        ("test", path) if split == tested else ("train", f"{path} {label + 1}")
                    )
                    lists.setdefault(f"ucfTrainTestlist/{role}list0{split}.txt", []).append(line)
    for file, lines in lists.items():
        tree.write(file, sorted(lines))


def hmdb51(tree: Tree) -> None:
    """70 train and 30 test clips a class in each split; clips of a film are on both sides."""
    classes = tree.scaled(51, least=2)
    films = ["#20_Rhythm", "Amélie_(2001)", "Let's_Go_&_See!", *(f"Film_{n}" for n in range(1500))]
    for label, size in zip(
        (name.replace(" ", "_") for name in phrases(classes)),
        spread(round(6766 * classes / 51), classes, tree.rng),
        strict=True,
    ):
        clips = [
            f"{tree.rng.choice(films)}_{label}_{tree.rng.choice('fuhl')}_{tree.rng.choice(['cm', 'nm'])}"
            f"_np{tree.rng.randint(1, 3)}_{tree.rng.choice(['fr', 'le', 'ba', 'ri'])}"
            f"_{tree.rng.choice(['goo', 'med', 'bad'])}_{number}.avi"
            for number in range(size)
        ]
        for clip in clips:
            tree.video(f"hmdb51_org/{label}/{clip}")
        for split in (1, 2, 3):
            used = tree.rng.sample(clips, 100)
            roles = dict.fromkeys(used[:70], 1) | dict.fromkeys(used[70:], 2)
            lines = (f"{clip} {roles.get(clip, 0)} " for clip in sorted(clips))
            tree.write(f"testTrainMulti_7030_splits/{label}_test_split{split}.txt", lines)


def kinetics(tree: Tree, names: Sequence[str], counts: dict[str, int], flat: bool) -> None:
    """The lists and files; 20 films stand in both lists, with a clip each, as a few do."""
    signs = string.ascii_letters + string.digits + "-_"
    both: list[str] = []
    (tree.root / "annotations").mkdir(exist_ok=True)
    for part, total in counts.items():
        with (tree.root / f"annotations/{part}.csv").open("w", encoding="utf-8", newline="") as out:
            writer = csv.writer(out)
            writer.writerow(("label", "youtube_id", "time_start", "time_end", "split"))
            for number in range(total):
                ids = both if part == "val" else ()
                film = ids[number] if number < len(ids) else "".join(tree.rng.choices(signs, k=11))
                if part == "train" and number < 20:
                    both.append(film)
                start = 10 * tree.rng.randrange(1, 30) + (5 if part == "val" else 0)
                label = names[number % len(names)]
                writer.writerow((label, film, start, start + 10, part))
                folder = part if flat else f"{part}/{label}"
                tree.video(f"videos/{folder}/{film}_{start:06d}_{start + 10:06d}.mp4")


def kinetics400(tree: Tree) -> None:
    """A folder a class."""
    names = sorted(phrases(400))[: tree.scaled(400, least=4)]
    counts = {"train": tree.scaled(240_000), "val": tree.scaled(19_881)}
    kinetics(tree, names, counts, flat=False)


def kinetics600(tree: Tree) -> None:
    """All flat; 368 classes have the names that they have in Kinetics-400."""
    names = phrases(632)
    tree.write("annotations/kinetics400_classes.txt", sorted(names[:400]))
    counts = {"train": tree.scaled(392_622), "val": tree.scaled(30_001)}
    kinetics(tree, sorted(names[32:]), counts, flat=True)


def ssv2(tree: Tree) -> None:
    """Templates with brackets; the test list and its files are there, and nothing reads them."""
    ways = (
        "{} [something] onto [something]",
        "{} [something] next to [something] and [something]",
        "Pretending to {} [something] without [something] moving",
        "{} [something] from left to right",
        "Failing at {} [something] because [something] does not fit",
        "{} [one of many similar things on the table]",
        "Trying but failing {} [part] of [something]",
    )
    verbs = sorted({name.split()[0] for name in phrases(720)})
    templates = [way.format(verb).capitalize() for way, verb in product(ways, verbs)]
    templates = sorted(templates[: tree.scaled(174, least=4)])
    labels = {text.replace("[", "").replace("]", ""): str(i) for i, text in enumerate(templates)}
    parts = {"train": 168_913, "validation": 24_777, "test": 27_157}
    ids = list(range(1, sum(map(tree.scaled, parts.values())) + 1))
    tree.rng.shuffle(ids)
    tree.write("labels/labels.json", [json.dumps(labels, indent=1)])
    for part, total in parts.items():
        chosen = [str(ids.pop()) for _ in range(tree.scaled(total))]
        entries: list[dict[str, Any]] = [{"id": video} for video in chosen]
        for number, entry in enumerate(entries):
            path = f"20bn-something-something-v2/{entry['id']}.webm"
            if part == "test":
                tree.file(path)
                continue
            tree.video(path)
            template = templates[number % len(templates)]
            slots = template.count("[")
            words = [tree.rng.choice(("a red cup", "book", "pen", "vicks vaporub bottle"))] * slots
            label = template.replace("[something]", words[0] if words else "").casefold()
            entry |= {"label": label, "template": template, "placeholders": words}
        tree.write(f"labels/{part}.json", [json.dumps(entries)])


def ccvid(tree: Tree) -> None:
    """75 people to train on, 151 to find; each in two sessions, before up to 12 cameras."""
    trained, tested = tree.scaled(75, least=3), tree.scaled(151, least=3)
    counts = {
        "train": (948, 75, trained),
        "query": (834, 151, tested),
        "gallery": (1074, 151, tested),
    }
    shares = {
        role: spread(round(total * people / of), people, tree.rng)
        for role, (total, of, people) in counts.items()
    }
    lists: dict[str, list[str]] = {role: [] for role in counts}
    for person in range(trained + tested):
        roles = ["train"] if person < trained else ["query", "gallery"]
        index = person if person < trained else person - trained
        wanted = [role for role in roles for _ in range(shares[role][index])]
        sessions = tree.rng.sample((1, 2, 3), 2)
        places = tree.rng.sample(list(product(sessions, range(1, 13))), len(wanted))
        for role, (session, camera) in zip(wanted, places, strict=True):
            folder = f"session{session}/{person + 1:03d}_{camera:02d}"
            tree.video(f"{folder}/00001.jpg")
            clothes = f"u{session % 3}_l{person % 4}_s{session % 2}_c0_a0"
            lists[role].append(f"{folder}\t{person + 1:03d}\t{clothes}")
    for role, lines in lists.items():
        tree.write(f"{role}.txt", lines)


TREES: dict[str, Callable[[Tree], None]] = {
    "ucf101": ucf101,
    "hmdb51": hmdb51,
    "kinetics400": kinetics400,
    "kinetics600": kinetics600,
    "ssv2": ssv2,
    "ccvid": ccvid,
}


# -- measuring ----------------------------------------------------------------------------------


def project(folder: Path, dataset: str, scale: float) -> None:
    """A project's root with the parameters; a scaled dataset is not held to the counts."""
    shutil.copytree(ROOT / "params", folder / "params")
    if scale != 1:
        file = folder / "params/dataset" / f"{dataset}.yaml"
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
        values["validation"] |= {"expected": {}, "max_broken_share": 1.0}
        file.write_text(yaml.safe_dump(values), encoding="utf-8")


def stages(folder: Path, dataset: str) -> dict[str, Any]:
    """Each stage's figures; stops at one that fails, with the last thing it said."""
    command = [sys.executable, "-m", "vidprompt.cli"]
    overrides = [f"dataset={dataset}", "dataset.root=official", "dataset.probe=stat"]
    manifest = folder / "cache/manifest" / dataset / "manifest.parquet"
    hashes: list[str] = []
    found: dict[str, Any] = {"stages": {}}
    for name in STAGES:
        figures, said = measured([*command, name.split()[0], *overrides], folder)
        found["stages"][name] = figures
        print(f"{dataset} {name}: " + ", ".join(f"{k} {v}" for k, v in figures.items()))
        if figures["exit"]:
            print("\n".join(said))
            found["failed"] = (said or [name])[-1].replace(str(ROOT), ".")
            break
        if name.startswith("manifest"):
            hashes.append(sha256(manifest))
            found["same bytes again"] = len(hashes) == 2 and hashes[0] == hashes[1]
        if name == "validate":
            found["warnings"] = [line for line in said if line.startswith("warning")]
    return found


def measure(dataset: str, scale: float) -> dict[str, Any]:
    """Build a dataset's tree, run the stages on it, and count what the manifest says."""
    one_percent = dataset.startswith("kinetics")
    with tempfile.TemporaryDirectory(prefix="vidprompt-") as name:
        folder = Path(name)
        gone: Callable[[int], bool] = (
            (lambda n: n * 2_654_435_761 % 2**32 < 2**32 // 100)  # scattered over the classes
            if one_percent
            else {7, 70}.__contains__
        )
        tree = Tree(folder / "official", scale, gone)
        TREES[dataset](tree)
        print(f"{dataset}: {tree.videos:,} videos listed, {tree.absent:,} left out")
        project(folder, dataset, scale)
        found = stages(folder, dataset)
        manifest = folder / "cache/manifest" / dataset / "manifest.parquet"
        if manifest.is_file():
            health = pq.read_table(manifest, columns=["health"])["health"].to_pylist()
            found |= {"rows": len(health), "missing": health.count("missing")}
            found["counts right"] = (len(health), found["missing"]) == (tree.videos, tree.absent)
            found["split files"] = len(list((folder / "cache/splits" / dataset).glob("*.json")))
        return found


def missed(datasets: dict[str, Any]) -> list[str]:
    """The limits that are not kept, and every dataset with a stage that failed or a wrong count."""
    wrong = []
    for figure, limit in LIMITS.items():
        dataset, stage, unit = figure.split()
        value = datasets.get(dataset, {}).get("stages", {}).get(stage, {}).get(unit, 0)
        wrong += [figure] if value > limit else []
    for name, found in sorted(datasets.items()):
        checks = ("counts right", "same bytes again")
        wrong += [f"{name} {check}" for check in checks if not found.get(check)]
        wrong += [f"{name} {found['failed']}"] if "failed" in found else []
    return wrong


def table(datasets: dict[str, Any]) -> str:
    """A row a dataset: seconds and GB of each stage."""
    lines = [f"{'dataset':12}{'rows':>9}{'missing':>9}" + "".join(f"{name:>19}" for name in STAGES)]
    for dataset, found in datasets.items():
        cells = (found["stages"].get(name) for name in STAGES)
        texts = (f"{c['seconds']:.1f} s {c['peak_gb']:.2f} GB" if c else "-" for c in cells)
        counts = f"{dataset:12}{found.get('rows', 0):>9,}{found.get('missing', 0):>9,}"
        lines.append(counts + "".join(f"{text:>19}" for text in texts))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=TREES, default=list(TREES), metavar="NAME")
    parser.add_argument("--scale", type=float, default=1.0, help="of rows, and of most classes")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    out = arguments.out or (OUT if arguments.scale == 1 else None)
    datasets: dict[str, Any] = {}
    if out and out.is_file() and len(arguments.only) < len(TREES):
        datasets = json.loads(out.read_text(encoding="utf-8"))["datasets"]
    about = provenance()
    for name in arguments.only:
        datasets[name] = measure(name, arguments.scale) | about
    wrong = missed(datasets)
    print(table(datasets))
    print("missed: " + (", ".join(wrong) or "nothing"))
    if out:
        setting = f"dataset.probe=stat, one-byte files just made, scale {arguments.scale:g}"
        result = {"datasets": datasets, "limits": LIMITS, "missed": wrong, "setting": setting}
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
