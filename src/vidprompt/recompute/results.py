"""The results again from the predictions that dvc.lock names, and their lists from manifest and splits: a
number that was edited is found out, also where dvc.lock was edited with it."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidprompt.config import paths
from vidprompt.provenance.dvc_project import DvcProject
from vidprompt.provenance.lock_report import Finding
from vidprompt.provenance.revision import Revision
from vidprompt.recompute import lists as recount_lists
from vidprompt.reporting.markdown import plain, several
from vidprompt.system.errors import DataError

# of the lists (`recount_lists`); n is compared where it is
LISTED = {"id", "run", "listed", "coverage", "skipped", "n"}
DECIMALS = 2e-6  # of metrics.json, and a little
MOST_SHOWN = 60  # characters of a key or a value
_WORDS = ("split", "test", "class", "actual", "predicted", "protocol")


@dataclass(frozen=True)
class Recount:
    """`done` results were computed again, of `without` the predictions are not at hand; `unlisted`: datasets
    whose manifest or splits are not, so that their lists and health were not compared."""

    findings: tuple[Finding, ...]
    done: int
    without: int
    unlisted: tuple[str, ...] = ()


def recount(head: Revision, store: DvcProject) -> Recount:
    """Every metrics.json and its tables whose predictions are at hand; lists and health of each dataset."""
    findings, done, without = [], 0, 0
    lists = {dataset: recount_lists.read(head, store, dataset) for dataset in head.datasets}
    for dataset, known in lists.items():
        for file, sentences in recount_lists.of_dataset(head, dataset, known):
            findings += [Finding(file, sentence) for sentence in sentences]
    for result, metrics in head.results.items():
        tracked = paths.predictions(*result).as_posix()
        folder = paths.results(*result)
        path = (folder / "metrics.json").as_posix()
        of_lists = recount_lists.of_result(metrics, result, lists[result[0]])
        sentences = [*_coverages(metrics), *of_lists]
        findings += [Finding(path, sentence) for sentence in sentences]
        kept = store.find(head.output_md5s.get(tracked, ""), tracked)
        if kept is None:
            without += 1
            continue
        done += 1
        findings += [Finding(path, sentence) for sentence in _differing(kept, metrics)]
        findings += _tables(head, kept, folder)
    unlisted = tuple(sorted(name for name, known in lists.items() if not known.whole))
    return Recount(tuple(findings), done, without, unlisted)


def _differing(file: Any, metrics: Mapping[str, Any]) -> Iterator[str]:
    from vidprompt.recompute.metrics import recomputed

    try:
        found = recomputed(file)
    except DataError:
        yield "its predictions, as dvc.lock names them, cannot be read: `dvc repro`"
        return
    said = {"summary": metrics.get("summary", {})}
    if "tests" in found:
        splits = metrics.get("splits", {})
        said["tests"] = {name: split.get("tests", {}) for name, split in splits.items()}
    yield from told(list(_walk(found, said, "")), "the predictions say otherwise")


def told(differing: list[str], why: str) -> Iterator[str]:
    """The first difference, how many more there are, and what says so."""
    if differing:
        more = len(differing) - 1
        others = f", and {several(more, 'other number')} {'is' if more == 1 else 'are'} not"
        yield f"{differing[0]}{others if more else ''}: {why}"


def _walk(found: Any, said: Any, way: str) -> Iterator[str]:
    """Where two trees of numbers differ."""
    if isinstance(found, Mapping) and isinstance(said, Mapping):
        for key in sorted({*found, *said}):
            name = plain(key, MOST_SHOWN).replace("`", "'")
            here = f"{way}.{name}" if way else name
            if key in found and key in said:
                yield from _walk(found[key], said[key], here)
            elif key in found:
                yield f"`{here}` is missing"
            elif key not in LISTED:
                yield f"`{here}` follows from nothing"
    elif isinstance(found, list) and isinstance(said, list) and len(found) == len(said):
        for i, (one, two) in enumerate(zip(found, said, strict=True)):
            yield from _walk(one, two, f"{way}[{i}]")
    elif not equal(found, said):
        yield f"`{way}` is {_shown(said)} and should be {_shown(found)}"


def _shown(value: Any) -> str:
    return plain(value, MOST_SHOWN).replace("`", "'")


def equal(one: Any, two: Any) -> bool:
    """The same, numbers as far as metrics.json has them."""
    if isinstance(one, int | float) and isinstance(two, int | float):
        return abs(one - two) <= DECIMALS
    return bool(one == two)


def _coverages(entry: Any, way: str = "") -> Iterator[str]:
    """Every coverage is n / listed."""
    if not isinstance(entry, Mapping):
        return
    if {"n", "listed", "coverage"} <= entry.keys():
        try:
            share = entry["n"] / entry["listed"]
            right = equal(round(share, 6), entry["coverage"]) and 0 <= share <= 1
        except (TypeError, ZeroDivisionError):
            right = False
        if not right:
            yield f"`{way}coverage` is not n / listed"
    for key in sorted(entry):
        yield from _coverages(entry[key], f"{way}{key}.")


def _tables(head: Revision, file: Path, folder: Path) -> Iterator[Finding]:
    """The CSVs beside metrics.json; the order of their rows, which is that of the lists, is not compared."""
    import pandas as pd

    from vidprompt.metrics.predictions import read_predictions

    try:
        predictions = read_predictions(file)
    except DataError:
        return  # of metrics.json it is said
    for name, found in _computed(predictions).items():
        path = (folder / name).as_posix()
        content = head.read(path)
        if content is None:
            continue  # the check of dvc.lock reports it
        try:
            words = dict.fromkeys(_WORDS, str)
            same = _same_rows(
                found, pd.read_csv(io.BytesIO(content), keep_default_na=False, dtype=words)
            )
        except (ValueError, TypeError):
            same = False
        if not same:
            yield Finding(
                path, "it is not the table that follows from the predictions: `dvc repro`"
            )


def _computed(predictions: Any) -> dict[str, Any]:
    """File → table, as the evaluate stage writes them."""
    import pandas as pd

    from vidprompt.metrics import recognition

    if "average_precision" in predictions:
        curves = [
            {"protocol": name, "rank": rank, "value": float((rows["rank"] < rank).mean())}
            for name, rows in predictions.groupby("protocol", sort=False)
            for rank in range(1, _LAST_RANK + 1)
        ]
        return {"cmc.csv": pd.DataFrame(curves)}
    labels = predictions[["split", "test", "label"]].astype(str)
    classes = {
        (split, test): sorted(set(rows["label"]))
        for (split, test), rows in labels.groupby(["split", "test"])
    }
    confusion = predictions[["split", "test", "label", "predicted"]]
    return {
        "confusion.csv": confusion.rename(columns={"label": "actual"}),
        "per_class.csv": recognition.per_class(predictions, classes),
        "reliability.csv": recognition.reliabilities(predictions),
    }


_LAST_RANK = 20  # of cmc.csv; a gallery with fewer has fewer


def _same_rows(found: Any, said: Any) -> bool:
    if list(found.columns) != list(said.columns):
        return False
    if "rank" in found.columns and len(said):  # as many ranks as the gallery has
        found = found[found["rank"] <= said["rank"].max()]
        if said["rank"].max() < _LAST_RANK and not equal(said["value"].max(), 1.0):
            return False
    rows = [sorted(map(_key, table.to_dict("records"))) for table in (found, said)]
    return len(rows[0]) == len(rows[1]) and all(
        equal(one, two) for pair in zip(*rows, strict=True) for one, two in zip(*pair, strict=True)
    )


def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """A row that sorts: words as words, the rest as numbers."""
    words = [str(value) for name, value in row.items() if name in _WORDS]
    return (*words, *(float(value) for name, value in row.items() if name not in _WORDS))
