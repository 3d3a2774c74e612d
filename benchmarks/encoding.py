"""Encoding each video once or once a list; time against the number of protocols; processes; memory.

    python benchmarks/encoding.py      # about 3 minutes on two cores; wants the demo's `dvc repro`

Four questions, asked of the demo in a scratch project (the committed files are not touched):

once        how many clips the features stage gives the model, and in what time, with all lists of a
            checkpoint together and with each split file alone, as programs do that evaluate one protocol
            at a time. Clips are counted where the model is called.
protocols   seconds of the stage (the better of two) and of `evaluate` with 1 to 5 protocols of frozen
            CLIP. The first three test the same videos, so encoding has to stay flat there; the others
            bring their own.
processes   one process with one and with two threads, and two processes with one thread each: the whole
            command, interpreter start and all, with four clips a video. Equal files, byte for byte?
memory      20,000 videos × 12 views × 512 numbers (0.49 GB) put together from blocks and opened; then some
            rows are read (of a mapped file, whose pages a peak would count, so it is taken before).

Writes `benchmarks/results/encoding.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.datasets import measured
from benchmarks.machine import ROOT, provenance

OUT = ROOT / "benchmarks/results/encoding.json"
PROTOCOLS = ("supervised", "few_shot", "base_to_novel", "zero_shot", "reid")
SAME_VIDEOS = 3  # of these, the first ones
STORED = (20_000, 12, 512)
LIMITS = {"slower with three protocols": 1.3, "memory beyond the imports, GB": 0.15}


def scratch(folder: Path) -> None:
    """The project's parameters and links to what the stages read; no split files yet."""
    shutil.copytree(ROOT / "params", folder / "params")
    for part in ("data", "models"):
        (folder / part).symlink_to(ROOT / part)
    (folder / "cache/splits/demo").mkdir(parents=True)
    for part in ("manifest", "frames", "backbone"):
        (folder / "cache" / part).symlink_to(ROOT / "cache" / part)


def tested() -> dict[str, Any]:
    """Split file → split, of the demo."""
    from vidprompt.data.splits.split_file import read_split

    files = sorted((ROOT / "cache/splits/demo").glob("*.json"))
    return {file.stem: read_split(file) for file in files}


def choose(names: Sequence[str]) -> None:
    """Leave the scratch project only these split files."""
    folder = Path("cache/splits/demo")
    shutil.rmtree(folder)
    folder.mkdir()
    for name in names:
        (folder / f"{name}.json").symlink_to(ROOT / "cache/splits/demo" / f"{name}.json")


@contextmanager
def counting() -> Iterator[list[int]]:
    """Clips that the model is given."""
    from vidprompt.models.methods.video_clip import VideoCLIP

    counts: list[int] = []
    encode_video = VideoCLIP.encode_video

    def counted(self: VideoCLIP, video: Any, *arguments: Any, **named: Any) -> Any:
        counts.append(len(video))
        return encode_video(self, video, *arguments, **named)

    with patch.object(VideoCLIP, "encode_video", counted):
        yield counts


def timed(run: Callable[[Any], None], *overrides: str) -> float:
    """Seconds of a stage, its configuration composed before."""
    from vidprompt.config.compose import compose

    config = compose(overrides)
    began = time.perf_counter()
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        run(config)
    return time.perf_counter() - began


def encoded(names: Sequence[str], *overrides: str) -> dict[str, float]:
    """Clips and seconds of the features stage with these split files."""
    from vidprompt.pipeline.stages import features

    choose(names)
    with counting() as counts:
        seconds = timed(features.run, *overrides)
    return {"clips": sum(counts), "seconds": round(seconds, 2)}


def once(splits: dict[str, Any]) -> dict[str, Any]:
    """Checkpoint → all of its lists together, each alone, and the ratio."""
    runs = sorted({split.run for split in splits.values()})
    checkpoints = {"frozen_clip": (list(splits), ["method=frozen_clip"])} | {
        f"ez_clip {run}": (
            [name for name, split in splits.items() if split.run == run],
            ["method=ez_clip", f"split={run}"],
        )
        for run in runs
    }
    figures: dict[str, Any] = {}
    for checkpoint, (names, overrides) in checkpoints.items():
        together = encoded(names, *overrides)
        alone = [encoded([name], *overrides) for name in names] if len(names) > 1 else [together]
        sums = {key: round(sum(one[key] for one in alone), 2) for key in together}
        ratio = {key: round(sums[key] / together[key], 2) for key in together}
        figures[checkpoint] = {"lists": len(names), "together": together, "alone": sums} | {
            "alone / together": ratio
        }
    every = [sum(f[how]["clips"] for f in figures.values()) for how in ("alone", "together")]
    return figures | {"all, clips alone / together": round(every[0] / every[1], 2)}


def protocols(splits: dict[str, Any]) -> list[dict[str, Any]]:
    """With 1 to 5 protocols: seconds of encoding together, one after the other, and of evaluation."""
    from vidprompt.pipeline.stages import evaluate

    rows: list[dict[str, Any]] = []
    apart = 0.0
    for count in range(1, len(PROTOCOLS) + 1):
        chosen = PROTOCOLS[:count]
        last = [name for name, split in splits.items() if split.protocol == chosen[-1]]
        apart += min(encoded(last, "method=frozen_clip")["seconds"] for _ in range(2))
        names = [name for name, split in splits.items() if split.protocol in chosen]
        twice = [encoded(names, "method=frozen_clip") for _ in range(2)]
        together = min(twice, key=lambda one: one["seconds"])
        seconds = sum(
            timed(evaluate.run, "method=frozen_clip", f"protocol={name}") for name in chosen
        )
        rows.append(
            {"protocols": count, "clips": together["clips"], "encoding": together["seconds"]}
            | {"encoding by protocol": round(apart, 2), "evaluation": round(seconds, 2)}
        )
    return rows


