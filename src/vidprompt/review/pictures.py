"""Pictures of the results that changed: base on the left, head on the right, on one scale."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from vidprompt.provenance.revision import Result, report_order
from vidprompt.reporting import charts
from vidprompt.reporting.measures import PROTOCOL_TITLES
from vidprompt.reporting.rendering import Spec, png
from vidprompt.review.result_diff import ChangeKind, ResultDiff
from vidprompt.review.sides import Side

MOST_RESULTS = 12  # drawn, those with a verdict first
MOST_RUNS = 6  # pictures of loss curves
PANEL = (168.0, 168.0)  # a phone shows two panels of this size beside each other
WIDTH = 400  # of both panels
CLASSES, LABELLED, BARS = 24, 8, 14  # classes of a matrix, with names, and of the class changes
OTHER = "(other)"  # predicted classes that a matrix leaves out
WORDS = {"actual", "class", "predicted", "protocol"}  # columns that are no numbers
_RUN = re.compile(r"results/([^/]+)/([^/]+)/runs/([^/]+)/loss\.csv")

Pair = tuple[pd.DataFrame | None, pd.DataFrame | None]  # a table of the base and of the head


@dataclass(frozen=True)
class Picture:
    """A PNG. `result` is what it shows; the loss curves of a method have the protocol `runs`."""

    name: str
    title: str
    result: Result
    png: bytes


def draw_pictures(
    base: Side, head: Side, results: Sequence[ResultDiff]
) -> tuple[list[Picture], int, int]:
    """The pictures, in order, and the numbers of results and of methods' losses left undrawn."""
    ordered = sorted(results, key=lambda one: (-_weight(one), report_order(one.result)))
    shown = sorted(ordered[:MOST_RESULTS], key=lambda one: report_order(one.result))
    drawn = [picture for one in shown if (picture := _of_result(base, head, one.result))]
    runs = _changed_runs(base, head)
    of_runs = [
        picture for key in sorted(runs)[:MOST_RUNS] if (picture := _losses(base, head, key, runs))
    ]
    return drawn + of_runs, max(0, len(ordered) - MOST_RESULTS), max(0, len(runs) - MOST_RUNS)


def _weight(one: ResultDiff) -> int:
    kinds = [change.kind for change in one.changes]
    return 2 * (ChangeKind.WORSE in kinds) + (ChangeKind.BETTER in kinds)


def _of_result(base: Side, head: Side, result: Result) -> Picture | None:
    dataset, method, protocol = result
    draw = _retrieval if protocol == "reid" else _recognition
    rows = list(draw(base, head, result))
    title = f"{dataset}, {method}: {PROTOCOL_TITLES.get(protocol, protocol)}"
    return _picture(result, title, rows) if rows else None


def _picture(result: Result, title: str, rows: Sequence[Spec]) -> Picture:
    """The rows below each other; the file's name needs no quoting anywhere."""
    name = re.sub(r"[^\w.-]", "_", "-".join(result), flags=re.ASCII).lstrip(".-") + ".png"
    return Picture(name, title, result, png(*rows, title=title))


def _retrieval(base: Side, head: Side, result: Result) -> Iterator[Spec]:
    """The rank curves, a line a protocol, where they changed."""
    pair = _tables(base, head, result, "cmc.csv", ["protocol", "rank", "value"])
    if _differ(pair):
        yield _line_panels(pair, "rank", "value", "protocol", share=True)


def _recognition(base: Side, head: Side, result: Result) -> Iterator[Spec]:
    """Confusion, calibration and the accuracy by class, where they changed."""
    pair = _tables(base, head, result, "confusion.csv", ["actual", "predicted"])
    if _differ(pair):
        yield confusion(pair)
    pair = _tables(base, head, result, "reliability.csv", ["confidence", "accuracy", "n"])
    if _differ(pair):
        yield _panels(pair, _reliability)
    changes = _class_changes(class_accuracies(base, head, result))
    if changes is not None:
        yield changes


def _line_panels(pair: Pair, x: str, y: str, name: str, *, share: bool = False) -> Spec:
    """Curves of both sides, one a value of the column `name`, in the same colours and on one scale."""
    tables = [table for table in pair if table is not None]
    limits = max(float(t[x].max()) for t in tables), max(float(t[y].max()) for t in tables)
    names = sorted({str(value) for table in tables for value in table[name]})
    colours = {value: k for k, value in enumerate(names)}

    def panel(table: pd.DataFrame) -> Spec:
        series = [
            charts.Series(
                str(key), list(rows[[x, y]].itertuples(index=False, name=None)), colours[str(key)]
            )
            for key, rows in table.groupby(table[name].astype(str))
        ]
        return charts.lines(series, x, share=share, limits=limits, size=PANEL, legend=colours)

    return _panels(pair, panel)


def confusion(pair: Pair) -> Spec:
    """Confusion matrices of tables with the columns `actual` and `predicted`.

    With many classes those whose accuracy changed most; predictions of the others are one column.
    """
    chosen = sorted(_most_changed(pair))
    tables = [None if table is None else _of_classes(table, chosen) for table in pair]
    other = any(table is not None and OTHER in set(table["predicted"]) for table in tables)
    title = "predicted" + (", last: others" if other else "")

    def panel(table: pd.DataFrame) -> Spec:
        pairs = Counter(zip(table["actual"], table["predicted"], strict=True))
        columns = [*chosen, OTHER] if other else chosen
        labels, titles = len(chosen) <= LABELLED, ("actual", title)
        return charts.confusion(pairs, chosen, columns, side=PANEL[0], labels=labels, titles=titles)

    return _panels((tables[0], tables[1]), panel)


