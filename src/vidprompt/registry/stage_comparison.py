"""A model against the one that is in a stage now, measured on the same videos."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vidprompt.provenance.dvc_project import DvcProject
from vidprompt.provenance.revision import Revision
from vidprompt.registry.checks import Check
from vidprompt.registry.declared import Declared, find_model
from vidprompt.registry.versions import Version, history
from vidprompt.registry.weights import Weights, find_weights
from vidprompt.reporting.measures import percent, points
from vidprompt.system.errors import UserError


@dataclass(frozen=True)
class Other:
    """A registered version, and where its results lie."""

    version: Version
    model: Declared


def compared_with(model: Declared, stage: str, weights: Weights, revision: Revision) -> Other | str:
    """The version to compare with: the one in the stage, of that one itself the one before it.

    A few words where there is nothing to compare.
    """
    known = history(revision.root, model.name)
    version = known.holder(stage)
    if version and version.commit == revision.commit:
        version = known.before(stage)
    if version is None:
        return f"nothing else in {stage}" if known.holder(stage) else f"nothing in {stage}"
    there = Revision(revision.root, version.commit)
    other = find_model(there, model.name)
    try:
        with DvcProject(there) as project:
            same = find_weights(other, project).sha256 == weights.sha256
        if same:
            return f"{version.version}'s weights"
    except UserError:
        pass  # they are gone, its results may be there
    return Other(version, other)


def against(
    other: Other, result: str, measures: Sequence[str] | None, model: Declared, revision: Revision
) -> Iterator[Check]:
    """A check a measure of a result (`supervised` or `<dataset>/<protocol>`), not done where no test
    compares it; without `measures` all that the tests compare."""
    from vidprompt.comparison.comparison import Verdict as Outcome
    from vidprompt.comparison.comparison import compare
    from vidprompt.comparison.results import find_result

    dataset, _, protocol = result.rpartition("/")
    dataset = dataset or model.dataset
    about = f"{result} against {other.version.version}"
    path = f"results/{dataset}/{other.model.method}/{protocol}/metrics.json"
    if Revision(revision.root, other.version.commit).read(path) is None:
        said = f"{other.version.version} has none"
        yield Check("not_worse", about, said, "not worse", done=False)
        return
    at = f"@{revision.commit}" if revision.commit else ""
    results = f"{revision.root.absolute()}/results/{dataset}"
    try:
        before = find_result(f"{results}/{other.model.method}/{protocol}@{other.version.commit}")
        found = compare(before, find_result(f"{results}/{model.method}/{protocol}{at}"))
    except UserError as error:
        yield Check("not_worse", about, "not compared", "not worse", str(error))
        return
    if not found.paired:
        yield Check("not_worse", about, "unpaired", "not worse", found.notes[0])
        return
    compared = set()
    for one in found.differences:
        measure = _named(one.measure, one.metric, protocol)
        if one.split or (measures is not None and measure not in measures):
            continue
        compared.add(measure)
        low, high = one.ci95 or (0.0, 0.0)
        shown = f"{points(one.difference)} [{points(low)}, {points(high)}]"
        problem = (
            f"{result} {measure} is worse than that of {other.version.shown} ({percent(one.a)}% → "
            f"{percent(one.b)}%, {shown} points in the paired test)"
        )
        worse = one.verdict is Outcome.WORSE
        seen = f"{shown}, {one.verdict.value}"
        yield Check("not_worse", f"{about} {measure}", seen, "not worse", problem if worse else "")
    for measure in sorted({*(measures or ())} - compared):
        yield Check("not_worse", f"{about} {measure}", "no paired test", "not worse", done=False)


def _named(measure: str, metric: str, protocol: str) -> str:
    """A difference's measure as the gates name it."""
    if measure.rpartition("/")[2] == "hm":
        return measure
    return metric if measure == protocol else f"{measure}/{metric}"
