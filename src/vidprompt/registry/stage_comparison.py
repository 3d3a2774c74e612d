"""Compares a model with the version that is in a stage, by paired tests on the same videos."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vidprompt.provenance.dvc_project import DvcProject
from vidprompt.provenance.revision import Revision
from vidprompt.registry.checks import Check
from vidprompt.registry.declared import DeclaredModel, find_model
from vidprompt.registry.model_files import Weights, find_weights
from vidprompt.registry.versions import Version, history
from vidprompt.reporting.measures import percent, points
from vidprompt.system.errors import UserError


@dataclass(frozen=True)
class ComparedVersion:
    """A registered version, and the model that its commit declares."""

    version: Version
    model: DeclaredModel


def find_compared(
    model: DeclaredModel, stage: str, weights: Weights, revision: Revision
) -> ComparedVersion | str:
    """The version in a stage; for the revision that is that version, the one before it.

    A few words where there is none, or it has the same weights.
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
            if find_weights(other, project).sha256 == weights.sha256:
                return f"{version.version}'s weights"
    except UserError:
        pass  # its weights are gone, its results may be there
    return ComparedVersion(version, other)


def comparison_checks(
    other: ComparedVersion,
    result: str,
    measures: Sequence[str] | None,
    model: DeclaredModel,
    revision: Revision,
) -> Iterator[Check]:
    """A check for each of the `measures` (None: all that are tested) of a result.

    `result`: `supervised` or `<dataset>/<protocol>`. A measure without a paired test is not done.
    """
    from vidprompt.comparison.compare import ComparisonVerdict, compare
    from vidprompt.comparison.results import find_result

    dataset, _, protocol = result.rpartition("/")
    dataset = dataset or model.dataset
    subject = f"{result} against {other.version.version}"
    path = f"results/{dataset}/{other.model.method}/{protocol}/metrics.json"
    if Revision(revision.root, other.version.commit).read(path) is None:
        value = f"{other.version.version} has none"
        yield Check("not_worse", subject, value, "not worse", was_done=False)
        return
    at = f"@{revision.commit}" if revision.commit else ""
    results = f"{revision.root.absolute()}/results/{dataset}"
    try:
        before = find_result(f"{results}/{other.model.method}/{protocol}@{other.version.commit}")
        comparison = compare(before, find_result(f"{results}/{model.method}/{protocol}{at}"))
    except UserError as error:
        yield Check("not_worse", subject, "not compared", "not worse", str(error))
        return
    if not comparison.paired:
        yield Check("not_worse", subject, "unpaired", "not worse", comparison.notes[0])
        return
    compared = set()
    for one in comparison.differences:
        measure = _gate_name(one.measure, one.metric, protocol)
        if one.split or (measures is not None and measure not in measures):
            continue
        compared.add(measure)
        shown = points(one.difference)
        if one.ci95:
            shown += f" [{points(one.ci95[0])}, {points(one.ci95[1])}]"
        problem = (
            f"{result} {measure} is worse than that of {other.version.selector} ({percent(one.a)}% → "
            f"{percent(one.b)}%, {shown} points in the paired test)"
        )
        worse = one.verdict is ComparisonVerdict.WORSE
        value = f"{shown}, {one.verdict.value}"
        yield Check(
            "not_worse",
            f"{subject} {measure}",
            value,
            "not worse",
            problem if worse else "",
            was_done=one.verdict is not ComparisonVerdict.TOO_FEW,
        )
    for measure in sorted({*(measures or ())} - compared):
        yield Check(
            "not_worse", f"{subject} {measure}", "no paired test", "not worse", was_done=False
        )


def _gate_name(measure: str, metric: str, protocol: str) -> str:
    """The name of a compared measure in params/registry.yaml."""
    if measure.rpartition("/")[2] == "hm":
        return measure
    return metric if measure == protocol else f"{measure}/{metric}"
