"""Summarises a multirun in one table: mean and population standard deviation over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, pstdev
from typing import Any

from vidprompt.config.names import PROTOCOLS
from vidprompt.files.atomic import write_json, write_text
from vidprompt.metrics.intervals import seed_interval
from vidprompt.metrics.result import (
    WITHIN,
    Estimate,
    Measure,
    ProtocolResult,
    measures,
    read_result,
    summary_entry,
)
from vidprompt.reporting.markdown import table
from vidprompt.reporting.measures import GROUP_TITLES, MEASURE_TITLES, PROTOCOL_TITLES, percent
from vidprompt.sweep.plan import EvaluationVariant, Job, Plan, rows_of
from vidprompt.system.errors import DataError

SHOWN = ("top1", "hm", "R-1", "mAP")  # of a summary, in the Markdown table; the JSON has all
WITHIN_TITLE = "within "
CHANCE = "chance"


def result_values(result: ProtocolResult) -> dict[str, Estimate]:
    """`supervised/top1`, `base_to_novel/novel/top1`, `supervised/within pair`, `reid/general/mAP`, …

    All values of the summary; accuracies within a group of classes are means over the splits of a summary's
    entry, base and novel included.
    """
    protocol = result.protocol
    values: dict[str, Estimate] = {}
    groups: dict[str, list[Measure]] = {}
    for one in measures(result):
        if not one.measure.startswith(WITHIN):
            if not one.split:
                values[f"{protocol}/{one.name}"] = Estimate(one.value)
        elif one.split:
            entry = summary_entry(protocol, one.split, one.test)
            column = f"within {one.measure.removeprefix(WITHIN)}"
            name = column if entry == protocol else f"{entry}/{column}"
            groups.setdefault(f"{protocol}/{name}", []).append(one)
    for key, members in groups.items():
        chances = [one.chance for one in members if one.chance is not None]
        chance = fmean(chances) if chances else None
        values[key] = Estimate(fmean(one.value for one in members), chance=chance)
    return values


def summarise(plan: Plan, failed: Mapping[str, str]) -> dict[str, Any]:
    """What `summary.json` holds. Rows without results are left out, and seeds that failed are missing.

    Raises DataError when there is no result at all.
    """
    rows: dict[str, Any] = {}
    for row, members in rows_of(plan).items():
        by_seed = {}
        for job, variant in members:
            read = {} if job.name in failed else _read(plan, job, variant)
            if read:
                by_seed[job.seed] = read
        if by_seed:
            job, variant = members[0]
            overrides = [*job.overrides, *variant.overrides]
            rows[row] = {
                "overrides": [one for one in overrides if not one.startswith("seed=")],
                "seeds": list(by_seed),
                "measures": _over(list(by_seed.values())),
            }
    if not rows:
        raise DataError(f"no job of {plan.name} has results: see the logs in {plan.folder}")
    return {"name": plan.name, "protocols": list(plan.protocols), "order": list(rows), "rows": rows}


def _read(plan: Plan, job: Job, variant: EvaluationVariant) -> dict[str, Estimate]:
    values: dict[str, Estimate] = {}
    for protocol in plan.protocols:
        results = plan.folder / job.name / variant.name / "results"
        for file in sorted(results.glob(f"*/{job.method}/{protocol}/metrics.json")):
            values |= result_values(read_result(file))
    return values


def _over(seeds: Sequence[Mapping[str, Estimate]]) -> dict[str, dict[str, Any]]:
    """Each measure over the seeds that have it."""
    summary: dict[str, dict[str, Any]] = {}
    for key in dict.fromkeys(key for values in seeds for key in values):
        estimates = [values[key] for values in seeds if key in values]
        numbers = [one.value for one in estimates]
        entry: dict[str, Any] = {
            "mean": round(fmean(numbers), 6),
            "std": round(pstdev(numbers), 6),
            "values": [round(value, 6) for value in numbers],
        }
        if ends := seed_interval(numbers):
            entry["ci95"] = [round(end, 6) for end in ends]
        if estimates[0].chance is not None:
            entry[CHANCE] = round(estimates[0].chance, 6)
        summary[key] = entry
    return summary


# -- Markdown -------------------------------------------------------------------------------------


def markdown(summary: Mapping[str, Any]) -> str:
    """The table: the longer of rows and measures goes down."""
    rows = {name: summary["rows"][name] for name in summary["order"]}
    keys = _shown_measures(rows, summary["protocols"])
    columns = {name: _cells(row, keys) for name, row in rows.items()}
    chances = {
        key: percent(measure[CHANCE])
        for row in reversed(rows.values())  # the first row counts
        for key, measure in row["measures"].items()
        if key in keys and CHANCE in measure
    }
    if chances:
        columns[CHANCE] = [chances.get(key, "") for key in keys]
    titles = [_title(key, summary["protocols"]) for key in keys]
    if len(keys) > len(rows):
        lines = table(["", *columns], zip(titles, *columns.values(), strict=True))
    else:
        lines = table(["", *titles], [[name, *cells] for name, cells in columns.items()])
    return "\n".join([*lines, "", _note(rows)])


def _shown_measures(rows: Mapping[str, Any], protocols: Sequence[str]) -> list[str]:
    there = dict.fromkeys(key for row in rows.values() for key in row["measures"])
    shown = [
        k for k in there if (last := k.rpartition("/")[2]) in SHOWN or last.startswith(WITHIN_TITLE)
    ]
    order = [name for name in PROTOCOLS if name in protocols]
    return sorted(shown, key=lambda key: order.index(key.partition("/")[0]))


def _title(key: str, protocols: Sequence[str]) -> str:
    protocol, *parts = key.split("/")
    parts[-1] = MEASURE_TITLES.get(parts[-1], parts[-1])
    if parts[-1].startswith(WITHIN_TITLE):
        column = parts[-1].removeprefix(WITHIN_TITLE)
        parts[-1] = GROUP_TITLES.get(column, (parts[-1], ""))[0]
    if parts[0] == "hm" or len(protocols) > 1:
        parts.insert(0, PROTOCOL_TITLES[protocol])
    return ", ".join(parts)


def _cells(row: Mapping[str, Any], keys: Sequence[str]) -> list[str]:
    cells = []
    for key in keys:
        one = row["measures"].get(key)
        spread = f" ± {percent(one['std'])}" if one and len(one["values"]) > 1 else ""
        cells.append(f"{percent(one['mean'])}{spread}" if one else "–")
    return cells


def _note(rows: Mapping[str, Any]) -> str:
    seeds = dict.fromkeys(tuple(row["seeds"]) for row in rows.values() if len(row["seeds"]) > 1)
    if not seeds:
        return "Values in %, one seed."
    names = " or ".join(", ".join(map(str, one)) for one in seeds)
    return (
        f"Values in %: mean ± population standard deviation over seeds {names}; "
        "a row without ± is of one seed, or has nothing to train."
    )


def write_summary(plan: Plan, summary: Mapping[str, Any]) -> str:
    """`summary.json` and `summary.md` in the multirun's folder; returns the Markdown."""
    text = markdown(summary)
    write_json(plan.folder / "summary.json", summary)
    write_text(plan.folder / "summary.md", f"# {plan.name}\n\n{text}\n")
    return text
