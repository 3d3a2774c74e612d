"""Markdown of a review's sections on data, parameters, stages, trainings and costs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from vidprompt.reporting.markdown import bullets, code, count_of, details, escaped, sentence, table
from vidprompt.review.data_diff import DataDiff, ListChange
from vidprompt.review.pipeline_diff import (
    CostChange,
    CostDiff,
    ParamChange,
    StageDiff,
    TrainingChange,
)

MOST_VIDEOS, MOST_PARAMS, MOST_STAGES = 20, 150, 40
FOLDED = 12  # so many lines and more are folded up
ONE_SIDED = {(False, True): "not in base", (True, False): "removed"}


def data_section(diffs: Sequence[DataDiff]) -> Iterator[str]:
    """Changed videos and lists by dataset."""
    yield "## Data"
    yield ""
    changed = [one for one in diffs if one.changed]
    for one in changed:
        counts = _counts(one)
        yield f"**{escaped(one.dataset)}**" + (f": {counts}" if counts else "")
        yield ""
        yield from _videos(one)
        lists = [_list(entry) for entry in one.lists]
        if len(lists) < FOLDED:
            yield from bullets(lists, FOLDED)
            yield ""
        else:
            yield from details(f"{len(lists)} lists changed", bullets(lists, MOST_STAGES))
    incomplete = [one for one in diffs if not one.complete]
    if not changed:
        yield "No change in videos, labels or lists" + (" that git shows." if incomplete else ".")
        yield ""
    if incomplete:
        names = ", ".join(code(one.dataset) for one in incomplete)
        yield (
            f"The manifest of one side is not available ({names}): only the numbers of videos and the broken "
            "videos, which are in git, are compared."
        )
        yield ""
    for one in diffs:
        if one.videos.known_up_to is not None:
            yield (
                f"{escaped(one.dataset)}: health.json lists only the first broken videos: those after "
                f"{code(one.videos.known_up_to)} are not compared; the counts include all."
            )
            yield ""


def _counts(one: DataDiff) -> str:
    if one.present[0] != one.present[1]:
        count = one.counts[one.present[1]]
        size = f", {count[0]:,} of {count[1]:,} videos usable" if count else ""
        return ONE_SIDED[one.present] + size
    base, head = one.counts
    if base is None or head is None:
        return ""
    return f"{base[0]:,} of {base[1]:,} videos usable → **{head[0]:,} of {head[1]:,}**"


def _videos(one: DataDiff) -> Iterator[str]:
    videos = one.videos
    why = videos.reasons

    def named(ids: Iterable[str]) -> list[str]:
        return [code(v) + (f": {escaped(why[v])}" if v in why else "") for v in ids]

    relabelled = [f"{code(v)}: {escaped(a)} → {escaped(b)}" for v, a, b in videos.relabelled]
    groups = (
        ("newly quarantined", named(videos.broken)),
        ("mended", named(videos.mended)),
        ("removed", named(videos.removed)),
        ("added", named(videos.added)),
        ("with another label", relabelled),
        ("in another official split", named(videos.moved)),
        ("with other bytes", named(videos.replaced)),
    )
    for title, lines in groups:
        yield from details(f"{count_of(len(lines), 'video')} {title}", bullets(lines, MOST_VIDEOS))


def _list(entry: ListChange) -> str:
    counts = ["–" if n is None else f"{n:,}" for n in (entry.base, entry.head)]
    same = entry.base == entry.head
    text = f"{counts[1]} videos, but different ones" if same else " → ".join(counts) + " videos"
    if all(entry.id) and entry.id[0] != entry.id[1]:
        text += f", id {code(entry.id[0])} → {code(entry.id[1])}"
    return f"list {code(entry.name)}: {text}"


def params_section(diffs: Sequence[ParamChange]) -> Iterator[str]:
    """Changed keys by file, as lists: these wrap on a phone."""
    yield "## Params"
    yield ""
    if not diffs:
        yield "No change."
        yield ""
        return
    lines = []
    more = len(diffs) - MOST_PARAMS
    for file, entries in groupby(diffs[:MOST_PARAMS], key=lambda one: one.file):
        of_it = list(entries)
        named = f"**{code(file.removeprefix('params/'))}**"
        if not of_it[0].key:
            lines += ["", f"{named} {_param(of_it[0])}"]
        else:
            lines += ["", named, "", *(f"- {code(one.key)} {_param(one)}" for one in of_it)]
    if more > 0:
        lines += ["", f"and {more:,} more"]
    keys = [one for one in diffs if one.key]
    whole = len(diffs) - len(keys)
    title = f"{count_of(len(keys), 'key')} in {count_of(len({one.file for one in keys}), 'file')}"
    title += f", {count_of(whole, 'file')} added or removed" if whole else ""
    if len(diffs) < FOLDED:
        yield from [f"{title}:", *lines, ""]
    else:
        yield from details(title, lines)


def _param(one: ParamChange) -> str:
    if not one.key:  # a whole file
        return f"removed, had {one.base} keys" if one.head is None else f"new, {one.head} keys"
    if one.base is None:
        return f"added: {code(one.head)}"
    if one.head is None:
        return f"removed, was {code(one.base)}"
    return f"{code(one.base)} → {code(one.head)}"


def stages_section(diff: StageDiff) -> Iterator[str]:
    """Stages added, removed or with another command, and changed code that stages depend on."""
    yield "## Stages and code"
    yield ""
    commands = [f"{code(n)}: {code(a)} → {code(b)}" for n, a, b in diff.commands]
    inputs = [f"{sentence(text)}, {count_of(n, 'stage')}" for text, n in diff.inputs.items()]
    parts = (
        (count_of(len(diff.added), "stage") + " added", [code(name) for name in diff.added]),
        (count_of(len(diff.removed), "stage") + " removed", [code(n) for n in diff.removed]),
        (count_of(len(commands), "stage") + " with another command", commands),
        (count_of(len(inputs), "input") + " of stages added or removed", inputs),
        (
            count_of(len(diff.code), "dependency").replace("ys", "ies") + " in git changed",
            [f"{code(path)}: {count_of(count, 'stage')}" for path, count in diff.code.items()],
        ),
    )
    if not any(lines for _, lines in parts):
        yield "No change."
        yield ""
    for title, lines in parts:
        yield from details(title, bullets(lines, 2 * MOST_STAGES))


def trainings_section(diffs: Sequence[TrainingChange]) -> Iterator[str]:
    """A table of the changed training runs."""
    if not diffs:
        return
    yield "## Training"
    yield ""
    rows = []
    for one in diffs:
        name = f"{code(one.method)}<br>{code(one.run)}"
        if len({other.dataset for other in diffs}) > 1:
            name = f"{code(one.dataset)}<br>{name}"
        rows.append((name, _both(one, "steps", "{:,.0f}"), _both(one, "loss", "{:.3f}")))
    yield from table(("Run", "Steps", "Last loss"), rows)
    yield ""


def _both(one: TrainingChange, key: str, form: str) -> str:
    shown = [
        form.format(side[key]) if side and key in side else "–" for side in (one.base, one.head)
    ]
    return shown[1] if shown[0] == shown[1] else f"{shown[0]} → **{shown[1]}**"


def costs_section(diffs: Sequence[CostDiff]) -> Iterator[str]:
    """Seconds and peak memory of the stages that were measured again."""
    yield "## Cost"
    yield ""
    if not diffs:
        yield "Not measured on either side (no `results/<dataset>/cost.json`)."
        yield ""
    for one in diffs:
        yield from _cost(one)


def _cost(one: CostDiff) -> Iterator[str]:
    name = f"**{escaped(one.dataset)}**"
    if not all(one.present):
        yield f"{name}: cost.json is {ONE_SIDED[one.present]}."
        yield ""
        if one.present[1]:
            lines = [f"{code(s)}: {_measured(entry)}" for s, entry in one.added.items()]
            yield from details(count_of(len(lines), "stage"), bullets(lines, MOST_STAGES))
        return
    total = f"{one.totals[0]:,.0f} s → {one.totals[1]:,.0f} s of the stages that both have"
    if not (one.changed or one.added or one.removed):
        yield f"{name}: no stage was measured again ({one.totals[1]:,.0f} s in all)."
        yield ""
    else:
        other = any(not change.same_machine for change in one.changed)
        yield f"{name}: {'measured on different machines' if other else total}."
        yield ""
    same = sorted((c for c in one.changed if c.same_machine), key=_growth)
    rows = [
        (_stage(c.stage), _pair(c, "seconds", "{:,.1f}"), _pair(c, "peak_memory_mb", "{:,}"))
        for c in same
    ]
    if rows:
        drawn = table(("Stage", "Seconds", "Peak MB"), rows)
        yield from [*drawn, ""] if len(rows) < FOLDED else details(f"{len(rows)} stages", drawn)
    moved = [
        f"{code(c.stage)}: {_measured(c.base)} ({escaped(c.base.get('machine', '–'))}) → "
        f"{_measured(c.head)} ({escaped(c.head.get('machine', '–'))})"
        for c in one.changed
        if not c.same_machine
    ]
    title = f"{count_of(len(moved), 'stage')} measured on another machine: not compared"
    yield from details(title, bullets(moved, MOST_STAGES))
    added = [f"{code(s)}: {_measured(entry)}" for s, entry in one.added.items()]
    yield from details(f"{count_of(len(added), 'stage')} not in base", bullets(added, MOST_STAGES))
    gone = [code(stage) for stage in one.removed]
    yield from details(
        f"{count_of(len(gone), 'stage')} no longer there", bullets(gone, MOST_STAGES)
    )
    if one.stale:
        count = count_of(len(one.stale), "stage")
        again = code(f"vidprompt cost {one.dataset}")
        yield f"cost.json is outdated for {count}: {again}."
        yield ""


def _stage(name: str) -> str:
    """A stage's kind and key in two lines; spaces let a phone break the key."""
    kind, _, key = name.partition("@")
    key = key.partition("-")[2].replace("-", " ")
    return f"{code(kind)}<br>{code(key)}" if key else code(kind)


def _growth(change: CostChange) -> tuple[float, str]:
    """Sort key: the largest growth first."""
    return -(change.ratio("seconds") or 1.0), change.stage


def _pair(change: CostChange, key: str, form: str) -> str:
    one, two = (side.get(key) for side in (change.base, change.head))
    if one is None or two is None:
        return "–"
    ratio = change.ratio(key)
    shown = f"{form.format(one)} → **{form.format(two)}**"
    return shown + (f"<br><sub>× {ratio:.2f}</sub>" if ratio else "")


def _measured(entry: Mapping[str, Any]) -> str:
    parts = [f"{entry.get('seconds', 0):,.1f} s", f"{entry.get('peak_memory_mb', 0):,} MB"]
    if "gpu_memory_mb" in entry:
        parts.append(f"{entry['gpu_memory_mb']:,} MB of the GPU")
    return ", ".join(parts)