def _most_changed(pair: Pair) -> list[str]:
    """All classes, or the `CLASSES` whose accuracy changed most."""
    right = [
        (table["actual"] == table["predicted"]).groupby(table["actual"].astype(str)).mean()
        for table in pair
        if table is not None
    ]
    accuracies = pd.concat(right, axis=1)
    change = (accuracies.iloc[:, -1] - accuracies.iloc[:, 0]).abs().fillna(1.0)
    return sorted(map(str, change.index), key=lambda name: (-change[name], name))[:CLASSES]


def _of_classes(table: pd.DataFrame, chosen: Sequence[str]) -> pd.DataFrame:
    """The rows of these actual classes; predictions of other classes become `OTHER`."""
    table = table[table["actual"].astype(str).isin(chosen)].astype(str)
    return table.assign(predicted=table["predicted"].where(table["predicted"].isin(chosen), OTHER))


def _reliability(table: pd.DataFrame) -> Spec:
    columns = table[["confidence", "accuracy", "n"]].itertuples(index=False)
    bins = [(float(c), float(a), int(n)) for c, a, n in columns]
    return charts.reliability({1: bins}, connected=False, y_title="accuracy", size=PANEL)


def _class_changes(changes: pd.DataFrame) -> Spec | None:
    """The classes whose accuracy changed most, those that gained first. None without a change."""
    size = (changes["head"] - changes["base"]).abs()
    chosen = changes.assign(size=-size)[size > 0].sort_values(["size", "class"]).head(BARS)
    if chosen.empty:
        return None
    chosen = chosen.assign(loss=chosen["base"] - chosen["head"]).sort_values(["loss", "class"])
    rows = [
        (str(name), {"base": (float(base), 0), "head": (float(head), 0)})
        for name, base, head in chosen[["class", "base", "head"]].itertuples(index=False)
    ]
    return charts.dots(rows, ["base", "head"], changes=True, width=WIDTH)


def _panels(pair: Pair, panel: Callable[[pd.DataFrame], Spec]) -> Spec:
    """Base and head beside each other; a side without a table is left out."""
    sides = {"base": pair[0], "head": pair[1]}
    shown = {name: panel(table) for name, table in sides.items() if table is not None}
    titled = {name if len(shown) > 1 else f"{name} only": one for name, one in shown.items()}
    return charts.grid(titled, columns=2)


def class_accuracies(base: Side, head: Side, result: Result) -> pd.DataFrame:
    """Columns `class`, `base`, `head`: mean accuracy of the classes that both tested, sorted by class."""
    tables = _tables(base, head, result, "per_class.csv", ["class", "n", "top1"])
    if tables[0] is None or tables[1] is None:
        return pd.DataFrame({"class": [], "base": [], "head": []})
    means = [_by_class(table) for table in tables if table is not None]
    both = pd.concat(means, axis=1, keys=["base", "head"], join="inner").sort_index()
    return both.round(4).rename_axis("class").reset_index().dropna()


def _by_class(table: pd.DataFrame) -> pd.Series:
    """Over all tests of a result, weighted by their videos."""
    table = table[table["n"] > 0]
    right = (table["n"] * table["top1"]).groupby(table["class"].astype(str)).sum()
    return right / table["n"].groupby(table["class"].astype(str)).sum()


def _changed_runs(base: Side, head: Side) -> dict[tuple[str, str], list[str]]:
    """(dataset, method) → files of loss curves, where one of them changed."""
    runs: dict[tuple[str, str], list[str]] = {}
    changed = set()
    for path in sorted({*base.files, *head.files}):
        if match := _RUN.fullmatch(path):
            key = match[1], match[2]
            runs.setdefault(key, []).append(path)
            if base.read(path) != head.read(path):
                changed.add(key)
    return {key: files for key, files in runs.items() if key in changed}


def _losses(
    base: Side, head: Side, key: tuple[str, str], runs: dict[tuple[str, str], list[str]]
) -> Picture | None:
    curves: list[pd.DataFrame | None] = []
    for side in (base, head):
        tables = [
            _averaged(table).assign(run=path.split("/")[-2])
            for path in runs[key]
            if (table := _table(side, path, ["step", "loss"])) is not None
        ]
        curves.append(pd.concat(tables) if tables else None)
    if curves[0] is None and curves[1] is None:
        return None
    rows = [_line_panels((curves[0], curves[1]), "step", "loss", "run")]
    picture = _picture((*key, "loss"), f"{key[0]}, {key[1]}: training loss", rows)
    return replace(picture, result=(*key, "runs"))


def _averaged(table: pd.DataFrame, most: int = 120) -> pd.DataFrame:
    """At most so many points, each the mean of its neighbours: what a panel can show."""
    table = table.dropna()
    size = -(-len(table) // most)
    if size <= 1:
        return table
    return table.groupby([i // size for i in range(len(table))]).mean()


def _tables(base: Side, head: Side, result: Result, file: str, columns: list[str]) -> Pair:
    path = f"results/{'/'.join(result)}/{file}"
    return _table(base, path, columns), _table(head, path, columns)


def _table(side: Side, path: str, columns: list[str]) -> pd.DataFrame | None:
    """These columns of a CSV. None where it is missing, is empty, or has other columns."""
    content = side.read(path)
    if not content:
        return None
    try:
        table = pd.read_csv(io.BytesIO(content), keep_default_na=False, na_values=[""])
        numbers = {name: pd.to_numeric(table[name]) for name in columns if name not in WORDS}
        return table[columns].assign(**numbers) if len(table) else None
    except (ValueError, KeyError, TypeError):
        return None


def _differ(pair: Pair) -> bool:
    base, head = pair
    if base is None or head is None:
        return base is not head
    return not base.equals(head)
