"""Flow evaluate: evaluate a registered model on a dataset that it was not trained on."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.states import Failed

from flows.artifacts import cross_dataset_metrics
from flows.dvc_stage import Children
from flows.parameters import Dataset, Model, Protocol
from flows.pipeline import DATA, RUNNER, dataset_lock, make_plan, refused_state, run_command
from flows.train_eval import run_stages
from vidprompt.system.errors import UserError


@flow(name="evaluate", task_runner=RUNNER)
def evaluate(model: Model, dataset: Dataset, protocol: Protocol = "zero_shot") -> Any:
    """Prepare the dataset's data, then encode and evaluate it with the registered weights."""
    with Children() as children:
        try:
            plan = make_plan(dataset, children, only=DATA, computes=True)
        except UserError as error:
            return refused_state(error)
        with dataset_lock(dataset):
            if problem := run_stages(plan, children):
                return Failed(message=problem)
        words = [model, f"dataset={dataset}", f"protocol={protocol}"]
        command = ["vidprompt", "evaluate-registered", "--", *words]
        succeeded, message = run_command(f"{model} on {dataset}", command, children, on_gpu=plan)
        if not succeeded:
            return Failed(message=message)
        cross_dataset_metrics(model, dataset, message)
    return None
