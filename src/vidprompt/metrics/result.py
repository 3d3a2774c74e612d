"""The type of metrics.json: one protocol of one method on one dataset, read, checked, written.

The dataclasses are this project's own and not pydantic's: an entry of the file is a number or a group
of numbers, errors are to be our own sentences, and what a registry or a report imports stays light.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from vidprompt.data.splits.names import measure_of
from vidprompt.files.atomic import write_json
from vidprompt.system.errors import DataError
from vidprompt.system.suggestions import suggestion

FILE = "metrics.json"
VERSION = 1  # of the form; files from before it was counted have none and are read as 1
WITHIN = "within/"  # before a group's name in `Measure.measure`
_SHOWN = 60  # characters of a wrong value in an error
T = TypeVar("T")


@dataclass(frozen=True)
class Estimate:
    """A fraction in [0, 1], with what is known of it.

    `ci95`: the 95% bootstrap interval. `std`: the population standard deviation over splits or seeds.
    `chance`: what guessing gives, of an accuracy within a group of classes.
    """

    value: float
    ci95: tuple[float, float] | None = None
    std: float | None = None
    chance: float | None = None


@dataclass(frozen=True)
class CalibrationError:
    """Expected calibration error in [0, 1] over `n` videos in `bins` bins of confidence."""

    value: float
    n: int
    bins: int


@dataclass(frozen=True)
class SplitTest:
    """One test of a split: `n` tested of `listed` videos, `coverage` = n / listed in [0, 1].

    `measures` are top1, top5 and mean_class (none in re-identification, whose tests are query and
    gallery), `within` the accuracies within groups of classes by the group's name.
    """

    n: int
    listed: int
    coverage: float
    measures: Mapping[str, Estimate] = field(default_factory=dict)
    within: Mapping[str, Estimate] = field(default_factory=dict)
    ece: CalibrationError | None = None


@dataclass(frozen=True)
class SplitResult:
    """A split file by its id, the training `run` whose checkpoint was tested, and test → numbers."""

    id: str
    run: str
    tests: Mapping[str, SplitTest]


@dataclass(frozen=True)
class SummaryEntry:
    """What a table shows of one group of splits (docs/architecture.md): means over them.

    `measures` are top1, top5 and mean_class; `hm` alone for a harmonic mean; R-1, R-5, R-10 and mAP of
    re-identification, which also has an `id`, `n` evaluated and `skipped` queries.
    """

    measures: Mapping[str, Estimate]
    within: Mapping[str, Estimate] = field(default_factory=dict)
    id: str | None = None
    n: int | None = None
    skipped: int | None = None


@dataclass(frozen=True)
class Hashes:
    """Short hashes of what a result follows from; `checkpoints` by training run."""

    config: str
    data: str
    checkpoints: Mapping[str, str]


@dataclass(frozen=True)
class SeenClasses:
    """How many classes were `tested`, and the `names` of those that are training classes too."""

    names: tuple[str, ...]
    tested: int


@dataclass(frozen=True)
class ProtocolResult:
    """metrics.json: `n` tested of `listed` videos over all splits, `coverage` = n / listed in [0, 1].

    `model` and `seen_classes` are those of a registered model on another dataset than its own.
    """

    dataset: str
    method: str
    protocol: str
    hashes: Hashes
    n: int
    listed: int
    coverage: float
    summary: Mapping[str, SummaryEntry]
    splits: Mapping[str, SplitResult]
    model: str | None = None
    seen_classes: SeenClasses | None = None
    version: int | None = field(default=VERSION, compare=False)

    def to_json(self) -> dict[str, Any]:
        """The mapping that the file holds; what is not known is left out."""
        seen = self.seen_classes
        return _known(
            dataset=self.dataset,
            method=self.method,
            protocol=self.protocol,
            version=self.version,
            hashes={
                "config": self.hashes.config,
                "data": self.hashes.data,
                "checkpoints": dict(self.hashes.checkpoints),
            },
            n=self.n,
            listed=self.listed,
            coverage=self.coverage,
            summary={name: _entry_json(entry) for name, entry in self.summary.items()},
            splits={
                name: {
                    "id": split.id,
                    "run": split.run,
                    "tests": {name: _test_json(test) for name, test in split.tests.items()},
                }
                for name, split in self.splits.items()
            },
            model=self.model,
            seen_classes=seen and {"names": list(seen.names), "tested": seen.tested},
        )


@dataclass(frozen=True)
class Measure:
    """One number of a result, in [0, 1].

    `test` is a test of `split`; in the summary `split` is empty, and `test` the summary's entry.
    `measure`: top1, top5, mean_class, ece, within/<group>, hm, R-1, R-5, R-10 or mAP. `n`: the tested
    videos (queries) that it is computed from, counted once a split.
    """

    protocol: str
    split: str
    test: str
    measure: str
    value: float
    ci95: tuple[float, float] | None
    n: int
    std: float | None = None
    chance: float | None = None

    @property
    def name(self) -> str:
        """`top1` in the protocol's own entry, `base/top1` in another, `hm`; `split/test/top1`."""
        if self.split:
            return f"{self.split}/{self.test}/{self.measure}"
        if self.measure == "hm":
            return self.test
        return self.measure if self.test == self.protocol else f"{self.test}/{self.measure}"


