"""Flow train-eval: everything of one dataset, from its videos to the verdict on its models."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.states import Failed

from flows.artifacts import after_kind, at_end, check_base
from flows.data import pull_missing
from flows.dvc_stage import Children, CommandFailed, outdated_upstream
from flows.parameters import Base, Dataset, Methods
from flows.pipeline import (
    RUNNER,
    Plan,
    dataset_lock,
    dataset_of,
    kind_of,
    make_plan,
    refused_state,
    run_command,
    run_kind,
)
from vidprompt.system.errors import UserError


@flow(name="train-eval", task_runner=RUNNER)
def train_eval(dataset: Dataset = "demo", methods: Methods = None, base: Base = "HEAD") -> Any:
    """Bring every stage of the dataset up to date; a stage that fails ends the run after its kind.

    What was wrong is the state's message; nothing that was done is done again by the next run.
    """
    with Children() as children:
        try:
            plan = make_plan(dataset, children, methods or ())
            check_base(base)
        except UserError as error:
            return refused_state(error)
        with dataset_lock(dataset):
            if problem := run_stages(plan, children) or stale(plan, children):
                return Failed(message=problem)
            run_command("cost", ["vidprompt", "cost", dataset], children)
            at_end(dataset, base)
    return None


def run_stages(plan: Plan, children: Children) -> str:
    """Pull what is missing and run the plan's stages; returns the error, or an empty string."""
    try:
        return pull_missing(plan.dataset, children) or run_kinds(plan, children)
    except CommandFailed as error:
        return str(error)


def run_kinds(plan: Plan, children: Children) -> str:
    """Run the stages kind after kind; returns the errors of the first failing kind, if any."""
    for stages in plan.kinds:
        failed = run_kind(stages, plan, children)
        after_kind(kind_of(stages[0]), plan.dataset)
        if failed:
            return "; ".join(failed)
    return ""


def stale(plan: Plan, children: Children) -> str:
    """What DVC still reports as changed, or an empty string."""
    try:
        changed = outdated_upstream(plan.kinds[-1], children)  # they depend on all the others
    except CommandFailed as error:
        return str(error)
    if own := [stage for stage in changed if stage in plan.stages]:
        return f"changed while the flow ran, run it again: {', '.join(own)}"
    others = [stage for stage in changed if dataset_of(stage) not in ("", plan.dataset)]
    if others:
        return (
            f"{plan.dataset} is built on what is out of date: {', '.join(others)}; run `dvc repro`, or the "
            "flow of that dataset, then this again"
        )
    return ""
