"""A dataset's expectations: the manifest and the split files, judged by Great Expectations.

Every rule is a column rule on one of the tables of `expectation_tables`. Great Expectations says
which rows break it; the sentences about these rows are ours. The report holds no time and no path
of the machine, so equal data give equal bytes. Broken videos are counted and listed, and are a
failure only when their share is too large.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from vidprompt.data.checks import tables
from vidprompt.system.errors import DataError
from vidprompt.system.suggestions import suggestion

SEVERITIES = ("warn", "error")
EXAMPLES = 5
LISTED = 200  # broken videos named in the report: it is kept in git
MEASURED = {  # what `ranges` may name → the manifest's column
    "duration_s": "duration",
    "size_bytes": "size",
    "width_px": "width",
    "height_px": "height",
}


class Rule(NamedTuple):
    """One expectation: its table, Great Expectations' class and arguments, and our sentence."""

    name: str
    table: str
    expectation: str
    arguments: dict[str, Any]
    subject: str
    why: str


def _range_rules(ranges: Mapping[str, Sequence[float | None]]) -> list[Rule]:
    """`duration_in_range`, …: of the healthy videos; above 0 where no range is given."""
    unknown = sorted(set(ranges) - set(MEASURED))
    if unknown:
        raise DataError(
            f"validation.ranges: unknown {unknown[0]!r}: {suggestion(unknown[0], MEASURED)}"
        )
    rules = []
    for name, column in MEASURED.items():
        given = ranges.get(name)
        if given is not None and len(given) != 2:
            raise DataError(f"validation.ranges.{name}: {list(given)}; give [least, most].")
        least, most = given or (None, None)
        bounds = {"min_value": least or 0, "max_value": most, "strict_min": not least}
        said = (
            f"within {least or 0} and {most}"
            if most
            else f"at least {least}"
            if least
            else "above 0"
        )
        unit = name.partition("_")[2]
        why = f"{column} {{{column}:g}} {unit}, not {said}"
        arguments = {"column": f"healthy_{column}", **bounds}
        between = "ExpectColumnValuesToBeBetween"
        rules.append(Rule(f"{column}_in_range", "videos", between, arguments, "video_id", why))
    return rules


def _video_rules(
    classes: Mapping[str, Sequence[str]], min_frames: int, max_broken_share: float
) -> list[Rule]:
    unique, between = "ExpectColumnValuesToBeUnique", "ExpectColumnValuesToBeBetween"
    within, null = "ExpectColumnValuesToBeInSet", "ExpectColumnValuesToBeNull"
    labels = sorted(f"{source}/{name}" for source in classes for name in classes[source])

    def rule(name: str, expectation: str, column: str, why: str, **arguments: Any) -> Rule:
        return Rule(name, "videos", expectation, {"column": column, **arguments}, "video_id", why)

    rules = [
        rule("video_id_unique", unique, "video_id", "listed more than once, here as {path}"),
        rule("path_unique", unique, "path", "{path} is listed more than once"),
        rule(
            "label_known",
            within,
            "source_label",
            "label {label!r} is not a class of {source}",
            value_set=labels,
        ),
        rule("roles_known", null, "odd_role", "{odd_role} is not an official role"),
        rule(
            "frames_enough",
            between,
            "healthy_n_frames",
            f"{{healthy_n_frames:.0f}} frames, fewer than {min_frames}",
            min_value=min_frames,
        ),
        rule(
            "broken_share",
            "ExpectColumnMeanToBeBetween",
            "broken",
            "{health}",
            max_value=max_broken_share,
        ),
    ]
    for split in tables.OFFICIAL_SPLITS:
        why = f"group {{group}} of {{source}} is on both sides of {split}"
        rules.append(rule(f"groups_apart_{split}", within, f"{split}_sides", why, value_set=[1]))
    return rules


def _split_rules() -> list[Rule]:
    null, known = "ExpectColumnValuesToBeNull", "ExpectColumnValuesToNotBeNull"
    within, equal = "ExpectColumnValuesToBeInSet", "ExpectColumnPairValuesToBeEqual"
    either = {"ignore_row_if": "either_value_is_missing"}
    label_pair = {"column_A": "class", "column_B": "manifest_label", **either}
    shot_pair = {"column_A": "shots", "column_B": "wanted", **either}
    count_pair = {"column_A": "counted", "column_B": "expected"}
    once = {"column_list": ["split", "part", "video_id"]}

    def listed(name: str, expectation: str, arguments: dict[str, Any], why: str) -> Rule:
        where = "{split} {part}: "
        return Rule(name, "lists", expectation, arguments, "video_id", where + why)

    def classed(name: str, expectation: str, arguments: dict[str, Any], why: str) -> Rule:
        return Rule(name, "classes", expectation, arguments, "split", "class {class!r} " + why)

    shared = "group {group} is also in {shared_group}"
    return [
        listed("split_videos_known", known, {"column": "manifest_label"}, "not in the manifest"),
        listed("split_videos_once", "ExpectCompoundColumnsToBeUnique", once, "more than once"),
        listed(
            "split_labels_match",
            equal,
            label_pair,
            "labelled {class!r}, annotated {manifest_label!r}",
        ),
        listed("split_videos_apart", null, {"column": "shared_video"}, "also in {shared_video}"),
        listed("split_groups_apart", null, {"column": "shared_group"}, shared),
        listed("shots_usable", null, {"column": "unusable_shot"}, "{unusable_shot}, yet drawn"),
        classed(
            "base_novel_apart",
            within,
            {"column": "novel_sides", "value_set": [1]},
            "is both base and novel",
        ),
        classed(
            "zero_shot_apart",
            within,
            {"column": "unseen_sides", "value_set": [1]},
            "was trained on in {against}",
        ),
        classed("shots_exact", equal, shot_pair, "has {shots:.0f} videos, not {wanted:.0f}"),
        Rule(
            "split_runs_known",
            "runs",
            known,
            {"column": "trained_on"},
            "split",
            "no training split is called {run!r}",
        ),
        Rule("expected_counts", "counts", equal, count_pair, "name", "{counted}, not {expected}"),
    ]


