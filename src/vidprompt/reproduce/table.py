"""A row's figures beside ours: the table, and its files in results/<dataset>/reproduce."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import pstdev
from typing import Any

from vidprompt.config.params_files import params_file, read_yaml
from vidprompt.config.published import Figure, PublishedRow
from vidprompt.files.atomic import write_json, write_text
from vidprompt.metrics.classification import harmonic_mean
from vidprompt.metrics.intervals import student_interval
from vidprompt.metrics.result import ProtocolResult, read_result, source_tests, summary_measures
from vidprompt.reporting.markdown import code, table
from vidprompt.reporting.measures import percent, points
from vidprompt.reproduce.plan import Chain
from vidprompt.system.errors import DataError

SHOWN = ("top1", "hm", "R-1", "mAP")  # measures of a preset
SEEDS, VIDEOS = "seeds", "videos"  # what an interval is over


@dataclass(frozen=True)
class Comparison:
    """One measure of a row, published and ours; fractions in [0, 1] except `published`, in percent.

    `published` is None where no figure is known, of a preset.

    Attributes:
        value: the mean over the splits.
        std: their population standard deviation, where there are several.
        interval: 95 %: of the mean over trainings of different draws (Student's t, `over` seeds), or
            evaluation's over the tested videos (`over` videos), where there is one training.
        values: by split, in their order.
    """

    measure: str
    published: Figure | None
    value: float
    std: float | None
    interval: tuple[float, float] | None
    over: str
    values: tuple[float, ...]

    @property
    def difference(self) -> float | None:
        """Ours less published, a fraction."""
        return None if self.published is None else self.value - self.published.value / 100


def compare(row: PublishedRow, result: ProtocolResult) -> list[Comparison]:
    """Each measure of a row against a result; of a preset all that tables show, without figures.

    Raises DataError for a measure that the result has not.
    """
    found = summary_measures(result)
    shown = {name: None for name, one in found.items() if one.measure in SHOWN}
    comparisons = []
    for measure, figure in (row.values or shown).items():
        if measure not in found:
            raise DataError(f"{row.name}: the result has no {measure}, it has {', '.join(found)}")
        values, trainings = _by_split(result, measure)
        std = pstdev(values) if len(values) > 1 else None
        over, interval = VIDEOS, found[measure].ci95
        if trainings > 1 and len(set(result.hashes.checkpoints.values())) > 1:
            over, interval = SEEDS, student_interval(values)
        comparisons.append(
            Comparison(measure, figure, found[measure].value, std, interval, over, tuple(values))
        )
    return comparisons


def _by_split(result: ProtocolResult, measure: str) -> tuple[list[float], int]:
    """The values of a summary's measure on each split, and how many trainings they are of.

    Re-identification has one split, whose only value is the summary's.
    """
    one = summary_measures(result)[measure]
    tests = source_tests(result, one.test)
    splits = list(dict.fromkeys(split for split, _ in tests))
    measured = {key: result.splits[key[0]].tests[key[1]].measures for key in tests}
    if one.measure == "hm":
        halves = (
            [measured[split, half]["top1"].value for half in ("base", "novel")] for split in splits
        )
        values = [harmonic_mean(base, novel) for base, novel in halves]
    else:
        values = [found[one.measure].value for found in measured.values() if one.measure in found]
    return values or [one.value], len({result.splits[split].run for split in splits})


@dataclass(frozen=True)
class Reproduction:
    """A row, ours beside it, and what differs from the published run."""

    row: PublishedRow
    comparisons: list[Comparison]
    differs: list[str]
    metrics: Path
    coverage: float

    @property
    def file(self) -> Path:
        """Its JSON in the project's results; the Markdown lies beside it."""
        return (
            Path("results")
            / self.row.dataset
            / "reproduce"
            / f"{self.row.name.replace('/', '-')}.json"
        )


def reproduction(row: PublishedRow, chain: Chain, overrides: Sequence[str] = ()) -> Reproduction:
    """Compare a finished chain's result with its row. Raises DataError where there is none."""
    result = read_result(chain.metrics)
    ids = tuple(sorted(split.id for split in result.splits.values()))
    differs, backbone = list(row.differs), chain.config.backbone.name
    file = params_file(f"backbone/{row.backbone}")
    if row.values and (not file.is_file() or read_yaml(file)["name"] != backbone):
        differs.append(f"the backbone is {backbone}, the published one {row.backbone}")
    for override in overrides:
        if not override.startswith(("workers", "processes", "runner")):
            differs.append(f"run with {override}")
    if row.values and ids != tuple(sorted(row.ids)):
        differs.append(f"other splits than the row's: {', '.join(ids)}")
    if result.coverage < 1:
        differs.append(
            f"{result.listed - result.n:,} of {result.listed:,} listed videos could not be tested"
        )
    return Reproduction(row, compare(row, result), differs, chain.metrics, result.coverage)


def rows_of(found: Reproduction) -> list[tuple[str, ...]]:
    """The cells of the table, a line a measure."""
    lines: list[tuple[str, ...]] = []
    for one in found.comparisons:
        value = percent(one.value) + (f" ± {percent(one.std)}" if one.std is not None else "")
        low, high = one.interval or (None, None)
        interval = "–"
        if low is not None and high is not None:
            count = f"{len(one.values)} {SEEDS}" if one.over == SEEDS else VIDEOS
            interval = f"[{percent(low)}, {percent(high)}] over {count}"
        published = one.published.text if one.published else "–"
        difference = points(one.difference) if one.difference is not None else "–"
        lines.append((one.measure, published, value, interval, difference))
    return lines


HEADS = ("measure", "published", "ours", "95 % interval", "difference")


def markdown(found: Reproduction) -> str:
    """The table and what differs, as Markdown."""
    row = found.row
    return "\n".join(
        [
            f"# {row.name}",
            "",
            f"Published: {row.source.table} {row.source.url}".strip(),
            "",
            "Values in %, the difference in points.",
            "",
            *table(HEADS, rows_of(found)),
            "",
            "Not as published, or not known:",
            "",
            *(f"- {text}" for text in found.differs),
            "",
            f"Our metrics: {code(found.metrics)}",
            "",
        ]
    )


def write(found: Reproduction) -> None:
    """Write the JSON (fractions in [0, 1]) and the Markdown file, atomically."""
    row = found.row
    content: dict[str, Any] = {
        "row": row.name,
        "method": row.method,
        "protocol": row.protocol,
        "dataset": row.dataset,
        "source": vars(row.source),
        "coverage": found.coverage,
        "differs": found.differs,
        "metrics": str(found.metrics),
        "measures": {
            one.measure: {
                "published": _fraction(one.published.value if one.published else None),
                "published_std": _fraction(one.published.std if one.published else None),
                "value": one.value,
                "std": one.std,
                "ci95": one.interval,
                "over": one.over,
                "values": one.values,
                "difference": None if one.difference is None else round(one.difference, 6),
            }
            for one in found.comparisons
        },
    }
    write_json(found.file, content)
    write_text(found.file.with_suffix(".md"), markdown(found))


def _fraction(percentage: float | None) -> float | None:
    return None if percentage is None else round(percentage / 100, 6)
