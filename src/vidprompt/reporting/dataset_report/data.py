"""Read what the page of a dataset shows from its results, predictions, manifest and splits."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd

from vidprompt.config.names import FLOOR
from vidprompt.data.checks.health_report import health_report
from vidprompt.data.manifest.table import read_manifest, usable
from vidprompt.data.splits.names import measure_of
from vidprompt.data.splits.split_file import read_splits
from vidprompt.files.hashes import sha256
from vidprompt.reporting.measures import PROTOCOL_TITLES, Results, Row
from vidprompt.system.errors import DataError

# not this package: its version has the commit, so that each commit would write another report
PACKAGES = ("torch", "open_clip_torch", "decord", "av", "great-expectations", "dvc")
_HEADLINE = {
    "zero_shot": "top1",
    "base_to_novel": "hm",
    "supervised": "top1",
    "reid": "clothes-changing/R-1",
}


@dataclass(frozen=True)
class Headline:
    """The main number of a protocol: its row, and how the best method compares with the floor."""

    row: Row
    verdict: str


@dataclass
class Health:
    """The state of a dataset's files."""

    sources: list[dict[str, Any]]
    codecs: list[tuple[str, int]]
    report: dict[str, Any]  # of vidprompt.data.checks.health
    incomplete: list[dict[str, Any]]  # classes with videos that cannot be used, the worst first
    complete: int  # the other classes


@dataclass
class Examples:
    """Some right and some wrong predictions of a method."""

    right: list[dict[str, Any]] = field(default_factory=list)
    wrong: list[dict[str, Any]] = field(default_factory=list)


def headlines(rows: Sequence[Row]) -> list[Headline]:
    """One row a protocol: of few-shot the most shots, of re-identification changed clothes; of a
    published list only where there is no other."""
    chosen: dict[str, Row] = {}
    for row in rows:
        key = _HEADLINE.get(row.protocol)
        if row.protocol not in chosen or (key in (None, row.key) and not row.has_own_name):
            chosen[row.protocol] = row
    return [Headline(row, _verdict(row)) for row in chosen.values()]


def _verdict(row: Row) -> str:
    """How the intervals of the best trained method and of the floor lie to each other."""
    if row.gain is None:
        return ""
    method, difference = row.gain
    if round(difference, 3) <= 0:
        return "no trained method is above the floor"
    best, floor = row.cells[method], row.cells[FLOOR]
    if best.low is None or floor.high is None:
        return ""
    return "intervals apart" if best.low > floor.high else "intervals overlap"