def _severities(severity: Mapping[str, str], rules: Sequence[Rule]) -> dict[str, str]:
    """Each rule's severity, `error` unless given; a name or a word nobody knows is refused."""
    names = sorted(rule.name for rule in rules)
    for name, word in severity.items():
        if name not in names:
            raise DataError(f"No expectation is called {name!r}: {suggestion(name, names)}")
        if word not in SEVERITIES:
            raise DataError(f"Severity of {name}: {word!r}; use {' or '.join(SEVERITIES)}.")
    return {name: severity.get(name, "error") for name in names}


def _run(
    data: Mapping[str, pd.DataFrame],
    rules: Sequence[Rule],
    severities: Mapping[str, str],
    docs: Path | None,
) -> dict[str, Any]:
    """Run the rules, a suite a table that has rows; returns each rule's result by its name."""
    import great_expectations as gx
    import great_expectations.expectations as gxe

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    source = context.data_sources.add_pandas("vidprompt")
    level = {"warn": "warning", "error": "critical"}
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
                    severity=level[severities[rule.name]],
                    meta={"rule": rule.name},
                )
                for rule in rules
                if rule.table == table
            ],
        )
        definition = context.validation_definitions.add(
            gx.ValidationDefinition(name=table, data=batch, suite=context.suites.add(suite))
        )
        found = definition.run(
            batch_parameters={"dataframe": frame},
            result_format={"result_format": "COMPLETE", "return_unexpected_index_query": False},
        )
        for result in found.results:
            results[result.expectation_config.meta["rule"]] = result
    if docs is not None:
        _write_docs(context, docs)
    return results


def _write_docs(context: Any, docs: Path) -> None:
    """Great Expectations' pages; their base directory has to be absolute."""
    site = {
        "class_name": "SiteBuilder",
        "store_backend": {
            "class_name": "TupleFilesystemStoreBackend",
            "base_directory": str(docs.resolve()),
        },
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
    }
    context.add_data_docs_site("vidprompt", site)
    context.build_data_docs(site_names=["vidprompt"])


def _entry(rule: Rule, severity: str, frame: pd.DataFrame, result: Any | None) -> dict[str, Any]:
    """One expectation of the report. No result: the table was empty, so nothing was checked."""
    entry = {"name": rule.name, "severity": severity, "success": True, "checked": 0, "failed": 0}
    if result is None:
        return {**entry, "examples": []}
    found = result.result
    if "observed_value" in found:  # a rule on the whole column: its rows are the broken ones
        checked = len(frame)
        rows = [] if result.success else list(frame.index[frame["broken"] > 0])
    elif "unexpected_index_list" in found:
        nulls_matter = rule.expectation.endswith("BeNull")
        checked = found["element_count"] - (0 if nulls_matter else found.get("missing_count") or 0)
        rows = list(found["unexpected_index_list"] or [])
    else:
        raise RuntimeError(f"Great Expectations could not run {rule.name}: {result.exception_info}")
    broken = frame.loc[rows].to_dict("records")
    said = [f"{row[rule.subject]}: {rule.why.format_map(row)}" for row in broken]
    counts = {"success": bool(result.success), "checked": int(checked), "failed": len(rows)}
    return {**entry, **counts, "examples": sorted(said)[:EXAMPLES]}


def validate_dataset(
    manifest: pd.DataFrame,
    splits: dict[str, dict[str, Any]],
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
    """Judge a manifest and its split files (by file name without `.json`).

    `classes`: source -> class names. `expected`: `videos`, `splits`, `videos.<source>`,
    `classes.<source>`, `groups.<source>`, `train.<split>`, `val.<split>` or
    `tests.<split>.<test>` -> count. `severity`: expectation -> `warn` or `error` (the default).
    `ranges`: `duration_s`, `size_bytes`, `width_px`, `height_px` -> [least, most], either may be null.
    `known_classes`: trained on elsewhere, so no class of a zero-shot test that leaves them out.
    `docs`: where Great Expectations writes its pages (their names hold times: never track them).
    Returns the report: `success` (no expectation of severity `error` failed), `expectations`
    sorted by name, `health` (reason -> videos), `broken` (the first quarantined videos).
    """
    rules = [
        *_video_rules(classes, min_frames, max_broken_share),
        *_range_rules(ranges or {}),
        *_split_rules(),
    ]
    severities = _severities(severity, rules)
    videos = tables.videos_table(manifest)
    if videos.empty:
        raise DataError("The manifest has no videos; check the dataset's folder and annotations.")
    data = {
        "videos": videos,
        "lists": tables.lists_table(videos, splits),
        "classes": tables.classes_table(splits, known_classes),
        "runs": tables.runs_table(splits),
        "counts": tables.counts_table(videos, splits, expected),
    }
    results = _run(data, rules, severities, docs)
    entries = [
        _entry(rule, severities[rule.name], data[rule.table], results.get(rule.name))
        for rule in sorted(rules)
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
    """A sentence for each failed expectation of a severity, with its first example."""
    sentences = []
    for entry in report["expectations"]:
        if not entry["success"] and entry["severity"] == severity:
            first = f", first {entry['examples'][0]}" if entry["examples"] else ""
            sentences.append(f"{entry['name']}: {entry['failed']} of {entry['checked']}{first}.")
    return sentences
