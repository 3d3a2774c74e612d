"""Flow preprocess: the data side of a dataset, from its videos to validated lists and frame shards."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.states import Failed

from flows.dvc_stage import Children
from flows.parameters import Dataset
from flows.pipeline import DATA, RUNNER, dataset_lock, make_plan, refused_state
from flows.train_eval import run_stages
from vidprompt.system.errors import UserError


@flow(name="preprocess", task_runner=RUNNER)
def preprocess(dataset: Dataset = "demo") -> Any:
    """Bring manifest, splits, validation, frames and backbone of the dataset up to date."""
    with Children() as children:
        try:
            plan = make_plan(dataset, children, only=DATA)
        except UserError as error:
            return refused_state(error)
        with dataset_lock(dataset):
            problem = run_stages(plan, children)
    return Failed(message=problem) if problem else None
