"""Flow train-eval: everything of one dataset, from its videos to the verdict on its models."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.states import Failed

from flows.artifacts import after_kind, at_end
from flows.dvc_stage import Children, CommandFailed, outdated
from flows.parameters import Base, Dataset, Methods
from flows.pipeline import RUNNER, kind_of, plan, ran, refused, run_kind
from vidprompt.errors import UserError


@flow(name="train-eval", task_runner=RUNNER)
def train_eval(dataset: Dataset = "demo", methods: Methods = None, base: Base = "HEAD") -> Any:
    """Bring every stage of the dataset up to date; a stage that fails ends the run after its kind.

    What was wrong is the state's message; nothing that was done is done again by the next run.
    """
    with Children() as children:
        try:
            what = plan(dataset, children, methods or ())
            for stages in what.kinds:
                if failed := run_kind(stages, what, children):
                    return Failed(message="; ".join(failed))
                after_kind(kind_of(stages[0]), dataset)
            if changed := outdated(what.stages, children):
                return Failed(
                    message=f"changed while the flow ran, run it again: {', '.join(changed)}"
                )
            ran("cost", ["vidprompt", "cost", dataset], children)
            at_end(dataset, base)
        except UserError as error:
            return refused(error)
        except CommandFailed as error:
            return Failed(message=str(error))
    return None
