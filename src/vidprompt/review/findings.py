"""All that a review found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vidprompt.provenance.lock_report import Finding, LockReport
from vidprompt.provenance.revision import Result
from vidprompt.recompute.results import Recount
from vidprompt.reporting.markdown import plain, several
from vidprompt.review.cost_diff import CostDiff
from vidprompt.review.data_diff import DataDiff
from vidprompt.review.params_diff import Param, Stages
from vidprompt.review.pictures import Picture
from vidprompt.review.result_diff import Outcome, ResultDiff
from vidprompt.review.sides import Side
from vidprompt.review.training_diff import Training


@dataclass(frozen=True)
class Review:
    """`others`: findings beside those of the pipeline and of the recount. `classes`: result → class,
    accuracy of base and of head, those that changed most first. `undrawn`: results and methods that were too
    many for a picture. `remotes`: stores that failed or have damaged files."""

    base: Side
    head: Side
    pipeline: LockReport
    recount: Recount
    others: tuple[Finding, ...]
    results: Sequence[ResultDiff]
    unchanged: int
    params: Sequence[Param]
    stages: Stages
    data: Sequence[DataDiff]
    trainings: Sequence[Training]
    costs: Sequence[CostDiff]
    classes: dict[Result, list[tuple[str, float, float]]]
    pictures: Sequence[Picture]
    undrawn: tuple[int, int]
    remotes: Sequence[str]

    @property
    def findings(self) -> list[Finding]:
        """What fails the review, sorted; last what follows from other files (README.md's table)."""
        return [*sorted({*self.pipeline.findings, *self.recount.findings}), *self.others]

    @property
    def passed(self) -> bool:
        return not self.findings

    @property
    def unchecked(self) -> Iterator[str]:
        """What could not be checked for want of files: nothing means that the results follow."""
        if self.recount.without:
            yield f"{several(self.recount.without, 'result')} (no predictions at hand)"
        if self.recount.unlisted:
            names = plain(", ".join(self.recount.unlisted))
            yield f"lists and health of {names} (no manifest or splits at hand)"
        if self.pipeline.unlinked:
            yield f"{several(self.pipeline.unlinked, 'link')} between stages (no folder's listing at hand)"

    @property
    def outcomes(self) -> Counter[Outcome]:
        return Counter(line.outcome for one in self.results for line in one.lines)

    @property
    def verdicts(self) -> str:
        """`1 worse, 3 better, 22 no difference shown, 4 new`."""
        counts = self.outcomes
        said = [f"{counts[outcome]} {outcome}" for outcome in Outcome if counts[outcome]]
        return ", ".join(said) or "no result changed"
