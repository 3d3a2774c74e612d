"""Many trainings from one command: settings × swept keys × seeds, and one table of what came of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def run(
    arguments: Sequence[str],
    *,
    jobs: int = 1,
    show: bool = False,
    again: bool = False,
    into: Path | None = None,
) -> bool:
    """What `vidprompt multirun` does. Did all jobs end well?

    Args:
        arguments: `key=value`, values with Hydra's sweeps; see `plan`.
        jobs: how many jobs run at once.
        show: say what is to be done, and do nothing.
        again: also what is done.
        into: a page to write the table into, between its marks.

    Raises UserError for what cannot be planned or a page without marks, Interrupted when it was stopped.
    """
    from vidprompt.sweep import launch, summary
    from vidprompt.sweep.plan import Configurations, make_plan

    made = Configurations()
    plan = make_plan(arguments, made)
    if into is not None:
        summary.around(into, plan.name)  # now, not after all jobs
    works = launch.work_of(plan, made, again=again)
    for work in works if show else []:
        left = ", ".join(step.title for step in work.pending) or "done"
        print(f"{work.job.name}: {left}")
    if show:
        return True
    done = [work for work in works if not work.pending]
    old = [work.job.name for work in done if work.record.other_code(work.steps)]
    if old:
        print(f"{len(old)} jobs were made with other code ({old[0]}, …): --again makes them new")
    print(f"{plan.folder}: {len(works)} jobs, {len(done)} done before")
    failed = launch.Launcher(jobs, again=again).run(plan, works, made)
    found = summary.summarise(plan, failed)
    table = summary.write_summary(plan, found)
    if into is not None:
        summary.write_between(into, plan.name, table)
    print(f"\n{table}\n\n{plan.folder / 'summary.md'}")
    for name, why in failed.items():
        print(f"failed: {name}: {why}")
    return not failed
