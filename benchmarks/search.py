"""Searching an index: exactly up to a million rows, and by an approximate index beyond.

    python benchmarks/search.py                    # half an hour on two cores, 5 GB of disk

The rows are made to resemble the features of videos by CLIP: all point into one direction to some extent,
they are in clusters of very different sizes, and within a cluster they vary most along a few directions.
Half of the queries are such rows that are not in the index ("videos"), half lie apart from all rows, in the
direction of a cluster, as the features of texts do ("texts").

product     1,000,000 rows of 512 numbers. `exact`: what `Index.search_feature` takes, whether its hits are
            those of float32, and memory (`private_mb` is the process's own, `mapped_mb` are pages of files,
            which the system can take back). `pq`: the approximate index of larger ones
            (`vidprompt.index.approximate`), for numbers of candidates.
comparison  the same and others with 100,000 rows: `ivf`, faiss's clusters of rows with 8 bits a number,
            for numbers of probed clusters; `hnsw`, usearch's graph in float16, for widths of the search.
            LanceDB's index is of the kind of `ivf`.

Each is measured in a process of its own. Of the approximate ones: seconds to build, size of the file, memory,
milliseconds a query, and recall@10 after the candidates are scored exactly, as a search does.

Writes `benchmarks/results/search.json`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.machine import ROOT, provenance

OUT = ROOT / "benchmarks/results/search.json"
WIDTH, CLUSTERS, DIRECTIONS = 512, 3000, 64
SHARD_ROWS = 8192
QUERIES, TOP = 100, 10
LIMITS = {"exact, ms a query at 1,000,000 rows": 100, "recall@10": 0.98}


class Features:
    """Draws features of unit length, always the same ones."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.mean = 0.6 * unit(rng.standard_normal(WIDTH))
        self.centres = 0.5 * unit(rng.standard_normal((CLUSTERS, WIDTH)))
        sizes = 1 / np.arange(1, CLUSTERS + 1) ** 0.7
        self.share = sizes / sizes.sum()
        # each cluster varies along some of these directions, less along each further one
        self.directions = unit(rng.standard_normal((8 * DIRECTIONS, WIDTH)))
        self.scale = 0.12 / np.sqrt(np.arange(1, DIRECTIONS + 1))

    def rows(self, count: int, seed: int) -> np.ndarray:
        rng = np.random.default_rng([1, seed])
        cluster = rng.choice(CLUSTERS, count, p=self.share)
        rows = self.mean + self.centres[cluster] + 0.012 * rng.standard_normal((count, WIDTH))
        first = cluster % 8 * DIRECTIONS
        weights = rng.standard_normal((count, DIRECTIONS)) * self.scale
        for part in range(8):
            own = first == part * DIRECTIONS
            rows[own] += weights[own] @ self.directions[part * DIRECTIONS :][:DIRECTIONS]
        return unit(rows)

    def queries(self, kind: str) -> np.ndarray:
        if kind == "videos":
            return self.rows(QUERIES, 1_000_000)
        rng = np.random.default_rng(2)
        centre = self.centres[rng.choice(CLUSTERS, QUERIES, p=self.share)]
        gap = unit(rng.standard_normal(WIDTH))
        noise = unit(rng.standard_normal((QUERIES, WIDTH)))
        return unit(0.8 * gap + 0.2 * self.mean + 0.6 * centre + 0.4 * noise)


def unit(values: np.ndarray) -> np.ndarray:
    return (values / np.linalg.norm(values, axis=-1, keepdims=True)).astype(np.float32)


def write_index(folder: Path, rows: int) -> None:
    """An index as `vidprompt embed` makes it, of drawn features."""
    from vidprompt.index.search_files import write_search_files
    from vidprompt.index.store import IndexInfo, Row, write_info, write_shard

    features = Features()
    info = IndexInfo("drawn", "drawn", WIDTH, ".", None, None)
    shards = []
    for begin in range(0, rows, SHARD_ROWS):
        count = min(SHARD_ROWS, rows - begin)
        table = [Row(f"{begin + i:09}.mp4", 0.0, 10.0, 1, 1, "0" * 64) for i in range(count)]
        shards.append(write_shard(folder, f"{begin:09}", info, table, features.rows(count, begin)))
    with patch("vidprompt.index.search_files.write_approximate"):  # measured by itself
        search = write_search_files(folder, info, shards)
    write_info(folder, IndexInfo("drawn", "drawn", WIDTH, ".", None, None, tuple(shards), search))


