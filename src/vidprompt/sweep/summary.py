"""One table of a multirun: mean and population standard deviation over seeds, by row and measure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

from vidprompt.config.names import PROTOCOLS
from vidprompt.data.splits.names import measure_of
from vidprompt.files.atomic import write_json, write_text
from vidprompt.reporting.measures import GROUP_TITLES, PROTOCOL_TITLES, percent
from vidprompt.sweep.plan import Job, Look, Plan, rows_of
from vidprompt.system.errors import DataError

SHOWN = ("top1", "hm", "R-1", "mAP")  # of a summary, in the Markdown table; the JSON has all
TITLES = {"top1": "top-1", "top5": "top-5", "hm": "harmonic mean"}
WITHIN = "within "
CHANCE = "chance"


@dataclass(frozen=True)
class Figure:
    """A number of one metrics.json in [0, 1]; `chance` is what guessing gives, where that is known."""

    value: float
    chance: float | None = None


def figures(metrics: Mapping[str, Any]) -> dict[str, Figure]:
    """`supervised/top1`, `base_to_novel/novel/top1`, `supervised/within pair`, `reid/general/mAP`, …

    All values of the summary, then accuracies within a group of classes: over the splits of a measure
    (official splits, seeds of shots) their mean, as the summary's.
    """
    protocol = str(metrics["protocol"])
    found: dict[str, Figure] = {}
    for name, entry in metrics["summary"].items():
        for path, value in _values(entry):
            found["/".join([protocol, *([] if name == protocol else [name]), *path])] = Figure(
                value
            )
    groups: dict[str, list[Mapping[str, float]]] = {}
    for split, about in metrics["splits"].items():
        measure = measure_of(split) or split
        for test, values in about["tests"].items():
            parts = [protocol, *([] if measure == protocol else [measure])]
            parts += [] if test == "test" else [test]
            for column, within in values.get("within", {}).items():
                groups.setdefault("/".join([*parts, f"{WITHIN}{column}"]), []).append(within)
    for key, entries in groups.items():
        value, chance = (fmean(entry[what] for entry in entries) for what in ("value", CHANCE))
        found[key] = Figure(value, chance)
    return found


def _values(entry: Any) -> Iterator[tuple[list[str], float]]:
    """Paths to what has a `value`."""
    if not isinstance(entry, Mapping):
        return
    if "value" in entry:
        yield [], float(entry["value"])
        return
    for key, below in entry.items():
        for path, value in _values(below if key != "within" else None):  # with chance: `figures`
            yield [str(key), *path], value


def summarise(plan: Plan, failed: Mapping[str, str]) -> dict[str, Any]:
    """What `summary.json` holds. Rows without results are left out, and seeds that failed are missing.

    Raises DataError when there is no result at all.
    """
    rows: dict[str, Any] = {}
    for row, members in rows_of(plan).items():
        by_seed = {}
        for job, look in members:
            read = {} if job.name in failed else _read(plan, job, look)
            if read:
                by_seed[job.seed] = read
        if by_seed:
            rows[row] = {
                "overrides": [*members[0][0].overrides, *members[0][1].overrides],
                "seeds": list(by_seed),
                "measures": _over(list(by_seed.values())),
            }
            rows[row]["overrides"] = [
                o for o in rows[row]["overrides"] if not o.startswith("seed=")
            ]
    if not rows:
        raise DataError(f"no job of {plan.name} has results: see the logs in {plan.folder}")
    return {"name": plan.name, "protocols": list(plan.protocols), "order": list(rows), "rows": rows}


def _read(plan: Plan, job: Job, look: Look) -> dict[str, Figure]:
    found: dict[str, Figure] = {}
    for protocol in plan.protocols:
        results = plan.folder / job.name / look.name / "results"
        for file in sorted(results.glob(f"*/{job.method}/{protocol}/metrics.json")):
            found |= figures(json.loads(file.read_text("utf-8")))
    return found


def _over(seeds: Sequence[Mapping[str, Figure]]) -> dict[str, dict[str, Any]]:
    """Each measure over the seeds that have it."""
    measures: dict[str, dict[str, Any]] = {}
    for key in dict.fromkeys(key for figures in seeds for key in figures):
        there = [figures[key] for figures in seeds if key in figures]
        values = [figure.value for figure in there]
        entry: dict[str, Any] = {
            "mean": round(fmean(values), 6),
            "std": round(pstdev(values), 6),
            "values": [round(value, 6) for value in values],
        }
        if there[0].chance is not None:
            entry[CHANCE] = round(there[0].chance, 6)
        measures[key] = entry
    return measures


# -- Markdown -------------------------------------------------------------------------------------


def markdown(summary: Mapping[str, Any]) -> str:
    """The table: the longer of rows and measures goes down."""
    rows = {name: summary["rows"][name] for name in summary["order"]}
    keys = _shown_measures(rows, summary["protocols"])
    chances = {
        key: next(
            (
                r["measures"][key][CHANCE]
                for r in rows.values()
                if CHANCE in r["measures"].get(key, {})
            ),
            None,
        )
        for key in keys
    }
    columns = {name: _cells(row, keys) for name, row in rows.items()}
    if any(chance is not None for chance in chances.values()):
        columns[CHANCE] = ["" if c is None else percent(c) for c in chances.values()]
    titles = [_title(key, summary["protocols"]) for key in keys]
    if len(keys) > len(rows):
        lines = [
            ["", *columns],
            *([t, *cells] for t, *cells in zip(titles, *columns.values(), strict=True)),
        ]
    else:
        lines = [["", *titles], *([name, *cells] for name, cells in columns.items())]
    lines.insert(1, ["---", *["---:"] * (len(lines[0]) - 1)])
    table = "\n".join(
        "| " + " | ".join(c.replace("|", "\\|") for c in line) + " |" for line in lines
    )
    return f"{table}\n\n{_note(rows)}"


def _shown_measures(rows: Mapping[str, Any], protocols: Sequence[str]) -> list[str]:
    there = dict.fromkeys(key for row in rows.values() for key in row["measures"])
    shown = [k for k in there if (last := k.rpartition("/")[2]) in SHOWN or last.startswith(WITHIN)]
    order = [name for name in PROTOCOLS if name in protocols]
    return sorted(shown, key=lambda key: order.index(key.partition("/")[0]))


def _title(key: str, protocols: Sequence[str]) -> str:
    protocol, *parts = key.split("/")
    parts[-1] = TITLES.get(parts[-1], parts[-1])
    if parts[-1].startswith(WITHIN):
        column = parts[-1].removeprefix(WITHIN)
        parts[-1] = GROUP_TITLES.get(column, (parts[-1], ""))[0]
    if parts[0] == "hm" or len(protocols) > 1:
        parts.insert(0, PROTOCOL_TITLES[protocol])
    return ", ".join(parts)


def _cells(row: Mapping[str, Any], keys: Sequence[str]) -> list[str]:
    cells = []
    for key in keys:
        found = row["measures"].get(key)
        spread = f" ± {percent(found['std'])}" if found and len(found["values"]) > 1 else ""
        cells.append(f"{percent(found['mean'])}{spread}" if found else "–")
    return cells


def _note(rows: Mapping[str, Any]) -> str:
    seeds = dict.fromkeys(tuple(row["seeds"]) for row in rows.values() if len(row["seeds"]) > 1)
    if not seeds:
        return "Values in %, one seed."
    said = " or ".join(", ".join(map(str, one)) for one in seeds)
    return (
        f"Values in %: mean ± population standard deviation over seeds {said}; "
        "a row without ± is of one seed, or has nothing to train."
    )


def write_summary(plan: Plan, summary: Mapping[str, Any]) -> str:
    """`summary.json` and `summary.md` in the multirun's folder; returns the Markdown."""
    text = markdown(summary)
    write_json(plan.folder / "summary.json", summary)
    write_text(plan.folder / "summary.md", f"# {plan.name}\n\n{text}\n")
    return text


def write_between(path: Path, name: str, text: str) -> None:
    """Replace what stands between `<!-- NAME:begin -->` and `<!-- NAME:end -->` in a page.

    Raises DataError when the marks are not there.
    """
    before, after = around(path, name)
    write_text(path, f"{before}\n\n{text}\n\n{after}")


def around(path: Path, name: str) -> tuple[str, str]:
    """A page up to the mark `<!-- NAME:begin -->`, and from the mark `<!-- NAME:end -->` on.

    Raises DataError when the marks are not there.
    """
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    page = path.read_text("utf-8") if path.is_file() else ""
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise DataError(f"{path} needs the lines {begin} and {end} around the table")
    return f"{before}{begin}", f"{end}{after}"
