"""Flow evaluate: a registered model on a dataset it has not seen."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.states import Failed

from flows.artifacts import unseen_metrics
from flows.data import fetched
from flows.dvc_stage import Children, CommandFailed
from flows.parameters import Dataset, Model, Protocol
from flows.pipeline import DATA, RUNNER, plan, ran, refused, turn
from flows.train_eval import run_kinds
from vidprompt.system.errors import UserError


@flow(name="evaluate", task_runner=RUNNER)
def evaluate(model: Model, dataset: Dataset, protocol: Protocol = "zero_shot") -> Any:
    """Prepare the dataset's data, then encode and evaluate it with the registered weights."""
    with Children() as children:
        try:
            what = plan(dataset, children, only=DATA, computes=True)
        except UserError as error:
            return refused(error)
        with turn(dataset):
            try:
                wrong = fetched(dataset, children) or run_kinds(what, children)
            except CommandFailed as error:
                wrong = str(error)
            if wrong:
                return Failed(message=wrong)
        words = [model, f"dataset={dataset}", f"protocol={protocol}"]
        command = ["vidprompt", "evaluate-registered", "--", *words]
        well, said = ran(f"{model} on {dataset}", command, children, on_gpu=what)
        if not well:
            return Failed(message=said)
        unseen_metrics(model, dataset, said)
    return None
