"""Shows a comparison: as a table on a terminal, plain text, Markdown, JSON or CSV."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vidprompt.comparison.compare import (
    MIN_SIGNS,
    Comparison,
    ComparisonVerdict,
    MeasureDifference,
)
from vidprompt.comparison.results import LoadedResult
from vidprompt.files.atomic import write_json, write_text
from vidprompt.metrics.intervals import LEVEL, METHOD, MIN_UNITS
from vidprompt.reporting.markdown import table as markdown_lines
from vidprompt.reporting.measures import MEASURE_TITLES, TOO_FEW, percent, points

COLOURS = {ComparisonVerdict.BETTER: "green", ComparisonVerdict.WORSE: "red"}
_PAIRED = ("A", "B", "B − A", "95% interval", "p", "B is")
_UNPAIRED = ("Measure", "A", "95% interval", "B", "95% interval", "B − A")
_TESTS = {"mcnemar": "exact McNemar", "t": "Student's t"}


@dataclass(frozen=True)
class Table:
    """Cells as text; the columns `left` are words, the others numbers."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: frozenset[int]

    @property
    def markdown(self) -> str:
        align = "".join("l" if i in self.left else "r" for i in range(len(self.heads)))
        heads, *rows = (tuple(map(_escaped, row)) for row in (self.heads, *self.rows))
        return "\n".join(markdown_lines(heads, rows, align))

    @property
    def plain(self) -> str:
        lines = (self.heads, *self.rows)
        width = [max(len(line[i]) for line in lines) for i in range(len(self.heads))]
        shown = (
            "  ".join(
                cell.ljust(width[i]) if i in self.left else cell.rjust(width[i])
                for i, cell in enumerate(line)
            )
            for line in lines
        )
        return "\n".join(line.rstrip() for line in shown)

    def drawn(self) -> Any:
        """A rich Table."""
        from rich import box
        from rich.markup import escape
        from rich.table import Table as Drawn

        table = Drawn(
            title=escape(self.title), title_justify="left", box=box.SIMPLE_HEAD, show_edge=False
        )
        for i, head in enumerate(self.heads):
            justify: Any = "left" if i in self.left else "right"
            table.add_column(escape(head), justify=justify, overflow="fold")
        for row in self.rows:
            colour = next((c for verdict, c in COLOURS.items() if row[-1] == verdict), "")
            words = [escape(cell) for cell in row]
            table.add_row(*words[:-1], f"[{colour}]{words[-1]}[/]" if colour else words[-1])
        return table


def _escaped(cell: str) -> str:
    text = cell.replace("<", "&lt;")
    return f"– {text.strip()}" if text.startswith(" ") else text


def measures_table(comparison: Comparison) -> Table:
    """A row a measure: values in %, differences in percentage points."""
    title = f"A  {_named(comparison.a)}\nB  {_named(comparison.b)}"
    rows = tuple(_cells(one, comparison.paired) for one in comparison.differences)
    if comparison.paired:
        tested = "Queries" if comparison.unit == "person" else "Videos"
        heads = ("Measure", tested, *_PAIRED)
        return Table(title, heads, rows, frozenset({0, len(heads) - 1}))
    return Table(title, _UNPAIRED, rows, frozenset({0}))


def _named(loaded: LoadedResult) -> str:
    return f"{loaded.name} ({loaded.commit[:7]})" if loaded.commit else loaded.name


def _cells(one: MeasureDifference, paired: bool) -> tuple[str, ...]:
    a, b, difference = percent(one.a), percent(one.b), points(one.difference)
    if not paired:
        return _title(one), a, _interval(one.ci95_a), b, _interval(one.ci95_b), difference
    interval = f"{points(one.ci95[0])} to {points(one.ci95[1])}" if one.ci95 else TOO_FEW
    return _title(one), f"{one.n:,}", a, b, difference, interval, _p(one.p), one.verdict.value


def _title(one: MeasureDifference) -> str:
    """`zero_shot top-1`, `harmonic mean`; a split of a mean is indented under it."""
    return f"  {one.split}" if one.split else measure_title(one.measure, one.metric)


def measure_title(entry: str, metric: str) -> str:
    """The title of a metric of a summary's entry: `novel top-1`, `half harmonic mean`."""
    before, _, last = entry.rpartition("/")
    name = (
        f"{before} harmonic mean"
        if last == "hm"
        else f"{entry} {MEASURE_TITLES.get(metric, metric)}"
    )
    return name.strip()


def _interval(ends: tuple[float, float] | None) -> str:
    return f"{percent(ends[0])} to {percent(ends[1])}" if ends else "–"


