"""All methods on one dataset, by the same data and budget: `vidprompt compare-methods`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class MethodComparison:
    """The table (Markdown), the page with it and the plots, and why methods or jobs failed, by name."""

    table: str
    page: Path
    failed: dict[str, str]


def pending(arguments: Sequence[str], *, again: bool = False) -> dict[str, list[str]]:
    """Job → titles of the steps that `run` would run. Raises UserError for what cannot be planned."""
    from vidprompt.method_comparison.plan import make_method_plan
    from vidprompt.sweep.launch import pending_steps
    from vidprompt.sweep.plan import Configurations

    configs = Configurations()
    return pending_steps(make_method_plan(arguments, configs).plan, configs, again=again)


def run(
    arguments: Sequence[str],
    *,
    jobs: int = 1,
    again: bool = False,
    speed: bool = True,
    into: Path | None = None,
    command: Sequence[str] = (),
) -> MethodComparison:
    """What `vidprompt compare-methods` does.

    Args:
        arguments: `key=value`, with `methods=all` or names, `budget=clips` or `recipe`, `seed=1,2,3`.
        jobs: how many jobs run at once.
        again: run finished steps, too.
        speed: measure seconds and memory of a step, one method after the other, when the jobs are done.
        into: a page to write the table into, between its marks.
        command: instead of vidprompt, for tests.

    Raises UserError for what cannot be planned, DataError where no method has a result, Interrupted when it
    was stopped: the same call goes on.
    """
    from vidprompt.method_comparison import page, result
    from vidprompt.method_comparison.plan import make_method_plan
    from vidprompt.method_comparison.speed import measure_speed
    from vidprompt.reporting.markdown import read_marked, write_between_marks
    from vidprompt.sweep.launch import Launcher, work_of
    from vidprompt.sweep.plan import Configurations

    configs = Configurations()
    plan = make_method_plan(arguments, configs)
    if into is not None:
        read_marked(into, plan.plan.name)  # before the jobs run
    works = work_of(plan.plan, configs, again=again)
    done = sum(not work.pending for work in works)
    logger.info(f"{plan.plan.folder}: {len(works)} jobs, {done} done before; budget {plan.budget}")
    failed = Launcher(jobs, again=again, command=command).run(plan.plan, works, configs)
    found = result.comparison_result(plan, works, failed, configs)
    times = measure_speed(plan, configs, again=again, command=command) if speed else {}
    table = page.write(plan, found, times)
    if into is not None:
        write_between_marks(into, plan.plan.name, table)
    return MethodComparison(table, plan.plan.folder / "summary.md", found["failed"])