def truth(folder: Path) -> None:
    """The best rows of every query by float32 products of all, written to `truth.npz`."""
    from vidprompt.index.search import Index

    index = Index(folder)
    kinds: dict[str, Any] = {}
    for kind in ("videos", "texts"):
        queries = Features().queries(kind)
        best = [(np.empty(0, np.int64), np.empty(0))] * QUERIES
        for begin in range(0, len(index), SHARD_ROWS):
            rows = np.arange(begin, min(begin + SHARD_ROWS, len(index)))
            block = index._row_features(rows)
            scores = queries @ block.T
            for number in range(QUERIES):
                chosen = np.argsort(-scores[number])[: 4 * TOP]
                exact = block[chosen].astype(np.float64) @ queries[number]
                numbers = np.concatenate([best[number][0], rows[chosen]])
                values = np.concatenate([best[number][1], exact])
                order = np.argsort(-values, kind="stable")[: 2 * TOP]
                best[number] = numbers[order], values[order]
        kinds[kind] = np.stack([numbers for numbers, _ in best])
    np.savez(folder / "truth.npz", **kinds)


def memory() -> dict[str, float]:
    """Megabytes of this process: its own and of mapped files."""
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    values = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith("Rss")}
    return {
        "private_mb": round(int(values["RssAnon"]) / 1024),
        "mapped_mb": round(int(values["RssFile"]) / 1024),
    }


def timed(search: Callable[[np.ndarray], np.ndarray], folder: Path) -> dict[str, Any]:
    """Milliseconds of a query and recall@10, of both kinds of queries."""
    best, figures = np.load(folder / "truth.npz"), {}
    for kind in ("videos", "texts"):
        queries = Features().queries(kind)
        search(queries[0])
        seconds, cpu, found = [], [], []
        for number, query in enumerate(queries):
            began, used = time.perf_counter(), time.process_time()
            rows = search(query)
            seconds.append(time.perf_counter() - began)
            cpu.append(time.process_time() - used)
            found.append(np.isin(best[kind][number][:TOP], rows[:TOP]).mean())
        figures[kind] = {
            "ms_best": round(1000 * min(seconds), 1),
            "ms_median": round(1000 * float(np.median(seconds)), 1),
            "cpu_ms_median": round(1000 * float(np.median(cpu)), 1),  # of all cores
            "ms_p90": round(1000 * float(np.quantile(seconds, 0.9)), 1),
            "recall@10": round(float(np.mean(found)), 4),
        }
    return figures


def exact(folder: Path) -> dict[str, Any]:
    from vidprompt.index.search import Index

    began = time.perf_counter()
    index = Index(folder)
    figures: dict[str, Any] = {"open_s": round(time.perf_counter() - began, 3)}
    before = memory()

    def search(query: np.ndarray) -> np.ndarray:
        hits = index.search_feature(query, top=20)
        return np.array([int(hit.video.removesuffix(".mp4")) for hit in hits])

    return figures | {"idle": before, "queries": timed(search, folder), "after": memory()}


def approximate(
    folder: Path,
    build: Callable[[Any, Path], None],
    load: Callable[[Path], Callable[[np.ndarray, int], np.ndarray]],
    settings: dict[str, int],
) -> dict[str, Any]:
    """Figures of a kind of index: `build(matrix, path)`, and `load(path)`, which finds candidates."""
    from vidprompt.index.scoring import exact_scores
    from vidprompt.index.search import Index

    index, path = Index(folder), folder / "approximate"
    path.unlink(missing_ok=True)
    began = time.perf_counter()
    build(index._matrix, path)
    figures: dict[str, Any] = {"build_s": round(time.perf_counter() - began, 1)}
    figures["file_mb"] = round(path.stat().st_size / 2**20)
    find = load(path)
    for name, value in settings.items():

        def search(query: np.ndarray, value: int = value) -> np.ndarray:
            rows = np.unique(find(query, value))
            return rows[np.argsort(-exact_scores(rows, query, index._row_features))]

        figures[name] = timed(search, folder)
    return figures | {"after": memory()}


def pq(folder: Path) -> dict[str, Any]:
    """As the product does it."""
    from vidprompt.index.approximate import Approximate, write_approximate

    def load(path: Path) -> Callable[[np.ndarray, int], np.ndarray]:
        opened = Approximate.open(path)
        assert opened is not None
        return lambda query, count: opened.candidates(query, 1, count)

    settings = {f"{count} candidates": count for count in (300, 1000, 3000)}
    return approximate(
        folder, lambda matrix, path: write_approximate(path, matrix, 0), load, settings
    )


