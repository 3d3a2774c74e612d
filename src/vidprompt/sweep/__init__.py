"""Many trainings from one command: settings × swept keys × seeds, and one table of their results."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SweepResult:
    """The table of means over seeds (Markdown), the page with it, and why jobs failed, by job."""

    table: str
    page: Path
    failed: dict[str, str]


def pending(arguments: Sequence[str], *, again: bool = False) -> dict[str, list[str]]:
    """Job → titles of the steps that `run` would run. Raises UserError for what cannot be planned."""
    from vidprompt.sweep.launch import pending_steps
    from vidprompt.sweep.plan import Configurations, make_plan

    configs = Configurations()
    return pending_steps(make_plan(arguments, configs), configs, again=again)


def run(
    arguments: Sequence[str],
    *,
    jobs: int = 1,
    again: bool = False,
    into: Path | None = None,
) -> SweepResult:
    """What `vidprompt multirun` does.

    Args:
        arguments: `key=value`, values with Hydra's sweeps; see `plan`.
        jobs: how many jobs run at once.
        again: run finished steps, too.
        into: a page to write the table into, between its marks.

    Raises UserError for what cannot be planned or a page without marks, Interrupted when it was stopped.
    """
    from vidprompt.reporting.markdown import read_marked, write_between_marks
    from vidprompt.sweep import launch, summary
    from vidprompt.sweep.plan import Configurations, make_plan

    configs = Configurations()
    plan = make_plan(arguments, configs)
    if into is not None:
        read_marked(into, plan.name)  # before the jobs run
    works = launch.work_of(plan, configs, again=again)
    done = [work for work in works if not work.pending]
    old = [work.job.name for work in done if work.record.other_code(work.steps)]
    if old:
        logger.warning(
            f"{len(old)} jobs ran with other code ({old[0]}, …): --again runs them again"
        )
    logger.info(f"{plan.folder}: {len(works)} jobs, {len(done)} done before")
    failed = launch.Launcher(jobs, again=again).run(plan, works, configs)
    table = summary.write_summary(plan, summary.summarise(plan, failed))
    if into is not None:
        write_between_marks(into, plan.name, table)
    for name, why in failed.items():
        logger.error(f"failed: {name}: {why}")
    return SweepResult(table, plan.folder / "summary.md", failed)
