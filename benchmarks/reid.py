"""Time and memory of `evaluate_retrieval`: 10,000 queries against a gallery of 100,000, 512 numbers each.

    python benchmarks/reid.py                    # about 10 minutes on two cores
    python benchmarks/reid.py --scale 0.02       # a quick try; writes no file

Made-up people before 12 cameras in 3 outfits each: a feature is its person plus noise. The whole is
measured in a process of its own, which draws the features too: peak memory is its maximum resident set.
The same numbers are then asked of a loop written from the rules (200 queries, the whole gallery), once
with these features (the loop computes in float64, so that nearly equal ones may change places) and once
with features whose similarities are exact and often equal, where every number has to agree.
Writes `benchmarks/results/reid.json`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.datasets import measured
from benchmarks.machine import ROOT, provenance

from vidprompt.metrics.retrieval import (
    PROTOCOLS,
    Array,
    RetrievalResult,
    RetrievalSet,
    evaluate_retrieval,
)

OUT = ROOT / "benchmarks/results/reid.json"
QUERIES, GALLERY, WIDTH, COMPARED = 10_000, 100_000, 512, 200
CAMERAS, OUTFITS, TRACKLETS = 12, 3, 100  # tracklets of a person in the gallery
RANKS = (1, 5, 10)
LIMITS = {"peak_gb": 4.0, "seconds": 600.0}
Side = tuple[Array, RetrievalSet]


def made_up(rows: int, people: int, seed: int, exact: bool) -> Side:
    """Features and labels of so many tracklets.

    `exact`: 256 entries of ±1 and 256 zeros, so that unit vectors are ±1/16 and every similarity is a
    multiple of 1/256, whatever the order of summation: many are equal.
    """
    rng = np.random.default_rng(seed)
    person = rng.integers(people, size=rows)
    about = RetrievalSet(person, rng.integers(CAMERAS, size=rows), rng.integers(OUTFITS, size=rows))
    centres = np.random.default_rng(0).standard_normal((people, WIDTH), np.float32)
    features = rng.standard_normal((rows, WIDTH), np.float32)
    features *= 3
    for start in range(0, rows, 4096):
        part = slice(start, start + 4096)
        features[part] += centres[person[part]]
    if exact:
        features = np.sign(features)
        features[:, WIDTH // 2 :] = 0
    return features, about


def both(scale: float, exact: bool = False) -> tuple[Side, Side]:
    """Query and gallery."""
    queries, gallery = (max(COMPARED, round(n * scale)) for n in (QUERIES, GALLERY))
    people = max(2, gallery // TRACKLETS)
    return made_up(queries, people, 1, exact), made_up(gallery, people, 2, exact)


def evaluated(query: Side, gallery: Side, protocol: str) -> RetrievalResult:
    return evaluate_retrieval(query[0], gallery[0], query[1], gallery[1], protocol, RANKS)


def once(scale: float, protocol: str) -> dict[str, Any]:
    """In a process of its own: seconds of the call alone, and what it found."""
    query, gallery = both(scale)
    began = time.perf_counter()
    result = evaluated(query, gallery, protocol)
    seconds = round(time.perf_counter() - began, 1)
    found = {f"R-{rank}": round(share, 6) for rank, share in result.cmc.items()}
    found |= {"mAP": round(result.mean_ap, 6), "evaluated": result.evaluated}
    return {"seconds": seconds, "found": found}


# -- the rules, one after the other -------------------------------------------------------------


def left_out(query: RetrievalSet, q: int, gallery: RetrievalSet, g: int, protocol: str) -> bool:
    """Entries of the same person that a protocol takes from the ranking."""
    if query.person[q] != gallery.person[g]:
        return False
    if query.camera[q] == gallery.camera[g]:
        return True
    same_clothes = bool(query.clothes[q] == gallery.clothes[g])
    return {"general": False, "clothes-changing": same_clothes, "same-clothes": not same_clothes}[
        protocol
    ]


def naive(query: Side, gallery: Side) -> dict[str, list[tuple[int, int, float, int]]]:
    """Protocol → (query, rank of the first positive, AP, entries ranked) of each that has a positive."""
    found: dict[str, list[tuple[int, int, float, int]]] = {name: [] for name in PROTOCOLS}
    wide = gallery[0].astype(np.float64)
    wide /= np.sqrt((wide * wide).sum(1, keepdims=True))
    for q, feature in enumerate(query[0].astype(np.float64)):
        similarity = (wide @ (feature / np.sqrt((feature * feature).sum()))).tolist()
        order = sorted(range(len(similarity)), key=lambda g: (-similarity[g], g))
        same = (gallery[1].person == query[1].person[q]).tolist()
        for protocol in PROTOCOLS:
            rank, positives = 0, list[int]()
            for g in order:
                if same[g]:
                    if left_out(query[1], q, gallery[1], g, protocol):
                        continue
                    positives.append(rank)
                rank += 1
            if positives:
                terms = [(i + 1) / (place + 1) for i, place in enumerate(positives)]
                found[protocol].append((q, positives[0], sum(terms) / len(terms), rank))
    return found


def compared(scale: float, exact: bool) -> dict[str, Any]:
    """Protocol → how far the fast numbers are from the loop's, over some queries."""
    (features, about), gallery = both(scale, exact)
    some = slice(COMPARED)
    few = RetrievalSet(about.person[some], about.camera[some], about.clothes[some])
    query = (features[some], few)
    figures = {}
    for protocol, rows in naive(query, gallery).items():
        result = evaluated(query, gallery, protocol)
        number, first, ap, ranking = (np.array(column) for column in zip(*rows, strict=True))
        share = [float((first < rank).mean()) for rank in RANKS]
        figures[protocol] = {
            "queries": len(rows),
            "same queries": np.array_equal(result.query, number),
            "same length of ranking": np.array_equal(result.ranking, ranking),
            "first ranks that differ": int((result.first_rank != first).sum()),
            "largest difference of an AP": float(np.abs(result.average_precision - ap).max()),
            "difference of mAP": abs(result.mean_ap - float(ap.mean())),
            "same CMC": share == [result.cmc[rank] for rank in RANKS],
            "mAP": round(float(ap.mean()), 6),
        }
    return figures