def measures(result: ProtocolResult) -> Iterator[Measure]:
    """Every number of a result: the summary's entries, then every test of every split."""
    for name, entry in result.summary.items():
        behind = source_tests(result, name)
        n = sum(result.splits[split].tests[test].n for split, test in behind)
        n = n if entry.n is None else entry.n
        for measure, found in _estimates(entry.measures, entry.within):
            yield _measure(result.protocol, "", name, measure, found, n)
    for name, split in result.splits.items():
        for title, test in split.tests.items():
            for measure, found in _estimates(test.measures, test.within):
                yield _measure(result.protocol, name, title, measure, found, test.n)
            if test.ece:
                value, n = test.ece.value, test.ece.n
                yield Measure(result.protocol, name, title, "ece", value, None, n)


def summary_measures(result: ProtocolResult) -> dict[str, Measure]:
    """The summary's numbers by name: `top1`, `base/top1`, `hm`, `within/pair`, `general/mAP`."""
    return {one.name: one for one in measures(result) if not one.split}


def _estimates(
    plain: Mapping[str, Estimate], within: Mapping[str, Estimate]
) -> Iterator[tuple[str, Estimate]]:
    yield from plain.items()
    for group, found in within.items():
        yield f"{WITHIN}{group}", found


def _measure(
    protocol: str, split: str, test: str, measure: str, found: Estimate, n: int
) -> Measure:
    return Measure(
        protocol, split, test, measure, found.value, found.ci95, n, found.std, found.chance
    )


def summary_entry(protocol: str, split: str, test: str) -> str:
    """The name of the summary's entry that a split's test counts into: `2shot`, `novel`, `half/base`."""
    group = measure_of(split) or split
    if test == "test":
        return group
    return test if group == protocol else f"{group}/{test}"


def source_tests(result: ProtocolResult, entry: str) -> list[tuple[str, str]]:
    """(split, test) of all that an entry of the summary is computed from.

    A harmonic mean has base and novel; re-identification, whose protocols share query and gallery, the
    queries. Empty for an entry of another name.
    """
    before, _, last = entry.rpartition("/")
    names = {entry}
    if last == "hm":
        names = {f"{before}/{half}".lstrip("/") for half in ("base", "novel")}
    elif result.protocol == "reid":
        names = {"query"}
    return [
        (name, test)
        for name, split in result.splits.items()
        for test in split.tests
        if summary_entry(result.protocol, name, test) in names
    ]


# -- files ----------------------------------------------------------------------------------------