def processes(folder: Path) -> dict[str, Any]:
    """How the stage is run → seconds of the command; and whether they wrote the same."""
    command = [sys.executable, "-m", "vidprompt.cli", "features", "method=frozen_clip"]
    ways = {
        "1 process, 1 thread": (1, 1),
        "1 process, 2 threads": (1, 2),
        "2 processes, 1 thread each": (2, 1),
    }
    figures: dict[str, Any] = {}
    contents = []
    out = folder / "cache/features/demo/frozen_clip/frozen"
    for way, (count, threads) in ways.items():
        os.environ["OMP_NUM_THREADS"] = str(threads)
        shutil.rmtree(out, ignore_errors=True)
        took, said = measured([*command, "views.clips=4", f"processes={count}"], folder)
        if took["exit"]:
            raise SystemExit("\n".join(said))
        figures[way] = {key: took[key] for key in ("seconds", "cpu_seconds")}
        contents.append({file.name: file.read_bytes() for file in out.iterdir()})
    base = figures["1 process, 1 thread"]["seconds"]
    for figure in figures.values():
        figure["times as fast"] = round(base / figure["seconds"], 2)
    return figures | {"same bytes": all(content == contents[0] for content in contents)}


def store(folder: Path) -> dict[str, Any]:
    """In a process of its own: seconds of putting a large store together and of reading from it."""
    from vidprompt.inference.feature_blocks import BlockRows, BlockStore, plan_blocks
    from vidprompt.inference.feature_store import read_features, write_features

    names = [f"v/{number:06}" for number in range(STORED[0])]
    blocks = plan_blocks(names, [], 256)
    scratch_store = BlockStore(folder / "scratch", blocks, {})
    scratch_store.prepare()
    rng = np.random.default_rng(0)
    figures: dict[str, Any] = {}

    def step(name: str, work: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        done = work()
        figures[name] = round(time.perf_counter() - began, 2)
        return done

    def write_blocks() -> None:
        for block in blocks:
            shape = (len(block.videos), *STORED[1:])
            scratch_store.write(block, rng.standard_normal(shape, np.float32))

    step("write blocks", write_blocks)
    step("look at blocks again", scratch_store.prepare)
    rows = BlockRows(scratch_store)
    step("put together", lambda: write_features(folder / "out", names, rows, {}, 1.0))
    features = step("open", lambda: read_features(folder / "out"))
    peak = peak_gb()
    some = np.arange(0, STORED[0], 20)
    step("read 1,000 rows", lambda: features.video[some].sum())
    size = round(4 * float(np.prod(STORED)) / 1e9, 2)
    return {"seconds": figures, "gigabytes": size, "peak_gb": peak}


def peak_gb() -> float:
    """Maximum resident set of this process so far."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 3)


def memory() -> dict[str, Any]:
    """What `store` takes, and its peak memory beyond that of an interpreter with the same imports."""
    this = [sys.executable, str(Path(__file__).resolve()), "--store"]
    idle, _ = measured([*this, ""], ROOT)
    with tempfile.TemporaryDirectory() as name:
        process, said = measured([*this, name], ROOT)
    if process["exit"]:
        raise SystemExit("\n".join(said))
    figures = json.loads(said[0])
    return figures | {"peak_gb beyond the imports": round(figures["peak_gb"] - idle["peak_gb"], 3)}


def missed(found: dict[str, Any]) -> list[str]:
    """What is not as it is claimed to be."""
    bad = []
    if not found["processes"]["same bytes"]:
        bad.append("the same bytes from any number of processes")
    first, same = (found["protocols"][i] for i in (0, SAME_VIDEOS - 1))
    if same["encoding"] > LIMITS["slower with three protocols"] * first["encoding"]:
        bad.append("encoding flat over protocols of the same videos")
    if same["clips"] != first["clips"]:
        bad.append("each video once")
    limit = LIMITS["memory beyond the imports, GB"]
    if found["memory"]["peak_gb beyond the imports"] > limit:
        bad.append("memory")
    return bad


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--store", type=str, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    if arguments.store is not None:
        import vidprompt.inference.feature_store  # noqa: F401

        print(json.dumps(store(Path(arguments.store)) if arguments.store else {}))
        return
    splits = tested()
    found: dict[str, Any] = {"memory": memory()}
    threads = os.environ.get("OMP_NUM_THREADS")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        scratch(folder)
        os.chdir(folder)
        choose(list(splits))
        found["processes"] = processes(folder)
        os.environ.pop("OMP_NUM_THREADS")
        if threads is not None:
            os.environ["OMP_NUM_THREADS"] = threads
        encoded(list(splits)[-1:], "method=frozen_clip")  # what is loaded once is loaded
        found["once"] = once(splits)
        found["protocols"] = protocols(splits)
        os.chdir(ROOT)
    print(json.dumps(found, indent=1))
    bad = missed(found)
    print("missed: " + (", ".join(bad) or "nothing"))
    result = provenance() | found | {"limits": LIMITS, "missed": bad}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
