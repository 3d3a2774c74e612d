"""Flow train-eval: everything of one dataset, from its videos to the verdict on its models."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.states import Failed

from flows.artifacts import after_kind, at_end, check_base
from flows.data import fetched
from flows.dvc_stage import Children, CommandFailed, outdated_upstream
from flows.parameters import Base, Dataset, Methods
from flows.pipeline import RUNNER, Plan, dataset_of, kind_of, plan, ran, refused, run_kind, turn
from vidprompt.system.errors import UserError


@flow(name="train-eval", task_runner=RUNNER)
def train_eval(dataset: Dataset = "demo", methods: Methods = None, base: Base = "HEAD") -> Any:
    """Bring every stage of the dataset up to date; a stage that fails ends the run after its kind.

    What was wrong is the state's message; nothing that was done is done again by the next run.
    """
    with Children() as children:
        try:
            what = plan(dataset, children, methods or ())
            check_base(base)
        except UserError as error:
            return refused(error)
        with turn(dataset):
            try:
                wrong = fetched(dataset, children) or run_kinds(what, children)
                wrong = wrong or stale(what, children)
            except CommandFailed as error:
                wrong = str(error)
            if wrong:
                return Failed(message=wrong)
            ran("cost", ["vidprompt", "cost", dataset], children)
            at_end(dataset, base)
    return None


def run_kinds(what: Plan, children: Children) -> str:
    """Run the stages kind after kind; what was wrong with those of a kind, or nothing."""
    for stages in what.kinds:
        failed = run_kind(stages, what, children)
        after_kind(kind_of(stages[0]), what.dataset)
        if failed:
            return "; ".join(failed)
    return ""


def stale(what: Plan, children: Children) -> str:
    """What DVC still calls changed, or nothing."""
    changed = outdated_upstream(what.kinds[-1], children)  # they depend on all the others
    if own := [stage for stage in changed if stage in what.stages]:
        return f"changed while the flow ran, run it again: {', '.join(own)}"
    others = [stage for stage in changed if dataset_of(stage) not in ("", what.dataset)]
    if others:
        return (
            f"{what.dataset} is built on what is out of date: {', '.join(others)}; run `dvc repro`, or the "
            "flow of that dataset, then this again"
        )
    return ""
