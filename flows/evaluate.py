"""Flow evaluate: a registered model on a dataset it has not seen."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.states import Failed

from flows import gpu
from flows.artifacts import after_kind, unseen_metrics
from flows.dvc_stage import Children, CommandFailed
from flows.parameters import Dataset, Model, Protocol
from flows.pipeline import DATA, RUNNER, kind_of, plan, ran, refused, run_kind
from vidprompt.errors import UserError


@flow(name="evaluate", task_runner=RUNNER)
def evaluate(model: Model, dataset: Dataset, protocol: Protocol = "zero_shot") -> Any:
    """Prepare the dataset's data, then encode and evaluate it with the registered weights."""
    with Children() as children:
        try:
            what = plan(dataset, children, only=DATA)
            gpu.check_limit(1)
            for stages in what.kinds:
                if failed := run_kind(stages, what, children):
                    return Failed(message="; ".join(failed))
                after_kind(kind_of(stages[0]), dataset)
            arguments = [model, f"dataset={dataset}", f"protocol={protocol}"]
            well, said = ran(
                f"{model} on {dataset}",
                ["vidprompt", "evaluate-registered", *arguments],
                children,
                on_gpu=what,
            )
            if not well:
                return Failed(message=said)
            unseen_metrics(model, dataset, said)
        except UserError as error:
            return refused(error)
        except CommandFailed as error:
            return Failed(message=str(error))
    return None
