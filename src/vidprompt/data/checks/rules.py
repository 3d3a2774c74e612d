"""The rules that a manifest and its split files must fulfil, as Great Expectations' column expectations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from vidprompt.data.checks.tables import OFFICIAL_SPLITS
from vidprompt.system.errors import DataError
from vidprompt.system.suggestions import suggestion

MEASURED = {  # keys of `ranges` → the manifest's column
    "duration_s": "duration",
    "size_bytes": "size",
    "width_px": "width",
    "height_px": "height",
}
# names of Great Expectations' classes
UNIQUE, UNIQUE_TUPLES = "ExpectColumnValuesToBeUnique", "ExpectCompoundColumnsToBeUnique"
BETWEEN, MEAN_BETWEEN = "ExpectColumnValuesToBeBetween", "ExpectColumnMeanToBeBetween"
IN_SET, EQUAL = "ExpectColumnValuesToBeInSet", "ExpectColumnPairValuesToBeEqual"
NULL, NOT_NULL = "ExpectColumnValuesToBeNull", "ExpectColumnValuesToNotBeNull"


class Rule(NamedTuple):
    """One expectation: its table (of `tables`), Great Expectations' class and arguments, and our message.

    The message of a row that breaks it is `<value of column subject>: <message>`, where `{column}` stands
    for the row's values.
    """

    name: str
    table: str
    expectation: str
    arguments: dict[str, Any]
    subject: str
    message: str
    severity: str = "error"  # unless the dataset's file sets another


def dataset_rules(
    classes: Mapping[str, Sequence[str]],
    min_frames: int,
    max_broken_share: float,
    ranges: Mapping[str, Sequence[float | None]],
) -> list[Rule]:
    """All rules, sorted by name; the arguments are those of `validate_dataset`.

    Raises DataError for a range that is unknown or malformed.
    """
    rules = [
        *_video_rules(classes, min_frames, max_broken_share),
        *_range_rules(ranges),
        *_split_rules(),
    ]
    return sorted(rules)


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
        if most:
            allowed = f"within {least or 0} and {most}"
        else:
            allowed = f"at least {least}" if least else "above 0"
        arguments = {
            "column": f"healthy_{column}",
            "min_value": least or 0,
            "max_value": most,
            "strict_min": not least,
        }
        unit = name.partition("_")[2]
        message = f"{column} {{{column}:g}} {unit}, not {allowed}"
        rules.append(Rule(f"{column}_in_range", "videos", BETWEEN, arguments, "video_id", message))
    return rules


def _video_rules(
    classes: Mapping[str, Sequence[str]], min_frames: int, max_broken_share: float
) -> list[Rule]:
    """Rules of the manifest's rows."""
    labels = sorted(f"{source}/{name}" for source in classes for name in classes[source])

    def rule(name: str, expectation: str, column: str, message: str, **arguments: Any) -> Rule:
        columns = {"column": column, **arguments}
        return Rule(name, "videos", expectation, columns, "video_id", message)

    unknown = "label {label!r} is not a class of {source}"
    short = f"{{healthy_n_frames:.0f}} frames, fewer than {min_frames}"
    rules = [
        rule("video_id_unique", UNIQUE, "video_id", "listed more than once, here as {path}"),
        rule("path_unique", UNIQUE, "path", "{path} is listed more than once"),
        rule("label_known", IN_SET, "source_label", unknown, value_set=labels),
        rule("roles_known", NULL, "odd_role", "{odd_role} is not an official role"),
        rule("frames_enough", BETWEEN, "healthy_n_frames", short, min_value=min_frames),
        rule("broken_share", MEAN_BETWEEN, "broken", "{health}", max_value=max_broken_share),
    ]
    copies = [
        rule("contents_unique", NULL, "copy_of", "the same file as {copy_of}"),
        rule("contents_one_label", NULL, "other_label", "{label}, the same file as {other_label}"),
    ]
    rules += [one._replace(severity="warn") for one in copies]
    for split in OFFICIAL_SPLITS:
        both = f"group {{group}} of {{source}} is on both sides of {split}"
        rules.append(rule(f"groups_apart_{split}", IN_SET, f"{split}_sides", both, value_set=[1]))
    return rules


def _split_rules() -> list[Rule]:
    """Rules of the split files' lists, classes, runs and counts."""
    once = {"column_list": ["split", "part", "video_id"]}

    def pair(one: str, other: str, **arguments: str) -> dict[str, Any]:
        return {"column_A": one, "column_B": other, **arguments}

    def either(one: str, other: str) -> dict[str, Any]:
        return pair(one, other, ignore_row_if="either_value_is_missing")

    def listed(name: str, expectation: str, arguments: dict[str, Any], message: str) -> Rule:
        where = "{split} {part}: "
        return Rule(name, "lists", expectation, arguments, "video_id", where + message)

    def classed(name: str, expectation: str, arguments: dict[str, Any], message: str) -> Rule:
        return Rule(name, "classes", expectation, arguments, "split", "class {class!r} " + message)

    def one_side(column: str) -> dict[str, Any]:
        return {"column": column, "value_set": [1]}

    def at_least(number: int, column: str) -> dict[str, Any]:
        return {"column": column, "min_value": number}

    few_videos = "{part}: none of its {listed} videos is usable"
    one_class = "{part}: its videos are of one class, which no result can be wrong about"
    label = "labelled {class!r}, annotated {manifest_label!r}"
    group = "group {group} is also in {shared_group}"
    copy = "the same file as {shared_content}"
    shots = "has {shots:.0f} videos, not {wanted:.0f}"
    run = "no training split is called {run!r}"
    count = "{counted}, not {expected}"
    return [
        listed("split_videos_known", NOT_NULL, {"column": "manifest_label"}, "not in the manifest"),
        listed("split_videos_once", UNIQUE_TUPLES, once, "more than once"),
        listed("split_labels_match", EQUAL, either("class", "manifest_label"), label),
        listed("split_videos_apart", NULL, {"column": "shared_video"}, "also in {shared_video}"),
        listed("split_groups_apart", NULL, {"column": "shared_group"}, group),
        listed("split_contents_apart", NULL, {"column": "shared_content"}, copy),
        listed("shots_usable", NULL, {"column": "unusable_shot"}, "{unusable_shot}, yet drawn"),
        classed("base_novel_apart", IN_SET, one_side("novel_sides"), "is both base and novel"),
        classed(
            "zero_shot_apart",
            IN_SET,
            one_side("zero_shot_sides"),
            "was trained on in {training_split}",
        ),
        classed("shots_exact", EQUAL, either("shots", "wanted"), shots),
        Rule("lists_not_empty", "sizes", BETWEEN, at_least(1, "usable"), "split", few_videos),
        Rule("lists_classes", "sizes", BETWEEN, at_least(2, "classes"), "split", one_class, "warn"),
        Rule("split_runs_known", "runs", NOT_NULL, {"column": "trained_on"}, "split", run),
        Rule("expected_counts", "counts", EQUAL, pair("counted", "expected"), "name", count),
    ]