def facets(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows by the bar chart that they belong to."""
    by_facet: dict[str, list[Row]] = {}
    for row in rows:
        by_facet.setdefault(row.facet, []).append(row)
    return by_facet


def read_table(path: Path) -> pd.DataFrame | None:
    """A CSV with text columns kept as text (a class may be called `nan`); None when missing."""
    if not path.is_file():
        return None
    return pd.read_csv(path, keep_default_na=False)


def numbers(values: pd.Series) -> pd.Series:
    """A column as numbers; other values become NaN."""
    return pd.to_numeric(values, errors="coerce")


def points_of(table: pd.DataFrame, x: str, y: str) -> list[tuple[float, float]]:
    """Two columns as points; rows without two numbers are left out."""
    part = table[[x, y]].apply(numbers).dropna()
    return [(float(a), float(b)) for a, b in part.itertuples(index=False)]


def _test_table(
    folder: Path, method: str, protocol: str, test: str, name: str
) -> pd.DataFrame | None:
    """The rows of a test in a method's CSV `name`; None without any.

    Halves and published lists, which have other classes, count only where there is no usual split.
    """
    table = read_table(folder / method / protocol / name)
    if table is None or not (table["test"] == test).any():
        return None
    table = table[table["test"] == test]
    usual = table["split"].astype(str).map(measure_of) == protocol
    return table[usual] if usual.any() else table


def confusions(folder: Path, methods: Sequence[str], protocol: str, test: str) -> dict[str, Any]:
    """Method -> Counter of (true class, predicted class), over the usual splits of a test."""
    pairs_of: dict[str, Counter[tuple[str, str]]] = {}
    for method in methods:
        rows = _test_table(folder, method, protocol, test, "confusion.csv")
        if rows is not None:
            pairs = zip(rows["actual"].astype(str), rows["predicted"].astype(str), strict=True)
            pairs_of[method] = Counter(pairs)
    return pairs_of


def most_confused(
    pairs: Mapping[tuple[str, str], int], count: int = 10
) -> list[tuple[str, str, int, int]]:
    """The most frequent wrong pairs: true class, predicted class, videos, videos of the true class."""
    totals = Counter[str]()
    for (actual, _), videos in pairs.items():
        totals[actual] += videos
    wrong = [(a, p, n, totals[a]) for (a, p), n in pairs.items() if a != p]
    return sorted(wrong, key=lambda one: (-one[2], -one[2] / one[3], one[0], one[1]))[:count]


def class_accuracies(
    folder: Path, methods: Sequence[str], protocol: str, test: str
) -> list[tuple[str, dict[str, tuple[float, int]]]]:
    """(class, method -> (accuracy, videos)) over the usual splits of a test, the easiest class first."""
    accuracies: dict[str, dict[str, tuple[float, int]]] = {}
    for method in methods:
        rows = _test_table(folder, method, protocol, test, "per_class.csv")
        if rows is None:
            continue
        rows = rows.assign(top1=numbers(rows["top1"]))
        rows = rows[rows["top1"].notna() & (rows["n"] > 0)]
        rows = rows.assign(right=rows["top1"] * rows["n"], name=rows["class"].astype(str))
        for name, part in rows.groupby("name"):
            n = int(part["n"].sum())
            accuracies.setdefault(str(name), {})[method] = (float(part["right"].sum()) / n, n)

    def by_accuracy(item: tuple[str, dict[str, tuple[float, int]]]) -> tuple[float, str]:
        shares = [share for share, _ in item[1].values()]
        return -sum(shares) / len(shares), item[0]

    return sorted(accuracies.items(), key=by_accuracy)


def reliability_bins(
    folder: Path, methods: Sequence[str], protocol: str, test: str
) -> dict[str, list[tuple[float, float, int]]]:
    """Method -> (confidence, accuracy, videos) of every bin, over the usual splits of a test."""
    bins = {}
    for method in methods:
        rows = _test_table(folder, method, protocol, test, "reliability.csv")
        if rows is None:
            continue
        weighted = rows[["confidence", "accuracy"]].mul(rows["n"], axis=0).assign(n=rows["n"])
        sums = weighted.groupby(rows["low"]).sum()
        bins[method] = [(c / n, a / n, int(n)) for c, a, n in sums.itertuples(index=False)]
    return bins


def calibration_errors(results: Results, protocol: str, test: str) -> dict[str, float]:
    """Method -> expected calibration error, mean over the usual splits of a test."""
    means = {}
    for method, by_protocol in results.items():
        splits = by_protocol[protocol].splits if protocol in by_protocol else {}
        usual = [name for name in splits if measure_of(name) == protocol] or list(splits)
        tests = [splits[name].tests.get(test) for name in usual]
        errors = [one.ece.value for one in tests if one and one.ece]
        if errors:
            means[method] = sum(errors) / len(errors)
    return means


def tests_of(results: Results, *protocols: str) -> Iterator[tuple[str, str, str]]:
    """(protocol, test, title) of the tests of protocols, over all splits and methods."""
    for protocol in protocols:
        with_it = [
            by_protocol[protocol] for by_protocol in results.values() if protocol in by_protocol
        ]
        names = {test for one in with_it for split in one.splits.values() for test in split.tests}
        for test in sorted(names):
            title = PROTOCOL_TITLES.get(protocol, protocol)
            yield protocol, test, title if test == "test" else f"{title}: {test} classes"


def loss_tables(folder: Path, method: str) -> list[tuple[str, pd.DataFrame]]:
    """(run, loss.csv) of a method, by run."""
    tables = []
    for path in sorted((folder / method / "runs").glob("*/loss.csv")):
        table = read_table(path)
        if table is not None and len(table):
            tables.append((path.parent.name, table.apply(numbers)))
    return tables


def health(manifest_path: Path, splits_folder: Path) -> Health | None:
    """Counts, coverage and broken videos; None when there is no manifest."""
    if not manifest_path.is_file():
        return None
    manifest = read_manifest(manifest_path)
    good = usable(manifest)
    sources = [
        {
            "source": str(name),
            "videos": len(rows),
            "broken": int((~usable(rows)).sum()),
            "classes": int(rows["label"].nunique()),
            "frames": int(rows["n_frames"].sum()),
            "minutes": float(rows["duration"].sum()) / 60,
        }
        for name, rows in manifest.groupby("source")
    ]
    codecs = Counter(manifest.loc[good, "codec"])
    report = health_report(manifest, read_splits(splits_folder))
    classes = [
        {"source": source, "class": name, **counts}
        for source, by_class in report["classes"].items()
        for name, counts in by_class.items()
    ]
    incomplete = [one for one in classes if one["usable"] < one["listed"]]
    return Health(
        sources=sources,
        codecs=sorted(codecs.items(), key=lambda item: (-item[1], item[0])),
        report=report,
        incomplete=sorted(incomplete, key=lambda one: one["coverage"]),
        complete=len(classes) - len(incomplete),
    )


def validation(path: Path) -> dict[str, Any] | None:
    """validation.json, failed expectations first; None without a file. DataError for other content."""
    if not path.is_file():
        return None
    try:
        report: dict[str, Any] = json.loads(path.read_text("utf-8"))
        report["expectations"] = sorted(report["expectations"], key=lambda e: e["success"])
        return report | {"success": bool(report["success"])}
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} cannot be read ({error!r}): run `dvc repro validate`") from error


def split_files(folder: Path) -> list[dict[str, Any]]:
    """Every split file: its id, what it is trained on, and how many videos and classes it lists."""
    files = []
    for split in read_splits(folder).values():
        tests = [(name, len(t.videos), len(t.classes)) for name, t in split.tests.items()]
        train = (len(split.train.videos), len(split.train.classes)) if split.train else None
        files.append({"id": split.id, "run": split.run, "train": train, "tests": tests})
    return files


def provenance(results: Results, manifest_path: Path) -> dict[str, Any]:
    """Hashes of every result, of the manifest, and the versions this page was written with."""
    rows = [
        {
            "method": method,
            "protocol": protocol,
            "n": result.n,
            "listed": result.listed,
            "hashes": result.hashes,
        }
        for method, by_protocol in results.items()
        for protocol, result in by_protocol.items()
    ]
    manifest = sha256(manifest_path)[:12] if manifest_path.is_file() else ""
    return {"rows": rows, "manifest": manifest, "versions": _versions()}


def _versions() -> list[tuple[str, str]]:
    versions = []
    for name in PACKAGES:
        try:
            versions.append((name, version(name)))
        except PackageNotFoundError:
            continue
    return versions


def predictions(path: Path, columns: Sequence[str]) -> pd.DataFrame | None:
    """Some columns of a predictions file; None when it is missing."""
    return pd.read_parquet(path, columns=list(columns)) if path.is_file() else None
