"""How often the 95 % intervals hold the true value, and how often no difference is called one.

    python benchmarks/intervals.py            # everything, results in benchmarks/results/intervals.json
    python benchmarks/intervals.py --part reid --repeats 200

Results are drawn many times from a known truth, and computed with the package's own functions. Each part
writes its rows into the results; a row has the Monte Carlo standard error of its share. `few` is the share
of draws without an interval. `best`: the share nearest to .95, not below .93, that any interval of so many
hits could have: a count is inside or not, so that with few videos and a value near 1 there is none
between .93 and .97. `too_high` and `too_low` are the shares of intervals wholly above and below the true
value; where more than 2.5 % of the draws are `all_right`, none is too high, and an interval with 2.5 % on
each side holds in at least 97.5 %. Re-identification: persons, their clothes and how hard they are to
recognise are drawn anew each time, cameras stay; queries of all persons are ranked in one gallery.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binom

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.machine import provenance

from vidprompt.comparison.compare import ComparisonVerdict, compare
from vidprompt.comparison.results import LoadedResult
from vidprompt.files.atomic import write_json
from vidprompt.metrics.recognition import metrics_of
from vidprompt.metrics.reidentification import retrieval_metrics
from vidprompt.metrics.result import parse_result
from vidprompt.metrics.retrieval import RetrievalSet, evaluate_retrieval

RESULTS = Path(__file__).parent / "results" / "intervals.json"
Row = dict[str, Any]
CAMERAS = 12


def _share(name: str, setting: Row, inside: list[bool], few: int = 0) -> Row:
    counted = {"repeats": len(inside) + few, "few": few}
    if not inside:
        return {"what": name, **setting, "share": None, "error": None, **counted}
    share = float(np.mean(inside))
    error = (share * (1 - share) / len(inside)) ** 0.5
    shares = {"share": round(share, 4), "error": round(error, 4)}
    return {"what": name, **setting, **shares, **counted}


def _covered(name: str, setting: Row, entries: list[Row], truth: float) -> Row:
    """The share of entries of metrics.json whose interval holds `truth`."""
    known = [one for one in entries if "ci95" in one]
    ends = [one["ci95"] for one in known]
    inside = [low <= truth <= high for low, high in ends]
    row = _share(name, setting | {"truth": round(truth, 4)}, inside, len(entries) - len(ends))
    if known:
        row["too_high"] = round(float(np.mean([low > truth for low, _ in ends])), 4)
        row["too_low"] = round(float(np.mean([high < truth for _, high in ends])), 4)
        row["all_right"] = round(float(np.mean([one["value"] == 1 for one in known])), 4)
    return row


def _best(n: int, p: float, least: float = 0.93) -> float:
    """The chance nearest to .95, and at least `least`, of any run of counts of n hits of chance p."""
    ends = np.concatenate([[0], np.cumsum(binom.pmf(np.arange(n + 1), n, p))])
    chances = (ends[None, :] - ends[:, None])[np.triu_indices(n + 2, 1)]
    chances = chances[chances >= least]
    return round(float(chances[np.abs(chances - 0.95).argmin()]), 4)


def _table(split: str, test: str, hits: np.ndarray, classes: np.ndarray) -> pd.DataFrame:
    names = [f"{test}{i}" for i in range(len(hits))]
    columns = {"split": split, "test": test, "video_id": names, "label": classes.astype(str)}
    return pd.DataFrame(columns | {"rank": np.where(hits, 0, 9), "confidence": 0.5})


def recognition(repeats: int) -> Iterator[Row]:
    """Top-1 of independent videos, the mean over classes of three videos, the harmonic mean."""
    rng = np.random.default_rng(0)
    for n in (10, 20, 50, 100, 200, 1000):
        for p in (0.5, 0.8, 0.95, 0.99):
            counts, times = np.unique(rng.binomial(n, p, repeats), return_counts=True)
            found = []
            for right, many in zip(counts, times, strict=True):
                table = _table("supervised_split1", "test", np.arange(n) < right, np.zeros(n))
                found += [metrics_of(table)[1]["supervised"]["top1"]] * many
            yield _covered("top-1", {"n": n, "p": p, "best": _best(n, p)}, found, p)
    for count in (8, 50):
        accuracy = rng.beta(6, 2, count)
        classes = np.repeat(np.arange(count), 3)
        found = [
            metrics_of(
                _table(
                    "supervised_split1", "test", rng.random(3 * count) < accuracy[classes], classes
                )
            )[1]["supervised"]["mean_class"]
            for _ in range(repeats)
        ]
        yield _covered("mean class", {"classes": count, "each": 3}, found, float(accuracy.mean()))
    for n, b, m in ((20, 0.95, 0.5), (100, 0.8, 0.6), (400, 0.9, 0.7)):
        found = [
            metrics_of(
                pd.concat(
                    _table("base_to_novel_full", half, rng.random(n) < p, np.zeros(n))
                    for half, p in (("base", b), ("novel", m))
                )
            )[1]["hm"]
            for _ in range(repeats)
        ]
        yield _covered("harmonic mean", {"n": n, "base": b, "novel": m}, found, 2 * b * m / (b + m))


def _people(rng: np.random.Generator, people: int, noise: float, models: int = 1) -> list[Any]:
    """Rankings of one set of persons by `models` equally good models that agree in part."""
    person = np.repeat(np.arange(people), rng.integers(8, 18, people))
    n, width, common = len(person), 16, 0.7 if models > 1 else 1.0
    camera, clothes = rng.integers(0, CAMERAS, n), rng.integers(0, 2, n)
    query = rng.random(n) < 0.44
    cameras = 0.5 * np.random.default_rng(7).normal(size=(CAMERAS, width))
    identity, dress = rng.normal(size=(people, width)), rng.normal(size=(people, 2, width))
    hard, shared = noise * np.exp(0.4 * rng.normal(size=people)), rng.normal(size=(n, width))
    results = []
    for _ in range(models):
        own = (1 - common) ** 0.5 * rng.normal(size=(n, width))
        other = (1 - common) ** 0.5 * rng.normal(size=(people, width))
        features = (common**0.5 * identity + other)[person] + cameras[camera]
        features += 0.6 * dress[person, clothes]
        features += hard[person][:, None] * (common**0.5 * shared + own)
        asked, gallery = (RetrievalSet(person[s], camera[s], clothes[s]) for s in (query, ~query))
        results.append(
            evaluate_retrieval(features[query], features[~query], asked, gallery, "general", (1,))
        )
    return results


def reid(repeats: int) -> Iterator[Row]:
    """R-1 and mAP by person."""
    for people in (2, 5, 10, 20, 50, 151):
        for noise in (0.4, 0.8):
            rng = np.random.default_rng([people, int(noise * 10)])
            entries: dict[str, list[Row]] = {"R-1": [], "mAP": []}
            values: dict[str, list[float]] = {"R-1": [], "mAP": []}
            for _ in range(repeats):
                [one] = _people(rng, people, noise)
                columns = {"protocol": "general", "label": one.person.astype(str)}
                columns |= {"rank": one.first_rank, "average_precision": one.average_precision}
                found = retrieval_metrics(pd.DataFrame(columns))["general"]
                for name, kept in entries.items():
                    kept.append(found[name])
                    values[name].append(found[name]["value"])
            for name, kept in entries.items():
                setting = {"persons": people, "noise": noise}
                yield _covered(name, setting, kept, float(np.mean(values[name])))


def _loaded(name: str, protocol: str, videos: pd.DataFrame) -> LoadedResult:
    """A result of which only the predictions are known."""
    about = {"dataset": "made-up", "method": name, "protocol": protocol}
    hashes = {"config": "", "data": "", "checkpoints": {}}
    counts = {"n": len(videos), "listed": len(videos), "coverage": 1.0}
    result = parse_result(about | counts | {"hashes": hashes, "summary": {}, "splits": {}})
    return LoadedResult(name, result, videos)


def _verdicts(protocol: str, tables: list[pd.DataFrame]) -> dict[str, bool]:
    """Measure → whether one of two results is called better."""
    a, b = (_loaded(name, protocol, t) for name, t in zip("ab", tables, strict=True))
    decided = (ComparisonVerdict.BETTER, ComparisonVerdict.WORSE)
    return {
        one.metric: one.verdict in decided
        for one in compare(a, b).differences
        if not one.split and one.metric != "top5"
    }


def _hits(split: str, hits: np.ndarray) -> pd.DataFrame:
    """A test of a recognition protocol as `read_per_video` gives it."""
    names = [f"v{i:05}" for i in range(len(hits))]
    columns = {"split": split, "test": "test", "video_id": names, "label": "x", "group": ""}
    said = np.where(hits, "x", "y")
    return pd.DataFrame(
        columns | {"predicted": said, "classes": 0, "top1": hits * 1.0, "top5": 1.0}
    )


def differences(repeats: int) -> Iterator[Row]:
    """How often one of two equally good models is called better: by video, over seeds, by person."""
    rng = np.random.default_rng(1)
    for n in (10, 50, 200):
        for seeds in (1, 3):
            names = [f"few_shot_2shot_seed{i + 1}" for i in range(seeds)]
            called = []
            for _ in range(repeats):
                skill = rng.beta(3, 2, n)
                tables = []
                for _ in "ab":
                    shift = rng.normal(0, 0.03 * (seeds > 1), seeds)
                    parts = [
                        _hits(name, rng.random(n) < np.clip(skill + one, 0, 1))
                        for name, one in zip(names, shift, strict=True)
                    ]
                    tables.append(pd.concat(parts, ignore_index=True))
                called.append(_verdicts("few_shot", tables)["top1"])
            yield _share("false verdict top-1", {"n": n, "seeds": seeds}, called)
    for people in (6, 10, 20, 50):
        for noise in (0.4, 0.8):
            rng = np.random.default_rng([people, int(noise * 10), 1])
            by_measure: dict[str, list[bool]] = {"R-1": [], "mAP": []}
            for _ in range(repeats):
                tables = []
                for one in _people(rng, people, noise, models=2):
                    columns = {"split": "reid", "test": "general", "label": one.person.astype(str)}
                    columns |= {"video_id": [f"q{i:05}" for i in one.query], "predicted": ""}
                    columns |= {"group": one.person.astype(str), "classes": 0}
                    columns |= {"R-1": (one.first_rank < 1) * 1.0, "mAP": one.average_precision}
                    tables.append(pd.DataFrame(columns))
                for name, was_called in _verdicts("reid", tables).items():
                    by_measure[name].append(was_called)
            for name, verdicts in by_measure.items():
                yield _share(f"false verdict {name}", {"persons": people, "noise": noise}, verdicts)


PARTS: dict[str, Callable[[int], Iterator[Row]]] = {
    "recognition": recognition,
    "reid": reid,
    "differences": differences,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--part", choices=sorted(PARTS), action="append")
    parser.add_argument("--repeats", type=int, default=2000)
    arguments = parser.parse_args()
    about = provenance()  # before the results file is changed
    for part in arguments.part or PARTS:
        rows = []
        for row in PARTS[part](arguments.repeats):
            print(row, flush=True)
            rows.append(row)
        known = json.loads(RESULTS.read_text("utf-8")) if RESULTS.is_file() else {}
        write_json(RESULTS, known | {part: rows} | about)


if __name__ == "__main__":
    main()