def read_result(path: Path) -> ProtocolResult:
    """A metrics.json on disk. DataError, with file, key and what to do, for one that is not valid."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error}): run `dvc repro` to write it") from error
    return load_result(content, str(path))


def load_result(content: bytes | str, name: str) -> ProtocolResult:
    """The bytes of a metrics.json, `name` in errors. DataError for a content that is not valid."""
    try:
        value = json.loads(content)
    except ValueError as error:
        raise DataError(
            f"{name} cannot be read: it is not JSON ({error}); run `dvc repro` to write it again"
        ) from error
    return parse_result(value, name)


def write_result(path: Path, result: ProtocolResult) -> None:
    """Write metrics.json atomically; equal results give equal bytes."""
    write_json(path, result.to_json())


def parse_result(content: Any, name: str = FILE) -> ProtocolResult:
    """The result that the content of a metrics.json says, `name` in errors.

    DataError for another version, a missing or an unknown key, a value of another type, or a fraction
    that is not in [0, 1].
    """
    return _result(_Value(content, name, ()))


# -- from and to JSON -----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Value:
    """A value of a JSON file and its place there; each method checks it, or raises DataError."""

    value: Any
    file: str
    place: tuple[str, ...]

    def error(self, problem: str) -> DataError:
        place = f"`{'.'.join(self.place)}` " if self.place else "it "
        return DataError(
            f"{self.file} cannot be read: {place}{problem}; run `dvc repro` to write it again"
        )

    def wrong(self, wanted: str) -> DataError:
        shown = repr(self.value)
        shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"
        return self.error(f"is {shown}, not {wanted}")

    def items(self) -> dict[str, _Value]:
        """The values of a mapping."""
        if not isinstance(self.value, dict):
            raise self.wrong("a mapping")
        return {k: _Value(v, self.file, (*self.place, k)) for k, v in self.value.items()}

    def each(self, of: Callable[[_Value], T]) -> dict[str, T]:
        """A mapping whose values all are of one type."""
        return {key: of(value) for key, value in self.items().items()}

    def keys(self, required: str, optional: str = "") -> dict[str, _Value]:
        """A mapping with these keys alone."""
        found, known = self.items(), [*required.split(), *optional.split()]
        for key in required.split():
            if key not in found:
                raise self.error(f"has no key {key!r}")
        for key in found:
            if key not in known:
                raise self.error(f"has the unknown key {key[:_SHOWN]!r} ({suggestion(key, known)})")
        return found

    def text(self) -> str:
        if not isinstance(self.value, str):
            raise self.wrong("text")
        return self.value

    def texts(self) -> tuple[str, ...]:
        if not isinstance(self.value, list) or not all(isinstance(v, str) for v in self.value):
            raise self.wrong("a list of text")
        return tuple(self.value)

    def count(self) -> int:
        """A whole number from 0 on."""
        if not isinstance(self.value, int) or isinstance(self.value, bool) or self.value < 0:
            raise self.wrong("a count")
        return self.value

    def number(self) -> float:
        """A finite number from 0 on."""
        value = self.value
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
        ):
            raise self.wrong("a number")
        return float(value)

    def fraction(self) -> float:
        if not 0 <= self.number() <= 1:
            raise self.wrong("a fraction from 0 to 1")
        return self.number()

    def interval(self) -> tuple[float, float]:
        if not isinstance(self.value, list) or len(self.value) != 2:
            raise self.wrong("an interval of two numbers")
        low, high = (_Value(end, self.file, self.place).fraction() for end in self.value)
        if low > high:
            raise self.wrong("an interval from its lower to its upper end")
        return low, high


def _maybe(values: Mapping[str, _Value], key: str, of: Callable[[_Value], T]) -> T | None:
    return of(values[key]) if key in values else None


def _result(value: _Value) -> ProtocolResult:
    version = _maybe(value.items(), "version", _Value.count)
    if version not in (None, VERSION):
        raise DataError(
            f"{value.file} is of version {version}, and this vidprompt reads version {VERSION}: read it "
            "with the vidprompt that wrote it, or run `dvc repro` to write it again"
        )
    required = "dataset method protocol hashes n listed coverage summary splits"
    found = value.keys(required, "model seen_classes version")
    return ProtocolResult(
        dataset=found["dataset"].text(),
        method=found["method"].text(),
        protocol=found["protocol"].text(),
        hashes=_hashes(found["hashes"]),
        n=found["n"].count(),
        listed=found["listed"].count(),
        coverage=found["coverage"].fraction(),
        summary=found["summary"].each(_entry),
        splits=found["splits"].each(_split),
        model=_maybe(found, "model", _Value.text),
        seen_classes=_maybe(found, "seen_classes", _seen_classes),
        version=version,
    )


def _hashes(value: _Value) -> Hashes:
    found = value.keys("config data checkpoints")
    checkpoints = found["checkpoints"].each(_Value.text)
    return Hashes(found["config"].text(), found["data"].text(), checkpoints)


def _seen_classes(value: _Value) -> SeenClasses:
    found = value.keys("names tested")
    return SeenClasses(found["names"].texts(), found["tested"].count())


def _entry(value: _Value) -> SummaryEntry:
    found = value.items()
    if "value" in found:  # a harmonic mean is a number and no group of numbers
        return SummaryEntry({"hm": _estimate(value)})
    return SummaryEntry(
        id=_maybe(found, "id", _Value.text),
        n=_maybe(found, "n", _Value.count),
        skipped=_maybe(found, "skipped", _Value.count),
        within=_within(found),
        measures=_plain_measures(found, {"id", "n", "skipped", "within"}),
    )


def _split(value: _Value) -> SplitResult:
    found = value.keys("id run tests")
    return SplitResult(found["id"].text(), found["run"].text(), found["tests"].each(_test))


def _test(value: _Value) -> SplitTest:
    found = value.items()
    for key in ("n", "listed", "coverage"):
        if key not in found:
            raise value.error(f"has no key {key!r}")
    return SplitTest(
        n=found["n"].count(),
        listed=found["listed"].count(),
        coverage=found["coverage"].fraction(),
        measures=_plain_measures(found, {"n", "listed", "coverage", "ece", "within"}),
        within=_within(found),
        ece=_maybe(found, "ece", _calibration_error),
    )


def _plain_measures(found: Mapping[str, _Value], other: set[str]) -> dict[str, Estimate]:
    return {name: _estimate(value) for name, value in found.items() if name not in other}


def _within(found: Mapping[str, _Value]) -> dict[str, Estimate]:
    return found["within"].each(_estimate) if "within" in found else {}


def _estimate(value: _Value) -> Estimate:
    found = value.keys("value", "ci95 std chance")
    return Estimate(
        value=found["value"].fraction(),
        ci95=_maybe(found, "ci95", _Value.interval),
        std=_maybe(found, "std", _Value.fraction),
        chance=_maybe(found, "chance", _Value.fraction),
    )


def _calibration_error(value: _Value) -> CalibrationError:
    found = value.keys("value n bins")
    return CalibrationError(found["value"].fraction(), found["n"].count(), found["bins"].count())


def _known(**values: Any) -> dict[str, Any]:
    """Those that are not None."""
    return {key: value for key, value in values.items() if value is not None}


def _entry_json(entry: SummaryEntry) -> dict[str, Any]:
    if set(entry.measures) == {"hm"}:
        return _estimate_json(entry.measures["hm"])
    about = _known(id=entry.id, n=entry.n, skipped=entry.skipped)
    return about | _numbers_json(entry.measures, entry.within)


def _test_json(test: SplitTest) -> dict[str, Any]:
    about = {"n": test.n, "listed": test.listed, "coverage": test.coverage}
    ece = test.ece and {"value": test.ece.value, "n": test.ece.n, "bins": test.ece.bins}
    return about | _known(ece=ece) | _numbers_json(test.measures, test.within)


def _numbers_json(plain: Mapping[str, Estimate], within: Mapping[str, Estimate]) -> dict[str, Any]:
    found: dict[str, Any] = {name: _estimate_json(one) for name, one in plain.items()}
    if within:
        found["within"] = {group: _estimate_json(one) for group, one in within.items()}
    return found


def _estimate_json(one: Estimate) -> dict[str, Any]:
    ends = None if one.ci95 is None else list(one.ci95)
    return _known(value=one.value, ci95=ends, std=one.std, chance=one.chance)
