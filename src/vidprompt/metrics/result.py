"""The type of metrics.json: one protocol of one method on one dataset, read, checked, written.

The dataclasses are this project's own and not pydantic's: an entry of the file is a number or a group
of numbers, errors are to be our own sentences, and what a registry or a report imports stays light.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from math import isfinite
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from vidprompt.data.splits.names import measure_of
from vidprompt.files.atomic import write_json
from vidprompt.system.errors import DataError
from vidprompt.system.suggestions import suggestion

FILE = "metrics.json"
VERSION = (
    2  # of the form: 2 has `intervals` and `units`; files from before it was counted have none
)
_READ = (1, 2)  # versions that are read; 1 has percentile bootstrap intervals
WITHIN = "within/"  # before a group's name in `Measure.measure`
_SHOWN = 60  # characters of a wrong value in an error


@dataclass(frozen=True)
class Estimate:
    """A fraction in [0, 1], with what is known of it.

    `ci95`: the 95% interval. `units`: how many independent units (videos, groups of videos, persons) it is
    of; with units and no interval they are too few to say anything. `std`: the population standard
    deviation over splits or seeds. `chance`: what guessing gives, of an accuracy within a group of classes.
    """

    value: float
    ci95: tuple[float, float] | None = None
    std: float | None = None
    chance: float | None = None
    units: int | None = None


@dataclass(frozen=True)
class CalibrationError:
    """Expected calibration error in [0, 1] over `n` videos in `bins` bins of confidence."""

    value: float
    n: int
    bins: int


@dataclass(frozen=True)
class SplitTest:
    """One test of a split: `n` tested of `listed` videos, `coverage` = n / listed in [0, 1].

    `measures` are top1, top5, mean_class and metrics of plug-ins (none in re-identification, whose tests are
    query and gallery), `within` the accuracies within groups of classes by the group's name.
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
class IntervalMethod:
    """The `method` of a result's intervals, and the `unit` whose videos go together: person or group."""

    method: str
    unit: str


@dataclass(frozen=True)
class SeenClasses:
    """How many classes were `tested`, and the `names` of those that are training classes too."""

    names: tuple[str, ...]
    tested: int


@dataclass(frozen=True)
class ProtocolResult:
    """metrics.json: `n` tested of `listed` videos over all splits, `coverage` = n / listed in [0, 1].

    `model` and `seen_classes` are those of a registered model on another dataset than its own. Without
    `intervals`, they are of a percentile bootstrap (version 1). `plugins`: `methods/linear_probe` →
    distribution and version, of what was made with plug-ins.
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
    intervals: IntervalMethod | None = None
    plugins: Mapping[str, str] | None = None
    version: int | None = field(default=VERSION, compare=False)

    def to_json(self) -> dict[str, Any]:
        """The mapping that the file holds; what is not known is left out."""
        content: dict[str, Any] = _json(self)
        return content


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
    units: int | None = None

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
        tested = source_tests(result, name)
        n = sum(result.splits[split].tests[test].n for split, test in tested)
        yield from _measures(result.protocol, "", name, entry, n if entry.n is None else entry.n)
    for name, split in result.splits.items():
        for title, test in split.tests.items():
            yield from _measures(result.protocol, name, title, test, test.n)
            if test.ece:
                value, n = test.ece.value, test.ece.n
                yield Measure(result.protocol, name, title, "ece", value, None, n)


def _measures(
    protocol: str, split: str, test: str, numbers: SummaryEntry | SplitTest, n: int
) -> Iterator[Measure]:
    """The measures of a summary's entry or of a split's test, then those within groups of classes."""
    within = {f"{WITHIN}{group}": one for group, one in numbers.within.items()}
    for measure, one in {**numbers.measures, **within}.items():
        spread = (one.std, one.chance, one.units)
        yield Measure(protocol, split, test, measure, one.value, one.ci95, n, *spread)


def summary_measures(result: ProtocolResult) -> dict[str, Measure]:
    """The summary's numbers by name: `top1`, `base/top1`, `hm`, `within/pair`, `general/mAP`."""
    return {one.name: one for one in measures(result) if not one.split}


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
    value = _Value(content, name, ())
    version = value.items().get("version")
    if version is not None and version.count() not in _READ:
        raise DataError(
            f"{name} is of version {version.value}, and this vidprompt reads versions 1 to {VERSION}: "
            "read it with the vidprompt that wrote it, or run `dvc repro` to write it again"
        )
    result: ProtocolResult = value.read(ProtocolResult)
    return result if version else replace(result, version=None)


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

    def read(self, kind: Any) -> Any:
        """The value as `kind`, the type of a field of a result: numbers are counts or fractions."""
        if kind in _READERS:
            return _READERS[kind](self)
        if get_origin(kind) is UnionType:  # of a key that may be missing, but is not null
            return self.read(get_args(kind)[0])
        if get_origin(kind) is Mapping:
            return {key: one.read(get_args(kind)[1]) for key, one in self.items().items()}
        return self._instance(kind)

    def _instance(self, cls: Any) -> Any:
        """One of the dataclasses above. The file has `measures` beside the other keys."""
        content, kinds = self.items(), get_type_hints(cls)
        if cls is SummaryEntry and "value" in content:  # a harmonic mean is no group of numbers
            return SummaryEntry({"hm": self.read(Estimate)})
        measured = kinds.pop("measures", None)
        for one in fields(cls):
            optional = one.default is not MISSING or one.default_factory is not MISSING
            if one.name in kinds and one.name not in content and not optional:
                raise self.error(f"has no key {one.name!r}")
        others = {key: one for key, one in content.items() if key not in kinds}
        if others and not measured:
            key = next(iter(others))
            problem = f"has the unknown key {key[:_SHOWN]!r} ({suggestion(key, list(kinds))})"
            raise self.error(problem)
        values = {key: content[key].read(kind) for key, kind in kinds.items() if key in content}
        if measured:
            values["measures"] = {key: one.read(Estimate) for key, one in others.items()}
        return cls(**values)

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

    def fraction(self) -> float:
        """A number from 0 to 1."""
        value = self.value
        if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
            raise self.wrong("a number")
        if not 0 <= value <= 1:
            raise self.wrong("a fraction from 0 to 1")
        return float(value)

    def interval(self) -> tuple[float, float]:
        if not isinstance(self.value, list) or len(self.value) != 2:
            raise self.wrong("an interval of two numbers")
        low, high = (_Value(end, self.file, self.place).fraction() for end in self.value)
        if low > high:
            raise self.wrong("an interval from its lower to its upper end")
        return low, high


_READERS: dict[Any, Callable[[_Value], Any]] = {
    str: _Value.text,
    int: _Value.count,
    float: _Value.fraction,
    tuple[str, ...]: _Value.texts,
    tuple[float, float]: _Value.interval,
}


def _json(value: Any) -> Any:
    """A result, or a value in it, as the file holds it: without None, `measures` beside other keys."""
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, Mapping):
        return {key: _json(one) for key, one in value.items()}
    if not is_dataclass(value):
        return value
    content = {one.name: _json(getattr(value, one.name)) for one in fields(value)}
    measured = content.pop("measures", {})
    if isinstance(value, SummaryEntry) and set(measured) == {"hm"}:
        return measured["hm"]
    if not content.get("within"):
        content.pop("within", None)
    return {key: one for key, one in content.items() if one is not None} | measured