def wrong(figures: dict[str, Any], exact: bool) -> list[str]:
    """The protocols whose numbers are not the loop's (float32 may swap two entries, so hardly an mAP)."""
    checks = ("same queries", "same length of ranking") + (("same CMC",) if exact else ())
    bad = []
    for protocol, found in figures.items():
        same = all(found[check] for check in checks) and found["difference of mAP"] < 1e-5
        if exact:
            far = found["largest difference of an AP"] > 1e-12
            same = same and not far and not found["first ranks that differ"]
        bad += [] if same else [protocol]
    return bad


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--protocol", choices=PROTOCOLS, default="clothes-changing")
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if arguments.once:
        print(json.dumps(once(arguments.scale, arguments.protocol)))
        return
    options = ["--once", "--scale", str(arguments.scale), "--protocol", arguments.protocol]
    process, said = measured([sys.executable, str(Path(__file__).resolve()), *options], ROOT)
    if process["exit"]:
        raise SystemExit("\n".join(said))
    whole = json.loads(said[0]) | {"process": process, "protocol": arguments.protocol}
    print(json.dumps(whole, indent=1))
    kinds = {"made-up features": False, "exact similarities": True}
    loops = {name: compared(arguments.scale, exact) for name, exact in kinds.items()}
    print(json.dumps(loops, indent=1))
    missed = ["peak_gb"] if process["peak_gb"] > LIMITS["peak_gb"] else []
    missed += ["seconds"] if whole["seconds"] > LIMITS["seconds"] else []
    missed += [f"{name}: {p}" for name, f in loops.items() for p in wrong(f, kinds[name])]
    print("missed: " + (", ".join(missed) or "nothing"))
    out = arguments.out or (OUT if arguments.scale == 1 else None)
    if out:
        setting = (
            f"{QUERIES:,} queries, {GALLERY:,} in the gallery, {WIDTH} dimensions, default chunk"
        )
        figures = {"whole": whole, "naive loop, 200 queries": loops, "limits": LIMITS}
        result = provenance() | figures | {"missed": missed, "setting": setting}
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
