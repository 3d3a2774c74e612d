"""The table and the page of a comparison of methods."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vidprompt.comparison.compare import ComparisonVerdict
from vidprompt.files.atomic import replacing, write_json, write_text
from vidprompt.method_comparison.pictures import drawn
from vidprompt.method_comparison.plan import MethodPlan
from vidprompt.method_comparison.result import SHOWN, headline, key_title
from vidprompt.reporting.markdown import code, details, table
from vidprompt.reporting.measures import PROTOCOL_TITLES, percent, points
from vidprompt.sweep.launch import LOG

NONE = "–"
_LOG_PLACE = re.compile(rf" \([^()]*{re.escape(LOG)}\)")  # after each step that failed


@dataclass(frozen=True)
class Picture:
    """A PNG of the page, and its file's name."""

    name: str
    png: bytes


def write(plan: MethodPlan, result: Mapping[str, Any], speed: Mapping[str, Any]) -> str:
    """Write comparison.json, summary.md, comparison.html and the plots; returns the table in Markdown."""
    from vidprompt.reporting.rendering import png
    from vidprompt.review.output import html_page

    folder = plan.plan.folder
    write_json(folder / "comparison.json", result)
    text = markdown(result, speed)
    pictures = [Picture(f"{name}.png", png(spec)) for name, spec in drawn(result, speed).items()]
    for picture in pictures:
        with replacing(folder / picture.name) as temporary:
            temporary.write_bytes(picture.png)
    shown = "\n\n".join(f'<img src="{one.name}" alt="{one.name}">' for one in pictures)
    page = f"# {result['name']}\n\n{text}\n\n{shown}\n\n{_pairs_table(result)}\n"
    write_text(folder / "summary.md", page)
    write_text(folder / "comparison.html", html_page(page, pictures, str(result["name"])))
    return text


def markdown(result: Mapping[str, Any], speed: Mapping[str, Any]) -> str:
    """The table: a row a measure, a column a method; costs first. Under it how all was measured."""
    methods = list(result["methods"])
    heads = ["", *methods]
    rows = [*_cost_rows(result, speed)]
    for protocol in result["protocols"]:
        rows += _accuracy_rows(result, protocol)
    lines = table(heads, rows)
    return "\n".join([*lines, "", *_notes(result, speed)])


def _cost_rows(result: Mapping[str, Any], speed: Mapping[str, Any]) -> list[list[str]]:
    methods, times = result["methods"], speed.get("methods", {})
    run = result["measured_on"]

    def row(title: str, cells: Sequence[str]) -> list[str]:
        return [title, *cells]

    def hours(method: str, one: Mapping[str, Any]) -> str:
        steps = one["steps"].get(run)
        return minutes(steps * times[method]["seconds"]) if steps and method in times else NONE

    return [
        row("trained parameters", [f"{one['trained_parameters']:,}" for one in methods.values()]),
        row("GFLOPs a clip, forward", [_giga(one["flops"]) for one in methods.values()]),
        row(
            "peak memory of training, GB",
            [f"{times[m]['memory_gb']:.2f}" if m in times else NONE for m in methods],
        ),
        row(
            "seconds a training step",
            [f"{times[m]['seconds']:.3g}" if m in times else NONE for m in methods],
        ),
        row(
            "steps × clips",
            [
                f"{one['steps'].get(run, 0):,} × {times[m]['clips']}" if m in times else NONE
                for m, one in methods.items()
            ],
        ),
        row("training time", [hours(m, one) for m, one in methods.items()]),
    ]


