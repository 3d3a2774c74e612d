"""Show predictions and spans on the terminal, those of a stream as they come."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from vidprompt.cli.tables import print_table
from vidprompt.prediction.command import Screen, Write
from vidprompt.prediction.hysteresis import WindowScores
from vidprompt.prediction.results import Failure, Prediction

_ROWS = 500  # of a table: a longer list is several tables, so that it does not stay in memory
_SHOWN = 12  # windows of a stream


class TerminalTables(Screen):
    """Tables on stdout: drawn on a terminal, columns of text elsewhere."""

    @contextmanager
    def predictions(self, title: str, top: int) -> Iterator[Write]:
        """One video: a row a class. Several: a row a video."""
        rows: list[Prediction | Failure] = []
        shown = 0

        def flush() -> None:
            nonlocal shown
            if len(rows) == 1 and not shown:
                _one_video(title, rows[0], top)
            elif rows:
                _videos(title, rows, top)
            shown += len(rows)
            rows.clear()

        def write(one: Any) -> None:
            rows.append(one)
            if len(rows) == _ROWS:
                flush()

        yield write
        flush()

    @contextmanager
    def spans(self, title: str) -> Iterator[Write]:
        """A table for each video, a row a span."""

        def write(one: Any) -> None:
            if isinstance(one, Failure):
                print_table(one.video, ("error",), [(one.reason,)])
                return
            rows = [
                (clock(span.start), clock(span.end), span.label, f"{span.score:.1%}")
                for span in one.spans
            ]
            note = f"; {one.note}" if one.note else ""
            heading = f"{one.video} ({clock(one.duration)}), {title}{note}"
            print_table(
                heading,
                ("start", "end", "class", "score"),
                rows or [("no span", "", "", "")],
                "rrlr",
            )

        yield write

    @contextmanager
    def windows(self, names: tuple[str, ...], top: int) -> Iterator[Callable[[WindowScores], None]]:
        """The last windows of a stream, or a line each where stdout is no terminal."""
        console = Console()
        if not console.is_terminal:
            yield lambda scores: print("  ".join(_window_cells(scores, names, top)), flush=True)
            return
        recent: list[tuple[str, ...]] = []
        with Live(console=console, auto_refresh=False, transient=True) as live:

            def show(scores: WindowScores) -> None:
                recent.append(_window_cells(scores, names, top))
                del recent[:-_SHOWN]
                table = Table("start", "end", "classes", title="Ctrl-C ends it")
                for row in recent:
                    table.add_row(*map(escape, row))
                live.update(table, refresh=True)

            yield show


def clock(seconds: float) -> str:
    """1:02:03.4"""
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    text = (
        f"{minutes:02}:{rest // 10:02}.{rest % 10}"
        if hours
        else f"{minutes}:{rest // 10:02}.{rest % 10}"
    )
    return f"{hours}:{text}" if hours else text


def _window_cells(scores: WindowScores, names: tuple[str, ...], top: int) -> tuple[str, ...]:
    order = (-scores.probabilities).argsort(kind="stable")[:top]
    classes = ", ".join(f"{names[i]} {scores.probabilities[i]:.1%}" for i in order)
    return clock(scores.start), clock(scores.end), classes


def _one_video(title: str, one: Prediction | Failure, top: int) -> None:
    if isinstance(one, Failure):
        print_table(one.video, ("error",), [(one.reason,)])
        return
    rows = [(name, f"{score:.1%}", "█" * round(20 * score)) for name, score in one.top(top)]
    if one.unknown is not None:
        verdict = "none of these classes" if one.unknown else "one of these classes"
        rows.append((f"({verdict}: cosine similarity {one.cosines.max():.3f})", "", ""))
    if one.note:
        rows.append((f"({one.note})", "", ""))
    print_table(f"{one.video}, {title}", ("class", "probability", ""), rows, "lrl")


def _videos(title: str, rows: list[Prediction | Failure], top: int) -> None:
    cells = []
    for one in rows:
        if isinstance(one, Failure):
            cells.append((one.video, "FAILED", "", one.reason))
            continue
        (first, score), *others = one.top(top)
        label = one.label if one.unknown else first
        rest = ", ".join(f"{name} {value:.1%}" for name, value in others)
        cells.append(
            (one.video, label, f"{score:.1%}", f"{rest} ({one.note})" if one.note else rest)
        )
    print_table(title, ("video", "class", "probability", "others"), cells, "llrl")
