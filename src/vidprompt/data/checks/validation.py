"""Validate a dataset's manifest and split files with Great Expectations.

Great Expectations finds the rows that break a rule (`rules`) on one of the tables (`tables`); the messages
about these rows are ours. The report holds no time and no path of the machine, so equal data give equal
bytes. Broken videos are counted and listed; they are a failure only when their share is too large.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from vidprompt.data.checks import tables
from vidprompt.data.checks.rules import Rule, dataset_rules
from vidprompt.data.splits.split_file import Split
from vidprompt.files.atomic import replacing_folder
from vidprompt.system.errors import DataError
from vidprompt.system.suggestions import suggestion

SEVERITIES = {"warn": "warning", "error": "critical"}  # ours → Great Expectations'
EXAMPLES = 5
LISTED = 200  # broken videos named in the report: it is kept in git


def _severities(severity: Mapping[str, str], rules: Sequence[Rule]) -> dict[str, str]:
    """Each rule's severity, its usual one unless given. Raises DataError for an unknown rule or severity."""
    names = sorted(rule.name for rule in rules)
    for name, level in severity.items():
        if name not in names:
            raise DataError(f"No expectation is called {name!r}: {suggestion(name, names)}")
        if level not in SEVERITIES:
            raise DataError(f"Severity of {name}: {level!r}; use {' or '.join(SEVERITIES)}.")
    return {rule.name: severity.get(rule.name, rule.severity) for rule in rules}


def _run(
    data: Mapping[str, pd.DataFrame],
    rules: Sequence[Rule],
    severities: Mapping[str, str],
    docs: Path | None,
) -> dict[str, Any]:
    """Run the rules, one suite for each table that has rows; returns the results by rule name.

    `docs`: the folder for Great Expectations' pages, if wanted.
    """
    import great_expectations as gx
    import great_expectations.expectations as gxe

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    source = context.data_sources.add_pandas("vidprompt")
    results: dict[str, Any] = {}
    for table, frame in data.items():
        if frame.empty:
            continue
        batch = source.add_dataframe_asset(table).add_batch_definition_whole_dataframe("all")
        suite = gx.ExpectationSuite(
            name=table,
            expectations=[
                getattr(gxe, rule.expectation)(
                    **rule.arguments,
                    severity=SEVERITIES[severities[rule.name]],
                    meta={"rule": rule.name},
                )
                for rule in rules
                if rule.table == table
            ],
        )
        definition = context.validation_definitions.add(
            gx.ValidationDefinition(name=table, data=batch, suite=context.suites.add(suite))
        )
        outcome = definition.run(
            batch_parameters={"dataframe": frame},
            result_format={"result_format": "COMPLETE", "return_unexpected_index_query": False},
        )
        for result in outcome.results:
            results[result.expectation_config.meta["rule"]] = result
    if docs is not None:
        _write_docs(context, docs)
    return results


def _write_docs(context: Any, docs: Path) -> None:
    """Write Great Expectations' pages to a folder."""
    with replacing_folder(docs) as folder:
        site = {
            "class_name": "SiteBuilder",
            "store_backend": {
                "class_name": "TupleFilesystemStoreBackend",
                "base_directory": str(folder.resolve()),  # must be absolute
            },
            "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
        }
        context.add_data_docs_site("vidprompt", site)
        with _raised_errors("great_expectations.render.renderer.site_builder"):
            context.build_data_docs(site_names=["vidprompt"])


@contextmanager
def _raised_errors(name: str) -> Iterator[None]:
    """Errors that the library of a logger catches and logs are raised: pages would be missing."""

    def raise_error(_record: logging.LogRecord) -> bool:
        error = sys.exc_info()[1]
        if error is not None:
            raise error
        return True

    logger = logging.getLogger(name)
    logger.addFilter(raise_error)
    try:
        yield
    finally:
        logger.removeFilter(raise_error)