def _p(p: float | None) -> str:
    if p is None:
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def sentences(comparison: Comparison) -> Iterator[str]:
    """What stands under the table: notes, videos that are not common, how it was tested."""
    yield from comparison.notes
    if not comparison.paired:
        yield "Unpaired, from metrics.json: no verdict, overlapping intervals can hide a difference."
        return
    left = sum(test.only_a for test in comparison.coverage)
    right = sum(test.only_b for test in comparison.coverage)
    if left or right:
        yield f"Left out, not common to both: {left:,} tests of videos in A alone, {right:,} in B alone."
    for test in comparison.coverage:
        if not test.common:
            side = "A" if test.only_a else "B"
            yield f"{test.split}/{test.test} shares no video: {side} alone has it."
    used = {one.p_by for one in comparison.differences}
    tested = "exact McNemar for hits of one list, Student's t for the other rows"
    if len(used) == 1:
        tested = _TESTS[str(used.pop())]
    yield (
        f"Values in %, differences in points. Interval: paired, Student's t by "
        f"{comparison.unit}. p: {tested}. A verdict needs an interval without 0 and "
        f"p < {1 - LEVEL:.2f}; it is not corrected for the number of rows."
    )
    if any(one.verdict is ComparisonVerdict.TOO_FEW for one in comparison.differences):
        yield (
            f"Too few: of fewer than {MIN_SIGNS} videos, groups or persons no difference can be shown, of "
            f"fewer than {MIN_UNITS} there is no interval ({TOO_FEW})."
        )


def changed_tables(comparison: Comparison, show: int) -> Iterator[Table]:
    """The first `show` videos that B alone got right, then those that A alone did."""
    table = comparison.changed
    people = comparison.unit == "person"
    for right, wrong in (("b", "a"), ("a", "b")):
        videos = table[table["right"] == right]
        shown = videos.head(show)
        columns = {"Query" if people else "Video": shown["video_id"]}
        columns["Person" if people else "Class"] = shown["label"]
        if people:  # the tracklet that was right is no person's name
            columns[f"{right.upper()}'s first"] = shown[f"predicted_{right}"]
        columns[f"{wrong.upper()}'s first" if people else f"{wrong.upper()} said"] = shown[
            f"predicted_{wrong}"
        ]
        if len(comparison.coverage) > 1:
            columns["List"] = shown["split"] + "/" + shown["test"]
        count = f"{len(videos):,}" + (f", the first {show}" if len(videos) > show else "")
        yield Table(
            f"Right in {right.upper()} alone: {count}",
            tuple(columns),
            tuple(zip(*columns.values(), strict=True)),
            frozenset(range(len(columns))),
        )


def print_comparison(comparison: Comparison, show: int = 10) -> None:
    """Drawn on a terminal; elsewhere plain lines that are never broken."""
    from rich.console import Console

    console = Console(highlight=False)
    table, changes = measures_table(comparison), list(changed_tables(comparison, show))
    for one in (table, *(changes if comparison.paired else ())):
        if console.is_terminal and one.rows:
            console.print(one.drawn())
        else:
            print(one.title, *([one.plain] if one.rows else []), sep="\n")
        print()
        if one is table:
            for sentence in sentences(comparison):
                console.print(sentence, markup=False, soft_wrap=not console.is_terminal)
            print()


def markdown(comparison: Comparison, show: int = 10) -> str:
    """For a pull request; the changed videos are folded up."""
    a, b = _named(comparison.a), _named(comparison.b)
    lines = [f"**A** `{a}`<br>**B** `{b}`", "", measures_table(comparison).markdown, ""]
    lines += [f"- {_escaped(sentence)}" for sentence in sentences(comparison)]
    for table in changed_tables(comparison, show) if comparison.paired else ():
        if table.rows:
            lines += ["", f"<details><summary>{table.title}</summary>", "", table.markdown, ""]
            lines.append("</details>")
        else:
            lines += ["", table.title]
    return "\n".join(lines)


def as_dict(comparison: Comparison) -> dict[str, Any]:
    """The whole comparison as JSON values: fractions with six decimals; a row has no empty fields."""
    return {
        **{side: _json_side(getattr(comparison, side)) for side in ("a", "b")},
        "paired": comparison.paired,
        "level": LEVEL,
        "intervals": METHOD,
        "unit": comparison.unit,
        "notes": list(comparison.notes),
        "coverage": [asdict(test) for test in comparison.coverage],
        "differences": [
            {key: value for key, value in asdict(one).items() if value is not None}
            for one in comparison.differences
        ],
        "changed": comparison.changed.to_dict("records"),
    }


def _json_side(loaded: LoadedResult) -> dict[str, Any]:
    side = {"name": loaded.name, "hashes": asdict(loaded.result.hashes)}
    return side | ({"commit": loaded.commit} if loaded.commit else {})


def write_comparison(comparison: Comparison, path: Path) -> None:
    """`as_dict` as sorted JSON: equal results give equal bytes."""
    write_json(path, as_dict(comparison))


def write_changed(comparison: Comparison, path: Path) -> None:
    """Every changed video as CSV."""
    write_text(path, comparison.changed.to_csv(index=False, lineterminator="\n"))
