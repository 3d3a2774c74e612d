"""Markdown of a review: sorted, without times, paths or hosts; equal reviews give equal bytes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby

from vidprompt.metrics.intervals import LEVEL
from vidprompt.reporting.markdown import bullets, code, count_of, details, escaped, sentence, table
from vidprompt.reporting.measures import PROTOCOL_TITLES, Cell, percent, points
from vidprompt.review import sections
from vidprompt.review.build import Review
from vidprompt.review.pictures import Picture
from vidprompt.review.result_diff import ChangeKind, MeasureChange, ResultDiff

MOST_FINDINGS = 50
MOST_NAMED = 8  # better and worse measures at the top
MARKS = {ChangeKind.WORSE: "**▼ worse**", ChangeKind.BETTER: "**▲ better**"}
UNTESTED = "Intervals of one side each; these measures have no paired test."


def review_markdown(review: Review, pictures: bool = True) -> str:
    """The whole report; `pictures`: refer to them as files beside it, else only name them."""
    lines = [
        *_head(review),
        *_results(review, pictures),
        *sections.data_section(review.data),
        *sections.params_section(review.params),
        *sections.stages_section(review.stages),
        *sections.trainings_section(review.trainings),
        *_loss_pictures(review, pictures),
        *sections.costs_section(review.costs),
        *_notes_on_method(review, pictures),
    ]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip() + "\n"


def _head(review: Review) -> Iterator[str]:
    base, head = review.base, review.head
    yield f"# Review {base.name} → {head.name}{' and uncommitted changes' if head.changed else ''}"
    yield ""
    yield f"base {code(base.name)} {escaped(base.subject)}<br>"
    yield f"head {code(head.name)} {escaped(head.subject)}"
    yield ""
    yield from _check(review)
    yield ""
    if review.store_problems:
        yield f"Problems with DVC's stores: {escaped(', '.join(review.store_problems))}."
        yield ""
    unchanged = f"; {count_of(review.unchanged, 'result')} unchanged" if review.unchanged else ""
    yield f"**{_capital(review.summary)}**{unchanged}."
    yield ""
    for kind in (ChangeKind.WORSE, ChangeKind.BETTER):
        named = [
            f"{MARKS[kind]}: {code('/'.join(one.result))} {escaped(change.measure)} "
            f"{points(change.difference or 0)} {_interval(change.ci95)}"
            for one in review.results
            for change in one.changes
            if change.kind is kind
        ]
        yield from bullets(named, MOST_NAMED)
    if review.counts[ChangeKind.UNPAIRED]:
        yield (
            f"- {count_of(review.counts[ChangeKind.UNPAIRED], 'measure')} without a verdict: see the notes "
            "under the tables. Predictions that a remote has: `vidprompt review --pull`"
        )
    yield ""


def _check(review: Review) -> Iterator[str]:
    findings = review.findings
    if findings:
        yield f"**✘ The results do not follow from code and params: {count_of(len(findings), 'finding')}.**"
        yield ""
        yield from bullets(
            [f"{code(f.subject)}: {sentence(f.sentence)}" for f in findings], MOST_FINDINGS
        )
        return
    recomputed = review.recomputed
    parts = [f"{count_of(review.lock.stages, 'stage')} as recorded in dvc.lock"]
    if recomputed.done:
        all_results = "" if recomputed.without else "all "
        parts.append(
            f"{all_results}{count_of(recomputed.done, 'result')} computed again from predictions"
        )
    unchecked = [escaped(one) for one in review.unchecked]
    if not unchecked:
        yield f"**✔ The results follow from code and params**: {', '.join(parts)}."
    else:
        yield (
            "**◐ No findings, but not everything could be checked**: "
            f"{', '.join(parts)}. Not checked: {', '.join(unchecked)}."
        )
    if review.lock.absent:
        yield ""
        yield (
            f"{count_of(review.lock.absent, 'output')} tracked by DVC are missing here and were compared by "
            "dvc.lock only."
        )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _results(review: Review, pictures: bool) -> Iterator[str]:
    if not review.results:
        return
    yield "## Results"
    yield ""
    shown = {picture.result: picture for picture in review.pictures}
    for (dataset, protocol), group in groupby(
        review.results, key=lambda one: (one.result[0], one.result[2])
    ):
        members = list(group)
        title = PROTOCOL_TITLES.get(protocol, protocol)
        yield f"### {escaped(dataset)}: {escaped(title)}"
        yield ""
        heads = ("Measure", "Base → head", "Head − base")
        yield from table(heads, [_row(one, change) for one in members for change in one.changes])
        yield ""
        yield from _notes(members)
        for one in members:
            classes = review.class_changes.get(one.result, [])
            yield from _details(one, shown.get(one.result), classes, pictures)


def _row(one: ResultDiff, change: MeasureChange) -> tuple[str, ...]:
    measure = f"{code(one.result[1])}<br>{escaped(change.measure)}"
    return measure, _values(change), _difference(change)


def _values(change: MeasureChange) -> str:
    """Both values, `68.5 → **68.2**`, with their intervals below."""
    a, b = change.base, change.head
    if a is None or b is None:
        return _value(a or b)
    spread = f"{a.spread or '–'} → {b.spread or '–'}"
    small = f"<br><sub>{spread}</sub>" if a.spread or b.spread else ""
    return f"{percent(a.value)} → **{percent(b.value)}**{small}"


def _value(cell: Cell | None) -> str:
    if cell is None:
        return "–"
    return percent(cell.value) + (f"<br><sub>{cell.spread}</sub>" if cell.spread else "")


def _difference(change: MeasureChange) -> str:
    """The difference, with its interval and the verdict below."""
    mark = MARKS.get(change.kind, f"<sub>{change.kind.value}</sub>")
    if change.difference is None:
        return mark
    small = f"<br><sub>{_interval(change.ci95)}</sub>" if change.ci95 else ""
    return f"{points(change.difference)}{small}<br>{mark}"


def _interval(ends: tuple[float, float] | None) -> str:
    return f"[{points(ends[0])}, {points(ends[1])}]" if ends else ""


def _notes(members: list[ResultDiff]) -> Iterator[str]:
    """Each note once, with the methods that have it."""
    methods_of: dict[str, list[str]] = {}
    for one in members:
        for note in one.notes:
            methods_of.setdefault(note, []).append(code(one.result[1]))
    for note, methods in methods_of.items():
        yield f"- {', '.join(methods)}: {escaped(note)}"
    if methods_of:
        yield ""


def _details(
    one: ResultDiff,
    picture: Picture | None,
    classes: list[tuple[str, float, float]],
    pictures: bool,
) -> list[str]:
    """Folded up: the picture, the classes that changed most, the measures without a test."""
    lines: list[str] = []
    classes = [] if picture and pictures else classes  # the picture shows them
    if picture:
        lines += [*_shown(picture, pictures), ""]
    if classes:
        rows = [(escaped(n), f"{percent(a)} → **{percent(b)}**") for n, a, b in classes]
        lines += ["Classes whose accuracy changed most:", ""]
        lines += [*table(("Class", "Base → head"), rows), ""]
    if one.untested:
        rows = [(escaped(change.measure), _values(change)) for change in one.untested]
        lines += [UNTESTED, "", *table(("Measure", "Base → head"), rows)]
    named = [word for word, there in (("picture", picture), ("classes", classes)) if there]
    named += ["other measures"] if one.untested else []
    return details(f"<code>{escaped(one.result[1])}</code>: {', '.join(named)}", lines)


def _shown(picture: Picture, pictures: bool) -> list[str]:
    if pictures:
        return [f"![{escaped(picture.title)}]({picture.name})"]
    return [f"Picture: {code(picture.name)} of the artifact `review`."]


def _loss_pictures(review: Review, pictures: bool) -> Iterator[str]:
    for picture in review.pictures:
        if picture.result[2] == "runs":
            name = escaped("/".join(picture.result[:2]))
            yield from details(f"Loss of <code>{name}</code>", _shown(picture, pictures))


def _notes_on_method(review: Review, pictures: bool) -> Iterator[str]:
    """How values, intervals and verdicts are computed, and what was left out."""
    tested = sum(review.counts[o] for o in (ChangeKind.WORSE, ChangeKind.BETTER, ChangeKind.SAME))
    lines = [
        "Values are in %, differences in points; small numbers are 95 % intervals. Differences are paired by "
        "video or group of videos (re-identification: by person), by Student's t; worse and better need an "
        f"interval without 0 and p < {1 - LEVEL:.2f}. There is no correction for the number of measures"
        + (
            f": about {tested * (1 - LEVEL):.0f} of these {tested} differ by chance."
            if tested
            else "."
        )
    ]
    lines.append(
        "Base is the merge base of HEAD and the given revision. Findings come from `dvc status`, from the "
        "links in dvc.lock, and from the predictions."
    )
    if not pictures and review.pictures:
        lines.append(
            "GitHub shows no pictures here: they are in review.html of the artifact `review`."
        )
    for count, what in zip(review.undrawn, ("result", "method"), strict=True):
        if count:
            lines.append(f"{count_of(count, what)} more changed and are not drawn.")
    yield from details("How to read this", [f"- {line}" for line in lines])
