"""Search a method's numbers on held-out training videos: `vidprompt tune`.

No test list is read: a trial's folder has none (`trainings`).
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vidprompt.system.errors import UserError

if TYPE_CHECKING:
    from vidprompt.tuning.plan import TunePlan as TunePlan

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TuneResult:
    """The table (Markdown), the page with it, the experiment file of each method, and what is left to do.

    `unfinished` are trials that another process still runs.
    """

    table: str
    page: Path
    best: dict[str, Path]
    unfinished: list[str]


def describe(arguments: Sequence[str]) -> list[str]:
    """What would be searched, a line each. Raises UserError for what cannot be planned."""
    from vidprompt.tuning.plan import make_tune_plan

    plan = make_tune_plan(arguments)
    lines = [
        f"{plan.folder}: {plan.settings.trials} trials a method, sampler {plan.settings.sampler}, "
        f"pruner {plan.settings.pruner}, {plan.held_out}"
    ]
    for method in plan.methods:
        for key, dimension in plan.settings.dimensions(method).items():
            lines.append(f"{method}: {key}: {dimension}, now {plan.start[method][key]}")
    return lines


def run(
    arguments: Sequence[str],
    *,
    jobs: int = 1,
    again: bool = False,
    save: str = "",
    command: Sequence[str] = (),
) -> TuneResult:
    """What `vidprompt tune` does.

    Args:
        arguments: `key=value`; `tune=FILE` of params/tune/, `tune.KEY=VALUE`, `methods=a,b`.
        jobs: how many trials run at once, each on a GPU of its own where there are as many.
        again: forget all trials.
        save: write the best values to params/experiment/SAVE.yaml (of several methods SAVE_METHOD.yaml).
        command: instead of vidprompt, for tests.

    Raises UserError for what cannot be planned or where no trial ended, Interrupted when it was stopped: the
    same call goes on.
    """
    from vidprompt.system.locks import exclusive_lock
    from vidprompt.tuning import report
    from vidprompt.tuning.plan import make_tune_plan
    from vidprompt.tuning.search import Search

    plan = make_tune_plan(arguments)
    report.check_experiment_name(save)
    if again and plan.folder.is_dir():
        with exclusive_lock(plan.folder):  # not while another works in it
            shutil.rmtree(plan.folder)
    with exclusive_lock(plan.folder):
        search = Search(plan, jobs=jobs, command=command)
        search.run()
    result = report.tune_result(plan, search.studies, search.tuned)
    table = report.write(plan, result)
    best = {
        method: report.write_best(plan, method, search.tuned[method], result, save)
        for method in plan.methods
        if result["methods"][method]["best"] is not None
    }
    if not best:
        raise UserError(
            f"no trial of {', '.join(plan.methods)} ended: {search.last_reason or 'see the logs'}"
        )
    return TuneResult(table, plan.folder / "summary.md", best, search.unfinished)
