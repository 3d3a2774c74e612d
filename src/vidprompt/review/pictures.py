"""Pictures of what changed, drawn without a network: each shows base and head side by side."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from vidprompt.provenance.revision import Result, report_order
from vidprompt.reporting.measures import PROTOCOL_TITLES
from vidprompt.review import specs
from vidprompt.review.result_diff import Outcome, ResultDiff
from vidprompt.review.sides import Side

SCALE, COLOURS = 2.0, 64
MOST = 12  # results drawn, those with a verdict first
MOST_RUNS = 6  # pictures of loss curves
WORDS = {"actual", "class", "predicted", "protocol"}  # columns that are no numbers
_RUN = re.compile(r"results/([^/]+)/([^/]+)/runs/([^/]+)/loss\.csv")


@dataclass(frozen=True)
class Picture:
    """A PNG. `result` is what it shows; the loss curves of a method have the protocol `runs`."""

    name: str
    title: str
    result: Result
    png: bytes


def pictures(
    base: Side, head: Side, results: Sequence[ResultDiff]
) -> tuple[list[Picture], int, int]:
    """The pictures, in order; how many results and how many methods' curves were too many to draw."""
    wanted = sorted(results, key=lambda one: (-_weight(one), report_order(one.result)))
    shown = sorted(wanted[:MOST], key=lambda one: report_order(one.result))
    drawn = [picture for one in shown if (picture := _of_result(base, head, one.result))]
    runs = _changed_runs(base, head)
    of_runs = [
        picture for key in sorted(runs)[:MOST_RUNS] if (picture := _losses(base, head, key, runs))
    ]
    return drawn + of_runs, max(0, len(wanted) - MOST), max(0, len(runs) - MOST_RUNS)


def _weight(one: ResultDiff) -> int:
    outcomes = [line.outcome for line in one.lines]
    return 2 * (Outcome.WORSE in outcomes) + (Outcome.BETTER in outcomes)


def _of_result(base: Side, head: Side, result: Result) -> Picture | None:
    dataset, method, protocol = result
    title = f"{dataset}, {method}: {PROTOCOL_TITLES.get(protocol, protocol)}"
    rows = list(_retrieval(base, head, result))
    if protocol != "reid":
        rows = list(_recognition(base, head, result))
    if not rows:
        return None
    return Picture(_named(result), title, result, drawn(title, rows))


def _named(parts: Result) -> str:
    """A file name that needs no quoting anywhere."""
    return re.sub(r"[^\w.-]", "_", "-".join(parts), flags=re.ASCII).lstrip(".-") + ".png"


def _retrieval(base: Side, head: Side, result: Result) -> Iterator[specs.Spec]:
    curves = _tables(base, head, result, "cmc.csv", ["protocol", "rank", "value"])
    if _differ(curves):
        yield specs.lines(curves, "rank", "value", "protocol", share=True)


def _recognition(base: Side, head: Side, result: Result) -> Iterator[specs.Spec]:
    confusions = _tables(base, head, result, "confusion.csv", ["actual", "predicted"])
    if _differ(confusions):
        yield specs.confusion(confusions)
    bins = _tables(base, head, result, "reliability.csv", ["confidence", "accuracy", "n"])
    if _differ(bins):
        yield specs.reliability(bins)
    changes = specs.class_changes(class_accuracies(base, head, result))
    if changes is not None:
        yield changes


def class_accuracies(base: Side, head: Side, result: Result) -> pd.DataFrame:
    """Columns `class`, `base`, `head`: mean accuracy of the classes that both tested, sorted by class."""
    tables = _tables(base, head, result, "per_class.csv", ["class", "n", "top1"])
    if tables[0] is None or tables[1] is None:
        return pd.DataFrame({"class": [], "base": [], "head": []})
    means = [_by_class(table) for table in tables if table is not None]
    found = pd.concat(means, axis=1, keys=["base", "head"], join="inner").sort_index()
    return found.round(4).rename_axis("class").reset_index().dropna()


def _by_class(table: pd.DataFrame) -> pd.Series:
    """Over all tests of a result, by their videos."""
    table = table[table["n"] > 0]
    right = (table["n"] * table["top1"]).groupby(table["class"].astype(str)).sum()
    return right / table["n"].groupby(table["class"].astype(str)).sum()


def _changed_runs(base: Side, head: Side) -> dict[tuple[str, str], list[str]]:
    """Dataset and method → files of loss curves, where one of them changed."""
    found: dict[tuple[str, str], list[str]] = {}
    changed = set()
    for path in sorted({*base.files, *head.files}):
        if match := _RUN.fullmatch(path):
            key = match[1], match[2]
            found.setdefault(key, []).append(path)
            if base.read(path) != head.read(path):
                changed.add(key)
    return {key: files for key, files in found.items() if key in changed}


def _losses(
    base: Side, head: Side, key: tuple[str, str], runs: dict[tuple[str, str], list[str]]
) -> Picture | None:
    curves = []
    for side in (base, head):
        tables = []
        for path in runs[key]:
            table = _table(side, path, ["step", "loss"])
            if table is not None:
                match = _RUN.fullmatch(path)
                tables.append(_thinned(table).assign(run=match[3] if match else path))
        curves.append(pd.concat(tables) if tables else None)
    if curves[0] is None and curves[1] is None:
        return None
    title = f"{key[0]}, {key[1]}: training loss"
    row = specs.lines((curves[0], curves[1]), "step", "loss", "run")
    return Picture(_named((*key, "loss")), title, (*key, "runs"), drawn(title, [row]))


def _thinned(table: pd.DataFrame, most: int = 120) -> pd.DataFrame:
    """At most so many points, each the mean of its neighbours: what a panel can show."""
    table = table.dropna()
    size = -(-len(table) // most)
    if size <= 1:
        return table
    return table.groupby([i // size for i in range(len(table))]).mean()


def _tables(base: Side, head: Side, result: Result, file: str, columns: list[str]) -> specs.Pair:
    path = f"results/{'/'.join(result)}/{file}"
    return _table(base, path, columns), _table(head, path, columns)


def _table(side: Side, path: str, columns: list[str]) -> pd.DataFrame | None:
    """These columns of a CSV. None where it is not there, is empty, or has other columns."""
    content = side.read(path)
    if not content:
        return None
    try:
        table = pd.read_csv(io.BytesIO(content), keep_default_na=False, na_values=[""])
        numbers = {name: pd.to_numeric(table[name]) for name in columns if name not in WORDS}
        return table[columns].assign(**numbers) if len(table) else None
    except (ValueError, KeyError, TypeError):
        return None


def _differ(pair: specs.Pair) -> bool:
    one, two = pair
    if one is None or two is None:
        return one is not two
    return not one.equals(two)


def drawn(title: str, rows: Sequence[specs.Spec]) -> bytes:
    """A PNG of few colours, the rows below each other: the same specification gives the same bytes."""
    import vl_convert
    from PIL import Image

    parts = []
    for i, row in enumerate(rows):
        png: Any = vl_convert.vegalite_to_png(
            specs.picture(title if i == 0 else "", row), scale=SCALE
        )
        parts.append(Image.open(io.BytesIO(png)).convert("RGB"))
    size = max(part.width for part in parts), sum(part.height for part in parts)
    image, top = Image.new("RGB", size, "white"), 0
    for part in parts:
        image.paste(part, (0, top))
        top += part.height
    out = io.BytesIO()
    image.quantize(COLOURS, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)
    return out.getvalue()