def minutes(seconds: float) -> str:
    """`45 s`, `3.2 min`, `7.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _giga(flops: int | None) -> str:
    return NONE if flops is None else f"{flops / 1e9:.3g}"


def keys_of(result: Mapping[str, Any], protocol: str) -> list[str]:
    """The measures `<entry>/<metric>` that any method has on a protocol, in order."""
    found = [one["measures"].get(protocol, {}) for one in result["methods"].values()]
    return list(dict.fromkeys(key for measures in found for key in measures))


def _accuracy_rows(result: Mapping[str, Any], protocol: str) -> list[list[str]]:
    rows = []
    for key in keys_of(result, protocol):
        if key.rpartition("/")[2] not in SHOWN:
            continue
        cells = [one["measures"].get(protocol, {}).get(key) for one in result["methods"].values()]
        best = max((percent(c["value"]) for c in cells if c), key=float)
        texts = [_cell(cell, bold=bool(cell) and percent(cell["value"]) == best) for cell in cells]
        rows.append([f"{PROTOCOL_TITLES[protocol]}: {key_title(protocol, key)}", *texts])
    return rows


def _cell(cell: Mapping[str, Any] | None, *, bold: bool) -> str:
    if cell is None:
        return NONE
    value = f"**{percent(cell['value'])}**" if bold else percent(cell["value"])
    ends = cell.get("ci95")
    return f"{value} [{percent(ends[0])},\u00a0{percent(ends[1])}]" if ends else value


def _notes(result: Mapping[str, Any], speed: Mapping[str, Any]) -> list[str]:
    seeds = ", ".join(map(str, result["seeds"]))
    of = f"means over seeds {seeds}" if len(result["seeds"]) > 1 else f"of seed {seeds}"
    lines = [
        f"Accuracies in %, {of}, with 95 % intervals in which videos and seeds vary; a "
        "method that trains nothing is there once.",
        f"Budget `{result['budget']}`: {result['budget_means']}. Parameters, FLOPs, times and memory are "
        f"those of `{result['measured_on']}`.",
        f"FLOPs: {result['flops_counted']}.",
    ]
    if speed:
        lines.append(
            f"Times and memory: {speed['rounds']} short trainings of each method in turn, {speed['steps']} "
            f"steps each after the warm-up, on {speed['machine']}; memory is the GPU's, or without one the "
            "process's with Python and PyTorch in it."
        )
    for why, names in _by_reason(result["failed"]).items():
        lines.append(f"Failed: {'; '.join(names)}: {code(why)}")
    return [f"- {line}" for line in lines]


def _by_reason(failed: Mapping[str, str]) -> dict[str, list[str]]:
    """Why → the methods or jobs that failed so, without the log's place, which their names say."""
    found: dict[str, list[str]] = {}
    for name, why in failed.items():
        found.setdefault(_LOG_PLACE.sub("", why), []).append(name)
    return found


def _pairs_table(result: Mapping[str, Any]) -> str:
    """The paired tests of the measures that stand for each protocol, folded by protocol."""
    lines = ["## Paired tests", ""]
    for protocol in result["protocols"]:
        shown = headline(protocol, keys_of(result, protocol))
        rows = [
            [
                key_title(protocol, f"{one['measure']}/{one['metric']}"),
                one["method_a"],
                one["method_b"],
                points(one["difference"]),
                " to ".join(map(points, one["ci95"])) if "ci95" in one else NONE,
                _p(one["p_holm"]),
                _coloured(one["verdict"]),
            ]
            for one in result["pairs"]
            if one["protocol"] == protocol
            and "missing" not in one
            and f"{one['measure']}/{one['metric']}" in shown
        ]
        rows.sort(
            key=lambda row: shown.index(next(k for k in shown if key_title(protocol, k) == row[0]))
        )
        heads = ["measure", "A", "B", "B − A", "95 % interval", "p (Holm)", "B is"]
        if rows:
            lines += details(PROTOCOL_TITLES[protocol], table(heads, rows, "lllrrrl"))
        missing = [o for o in result["pairs"] if o["protocol"] == protocol and "missing" in o]
        lines += [f"- {o['method_a']}, {o['method_b']}: {o['missing']}" for o in missing]
    lines.append(
        "Differences in points, paired by video (re-identification: by person) on the seeds that both have. "
        "A verdict needs an interval without 0 and a p below 0.05 that is adjusted for the pairs of its "
        "measure (Holm). comparison.json has every measure."
    )
    return "\n".join(lines)


def _p(p: float | None) -> str:
    return NONE if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def _coloured(verdict: str) -> str:
    told = verdict in (ComparisonVerdict.BETTER.value, ComparisonVerdict.WORSE.value)
    return f"**{verdict}**" if told else verdict