def _entry(rule: Rule, severity: str, frame: pd.DataFrame, result: Any | None) -> dict[str, Any]:
    """One rule's entry of the report. `result` None: the table was empty, so nothing was checked."""
    entry = {"name": rule.name, "severity": severity, "success": True, "checked": 0, "failed": 0}
    if result is None:
        return {**entry, "examples": []}
    details = result.result
    if "observed_value" in details:  # a rule on the whole column: its rows are the broken ones
        checked = len(frame)
        rows = [] if result.success else list(frame.index[frame["broken"] > 0])
    elif "unexpected_index_list" in details:
        nulls_matter = rule.expectation.endswith("BeNull")
        checked = details["element_count"] - (
            0 if nulls_matter else details.get("missing_count") or 0
        )
        rows = list(details["unexpected_index_list"] or [])
    else:
        raise RuntimeError(f"Great Expectations could not run {rule.name}: {result.exception_info}")
    broken = frame.loc[rows].to_dict("records")
    messages = [f"{row[rule.subject]}: {rule.message.format_map(row)}" for row in broken]
    counts = {"success": bool(result.success), "checked": int(checked), "failed": len(rows)}
    return {**entry, **counts, "examples": sorted(messages)[:EXAMPLES]}


def validate_dataset(
    manifest: pd.DataFrame,
    splits: Mapping[str, Split],
    *,
    classes: dict[str, list[str]],
    min_frames: int,
    expected: dict[str, int],
    severity: dict[str, str],
    docs: Path | None = None,
    max_broken_share: float = 0.05,
    ranges: Mapping[str, Sequence[float | None]] | None = None,
    known_classes: Collection[str] = (),
) -> dict[str, Any]:
    """Validate a manifest and its split files (keys: file names without `.json`).

    `classes`: source -> class names. `expected`: `videos`, `splits`, `videos.<source>`,
    `classes.<source>`, `groups.<source>`, `train.<split>`, `val.<split>` or
    `tests.<split>.<test>` -> count. `severity`: expectation -> `warn` or `error`, instead of the usual one.
    `ranges`: `duration_s`, `size_bytes`, `width_px`, `height_px` -> [least, most], either may be null.
    `known_classes`: classes trained on elsewhere, which a zero-shot test among chosen classes must not have.
    `docs`: where Great Expectations writes its pages (their names hold times: never track them).
    Returns the report: `success` (no expectation of severity `error` failed), `expectations`
    sorted by name, `health` (reason -> videos), `broken` (the first quarantined videos).
    """
    rules = dataset_rules(classes, min_frames, max_broken_share, ranges or {})
    severities = _severities(severity, rules)
    videos = tables.videos_table(manifest)
    if videos.empty:
        raise DataError("The manifest has no videos; check the dataset's folder and annotations.")
    data = {
        "videos": videos,
        "lists": tables.lists_table(videos, splits),
        "classes": tables.classes_table(splits, known_classes),
        "runs": tables.runs_table(splits),
        "sizes": tables.sizes_table(videos, splits),
        "counts": tables.counts_table(videos, splits, expected),
    }
    results = _run(data, rules, severities, docs)
    entries = [
        _entry(rule, severities[rule.name], data[rule.table], results.get(rule.name))
        for rule in rules
    ]
    health = videos["health"].value_counts()
    unusable = videos.loc[videos["broken"] > 0, ["video_id", "health", "detail"]]
    return {
        "success": all(entry["success"] for entry in entries if entry["severity"] == "error"),
        "expectations": entries,
        "health": {"ok": 0, **{name: int(health[name]) for name in sorted(health.index)}},
        "broken": unusable.rename(columns={"health": "reason"}).head(LISTED).to_dict("records"),
    }


def first_failures(report: Mapping[str, Any], severity: str = "error") -> list[str]:
    """A sentence for each failed rule of this severity, with its first example."""
    sentences = []
    for entry in report["expectations"]:
        if not entry["success"] and entry["severity"] == severity:
            first = f", first {entry['examples'][0]}" if entry["examples"] else ""
            sentences.append(f"{entry['name']}: {entry['failed']} of {entry['checked']}{first}.")
    return sentences
