"""A review as Markdown: sorted, without times, paths or hosts; the same sides give the same bytes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby

from vidprompt.comparison.comparison import LEVEL, RESAMPLES
from vidprompt.reporting.markdown import code, details, escaped, sentence, several, some, table
from vidprompt.reporting.measures import PROTOCOL_TITLES, Cell, percent, points
from vidprompt.review import sections
from vidprompt.review.findings import Review
from vidprompt.review.pictures import Picture
from vidprompt.review.result_diff import Line, Outcome, ResultDiff

MOST_FINDINGS = 50
MOST_NAMED = 8  # better and worse measures at the top
MARKS = {Outcome.WORSE: "**▼ worse**", Outcome.BETTER: "**▲ better**"}
UNTESTED = "Intervals of one side each; these measures have no paired test."


def as_markdown(review: Review, pictures: bool = True) -> str:
    """The whole report. `pictures`: show them as files beside it; else they are only named."""
    lines = [
        *_head(review),
        *_results(review, pictures),
        *sections.data(review.data),
        *sections.params(review.params),
        *sections.stages(review.stages),
        *sections.trainings(review.trainings),
        *_loss_pictures(review, pictures),
        *sections.costs(review.costs),
        *_how(review, pictures),
    ]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip() + "\n"


def _head(review: Review) -> Iterator[str]:
    base, head = review.base, review.head
    yield f"# Review {base.name} → {head.name}{' and uncommitted changes' if head.changed else ''}"
    yield ""
    yield f"base {code(base.name)} {escaped(base.subject)}<br>"
    yield f"head {code(head.name)} {escaped(head.subject)}"
    yield ""
    yield from _proof(review)
    yield ""
    if review.remotes:
        yield f"Stores without what was asked of them: {escaped(', '.join(review.remotes))}."
        yield ""
    unchanged = f"; {several(review.unchanged, 'result')} unchanged" if review.unchanged else ""
    yield f"**{_capital(review.verdicts)}**{unchanged}."
    yield ""
    for outcome in (Outcome.WORSE, Outcome.BETTER):
        named = [
            f"{MARKS[outcome]}: {code('/'.join(one.result))} {escaped(line.measure)} "
            f"{points(line.difference or 0)} {_ends(line.ci95)}"
            for one in review.results
            for line in one.lines
            if line.outcome is outcome
        ]
        yield from some(named, MOST_NAMED)
    if review.outcomes[Outcome.UNPAIRED]:
        yield (
            f"- {several(review.outcomes[Outcome.UNPAIRED], 'measure')} without a verdict: see the notes "
            "under the tables. Predictions that a remote has: `vidprompt review --pull`"
        )
    yield ""


def _proof(review: Review) -> Iterator[str]:
    found = review.findings
    if found:
        yield f"**✘ The results do not follow from code and params: {several(len(found), 'finding')}.**"
        yield ""
        yield from some(
            [f"{code(f.subject)}: {sentence(f.sentence)}" for f in found], MOST_FINDINGS
        )
        return
    again = review.recount
    parts = [f"{several(review.pipeline.stages, 'stage')} as dvc.lock records them"]
    if again.done:
        all_of_them = "" if again.without else "all "
        parts.append(
            f"{all_of_them}{several(again.done, 'result')} computed again from predictions"
        )
    unchecked = [escaped(one) for one in review.unchecked]
    if not unchecked:
        yield f"**✔ The results follow from code and params**: {', '.join(parts)}."
    else:
        yield (
            "**◐ Nothing speaks against the results, and not everything could be checked**: "
            f"{', '.join(parts)}. Not checked: {', '.join(unchecked)}."
        )
    if review.pipeline.absent:
        yield ""
        yield (
            f"{several(review.pipeline.absent, 'output')} that DVC keeps are not here and were compared by "
            "dvc.lock alone."
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
        yield from table(heads, [_row(one, line) for one in members for line in one.lines])
        yield ""
        yield from _notes(members)
        for one in members:
            classes = review.classes.get(one.result, [])
            yield from _more(one, shown.get(one.result), classes, pictures)


def _row(one: ResultDiff, line: Line) -> tuple[str, ...]:
    measure = f"{code(one.result[1])}<br>{escaped(line.measure)}"
    return measure, _values(line), _difference(line)


def _values(line: Line) -> str:
    """`68.5 → **68.2**`, the intervals under it."""
    a, b = line.base, line.head
    if a is None or b is None:
        return _alone(a or b)
    spread = f"{a.spread or '–'} → {b.spread or '–'}"
    small = f"<br><sub>{spread}</sub>" if a.spread or b.spread else ""
    return f"{percent(a.value)} → **{percent(b.value)}**{small}"


def _alone(cell: Cell | None) -> str:
    if cell is None:
        return "–"
    return percent(cell.value) + (f"<br><sub>{cell.spread}</sub>" if cell.spread else "")


def _difference(line: Line) -> str:
    """With its interval and the verdict under it."""
    outcome = MARKS.get(line.outcome, f"<sub>{line.outcome.value}</sub>")
    if line.difference is None:
        return outcome
    small = f"<br><sub>{_ends(line.ci95)}</sub>" if line.ci95 else ""
    return f"{points(line.difference)}{small}<br>{outcome}"


def _ends(ends: tuple[float, float] | None) -> str:
    return f"[{points(ends[0])}, {points(ends[1])}]" if ends else ""


def _notes(members: list[ResultDiff]) -> Iterator[str]:
    """Each note once, with the methods it is about."""
    said: dict[str, list[str]] = {}
    for one in members:
        for note in one.notes:
            said.setdefault(note, []).append(code(one.result[1]))
    for note, methods in said.items():
        yield f"- {', '.join(methods)}: {escaped(note)}"
    if said:
        yield ""


def _more(
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
        rows = [(escaped(line.measure), _values(line)) for line in one.untested]
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


def _how(review: Review, pictures: bool) -> Iterator[str]:
    """What the words mean, and what was left out."""
    tested = sum(review.outcomes[o] for o in (Outcome.WORSE, Outcome.BETTER, Outcome.SAME))
    lines = [
        "Values in %, differences in points; small: 95 % intervals. A difference is paired, video by "
        f"video (re-identification: person by person), {RESAMPLES:,} resamples; a verdict needs an interval "
        f"without 0 and p < {1 - LEVEL:.2f}. It is not corrected for the number of measures"
        + (
            f": of these {tested} about {tested * (1 - LEVEL):.0f} would get one by chance."
            if tested
            else "."
        )
    ]
    lines.append(
        "Base is where head left the revision that was named. The findings come from `dvc status`, from "
        "the links in dvc.lock, and from the predictions."
    )
    if not pictures and review.pictures:
        lines.append(
            "GitHub shows no pictures here: they are in the artifact `review`, all of them in review.html."
        )
    for count, what in zip(review.undrawn, ("result", "method"), strict=True):
        if count:
            lines.append(f"{several(count, what)} more changed and have no picture.")
    yield from details("How to read this", [f"- {line}" for line in lines])