def ivf(folder: Path) -> dict[str, Any]:
    import faiss

    def build(matrix: np.ndarray, path: Path) -> None:
        clusters = int(2 ** round(np.log2(4 * np.sqrt(len(matrix)))))
        index = faiss.IndexIVFScalarQuantizer(
            faiss.IndexFlatIP(WIDTH),
            WIDTH,
            clusters,
            faiss.ScalarQuantizer.QT_8bit,
            faiss.METRIC_INNER_PRODUCT,
        )
        index.train(np.asarray(matrix[:: max(1, len(matrix) // (39 * clusters))], np.float32))
        for begin in range(0, len(matrix), SHARD_ROWS):
            index.add(np.asarray(matrix[begin : begin + SHARD_ROWS], np.float32))
        faiss.write_index(index, str(path))

    def load(path: Path) -> Callable[[np.ndarray, int], np.ndarray]:
        index: Any = faiss.read_index(str(path))

        def find(query: np.ndarray, probed: int) -> np.ndarray:
            index.nprobe = probed
            rows = index.search(query[None], 10 * TOP)[1]
            return rows[rows >= 0]

        return find

    settings = {f"{count} clusters probed": count for count in (32, 96, 256)}
    return approximate(folder, build, load, settings)


def hnsw(folder: Path) -> dict[str, Any]:
    from usearch.index import Index as Graph

    def build(matrix: np.ndarray, path: Path) -> None:
        graph = Graph(ndim=WIDTH, metric="ip", dtype="f16", connectivity=16, expansion_add=128)
        for begin in range(0, len(matrix), SHARD_ROWS):
            block = np.asarray(matrix[begin : begin + SHARD_ROWS], np.float32)
            graph.add(np.arange(begin, begin + len(block)), block)
        graph.save(str(path))

    def load(path: Path) -> Callable[[np.ndarray, int], np.ndarray]:
        graph: Any = Graph.restore(str(path), view=True)

        def find(query: np.ndarray, expansion: int) -> np.ndarray:
            graph.expansion_search = expansion
            return graph.search(query, 10 * TOP).keys.astype(np.int64)

        return find

    settings = {f"expansion {count}": count for count in (128, 256, 512)}
    return approximate(folder, build, load, settings)


PARTS: dict[str, Callable[[Path], Any]] = {
    "truth": truth,
    "exact": exact,
    "pq": pq,
    "ivf": ivf,
    "hnsw": hnsw,
}
SIZES = {"product": (1_000_000, ("exact", "pq")), "comparison": (100_000, ("pq", "ivf", "hnsw"))}


def missed(found: dict[str, Any]) -> list[str]:
    """What is not as it is claimed to be."""
    from vidprompt.index.approximate import CANDIDATES

    bad, product = [], found["product"]
    limit = LIMITS["exact, ms a query at 1,000,000 rows"] * product["rows"] / 1_000_000
    for kind, figures in product["exact"]["queries"].items():
        if figures["ms_median"] > limit:
            bad.append(f"exact, {kind}: {figures['ms_median']} ms")
        if figures["recall@10"] < 1:
            bad.append(f"exact, {kind}: other hits than float32's")
    for kind, figures in product["pq"][f"{CANDIDATES} candidates"].items():
        if figures["recall@10"] < LIMITS["recall@10"]:
            bad.append(f"approximate, {kind}: recall@10 {figures['recall@10']}")
    return bad


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scale", type=float, default=1, help="Of the numbers of rows.")
    parser.add_argument("--part", choices=list(PARTS), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    if arguments.part:
        print(json.dumps(PARTS[arguments.part](arguments.folder)))
        return
    found: dict[str, Any] = {"width": WIDTH}
    for name, (rows, parts) in SIZES.items():
        rows = int(rows * arguments.scale)
        found[name] = {"rows": rows}
        with tempfile.TemporaryDirectory() as folder:
            write_index(Path(folder), rows)
            part("truth", Path(folder))
            for one in parts:
                found[name][one] = part(one, Path(folder))
                print(name, one, json.dumps(found[name][one], indent=1), flush=True)
    bad = missed(found)
    print("missed: " + (", ".join(bad) or "nothing"))
    result = provenance() | found | {"limits": LIMITS, "missed": bad}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def part(name: str, folder: Path) -> Any:
    """A part in a process of its own."""
    command = [sys.executable, __file__, "--part", name, "--folder", str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
