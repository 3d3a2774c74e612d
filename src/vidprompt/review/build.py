"""Build a review: all changes between base and head, and whether head's results follow from its inputs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path

from vidprompt.pipeline.stage_costs import cost_file, parse_costs
from vidprompt.provenance.lock_report import Finding, LockReport
from vidprompt.provenance.revision import Result
from vidprompt.recompute.results import RecomputeReport
from vidprompt.reporting.markdown import count_of, single_line, split_at_marks
from vidprompt.review.data_diff import DataDiff, data_diffs
from vidprompt.review.pictures import Picture, class_accuracies, draw_pictures
from vidprompt.review.pipeline_diff import (
    CostDiff,
    ParamChange,
    StageDiff,
    TrainingChange,
    cost_diffs,
    param_changes,
    stage_diff,
    training_changes,
)
from vidprompt.review.result_diff import ChangeKind, ResultDiff, result_diffs
from vidprompt.review.sides import Side, find_sides
from vidprompt.system.errors import UserError

MOST_CLASSES = 6  # named beside a result, those that changed most
README = "README.md"


@dataclass(frozen=True)
class Review:
    """What a review found.

    `other_findings`: those of neither the lock file nor the recomputation. `unchanged`: the number of equal
    results. `class_changes`: result → (class, accuracy of base, accuracy of head), the largest change first.
    `undrawn`: the numbers of results and of methods' losses that were too many to draw. `store_problems`:
    stores that failed or have damaged files.
    """

    base: Side
    head: Side
    lock: LockReport
    recomputed: RecomputeReport
    other_findings: tuple[Finding, ...]
    results: Sequence[ResultDiff]
    unchanged: int
    params: Sequence[ParamChange]
    stages: StageDiff
    data: Sequence[DataDiff]
    trainings: Sequence[TrainingChange]
    costs: Sequence[CostDiff]
    class_changes: dict[Result, list[tuple[str, float, float]]]
    pictures: Sequence[Picture]
    undrawn: tuple[int, int]
    store_problems: Sequence[str]

    @property
    def findings(self) -> list[Finding]:
        """What fails the review, sorted; the other findings are last."""
        return [*sorted({*self.lock.findings, *self.recomputed.findings}), *self.other_findings]

    @property
    def passed(self) -> bool:
        return not self.findings

    @property
    def unchecked(self) -> Iterator[str]:
        """What could not be checked because files are missing."""
        if self.recomputed.without:
            yield f"{count_of(self.recomputed.without, 'result')} (no predictions available)"
        if self.recomputed.unlisted:
            names = single_line(", ".join(self.recomputed.unlisted))
            yield f"lists and health of {names} (no manifest or splits available)"
        if self.lock.unlinked:
            yield f"{count_of(self.lock.unlinked, 'link')} between stages (no folder listing available)"

    @property
    def counts(self) -> Counter[ChangeKind]:
        """The number of measures by the kind of their change."""
        return Counter(change.kind for one in self.results for change in one.changes)

    @property
    def summary(self) -> str:
        """`1 worse, 3 better, 22 no difference shown, 4 new`."""
        counts = self.counts
        return ", ".join(f"{counts[k]} {k}" for k in ChangeKind if counts[k]) or "no result changed"


def build_review(
    base: str = "",
    *,
    remotes: bool = False,
    draw: bool = True,
    root: Path = Path(),
    out: Path | None = None,
) -> Review:
    """Compare the project in `root`, as it lies on disk, with a revision.

    Args:
        base: a revision, see `find_sides`.
        remotes: fetch predictions and manifests that DVC's cache lacks from DVC's remotes.
        draw: draw pictures.
        root: the project's folder.
        out: the folder that `write_review` gets; its content does not count as a change.

    UserError without git or DVC, and for an unknown revision.
    """
    out = None if out is None else out.absolute()
    with chdir(root):  # DVC names stages and files from where it stands
        return _build(base, remotes, draw, Path.cwd(), out)


def _build(base_name: str, remotes: bool, draw: bool, root: Path, out: Path | None) -> Review:
    from vidprompt.provenance.dvc_project import DvcProject
    from vidprompt.provenance.lock_check import check_project
    from vidprompt.recompute.results import recompute_results

    base, head = find_sides(root, base_name, out)
    with DvcProject(head, remotes=remotes) as project:
        lock = check_project(project)
        recomputed = recompute_results(project)
        results, unchanged = result_diffs(base, head, project)
        data = data_diffs(base, head, project)
        problems = project.problems
    pictures, *undrawn = draw_pictures(base, head, results) if draw else ([], 0, 0)
    classes = {one.result: _class_changes(base, head, one.result) for one in results}
    return Review(
        base=base,
        head=head,
        lock=lock,
        recomputed=recomputed,
        other_findings=(*_unreadable(head), *_stale_stages(head), *_stale_table(head)),
        results=results,
        unchanged=unchanged,
        params=param_changes(base, head),
        stages=stage_diff(base, head),
        data=data,
        trainings=training_changes(base, head),
        costs=cost_diffs(base, head),
        class_changes={result: changes for result, changes in classes.items() if changes},
        pictures=pictures,
        undrawn=(undrawn[0], undrawn[1]),
        store_problems=problems,
    )


def _class_changes(base: Side, head: Side, result: Result) -> list[tuple[str, float, float]]:
    table = class_accuracies(base, head, result)
    table = table[table["base"] != table["head"]]
    rows = [(str(r["class"]), float(r["base"]), float(r["head"])) for r in table.to_dict("records")]
    return sorted(rows, key=lambda row: (-abs(row[2] - row[1]), row[0]))[:MOST_CLASSES]


def _unreadable(head: Side) -> Iterator[Finding]:
    """Files of results that cannot be read."""
    for path, problem in head.malformed_results.items():
        yield Finding(path, f"it is not a valid result: {problem}")
    for dataset in head.datasets:
        path = cost_file(dataset).as_posix()
        try:
            parse_costs(head.read(path) or b"{}")
        except ValueError as error:
            yield Finding(path, f"it cannot be read ({error}): delete it, and run `vidprompt cost`")


def _stale_stages(head: Side) -> Iterator[Finding]:
    """params/stages.yaml, where it differs from what pipeline.yaml and the datasets' files give."""
    from vidprompt.pipeline import matrix

    pipeline = "params/pipeline.yaml"
    if pipeline not in head.files:
        return
    try:
        if matrix.stale():
            yield Finding("params/stages.yaml", "differs from pipeline.yaml: `vidprompt activate`")
    except UserError as error:
        yield Finding(pipeline, f"{error}")


def _stale_table(head: Side) -> Iterator[Finding]:
    """README.md's table, where it differs from the results."""
    from vidprompt.reporting.measures import read_rows
    from vidprompt.reporting.table import MARKS, markdown_table

    text = (head.read(README) or b"").decode("utf-8", "replace")
    has_results = any(re.fullmatch(r"results/demo/.*/metrics\.json", path) for path in head.files)
    texts = split_at_marks(text, MARKS)
    if texts is None or not has_results:
        return
    try:
        expected = markdown_table(read_rows("demo", head.root / "results")).strip()
    except UserError as error:
        yield Finding(README, f"its table cannot be compared: {error}")
        return
    if texts[1].strip() != expected:
        yield Finding(
            README, "its table differs from results/: `vidprompt table demo --readme` writes it"
        )
