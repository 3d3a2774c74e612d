"""Flow preprocess: the data side of a dataset, from its videos to validated lists and frame shards."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.states import Failed

from flows.data import fetched
from flows.dvc_stage import Children, CommandFailed
from flows.parameters import Dataset
from flows.pipeline import DATA, RUNNER, plan, refused, turn
from flows.train_eval import run_kinds
from vidprompt.system.errors import UserError


@flow(name="preprocess", task_runner=RUNNER)
def preprocess(dataset: Dataset = "demo") -> Any:
    """Bring manifest, splits, validation, frames and backbone of the dataset up to date."""
    with Children() as children:
        try:
            what = plan(dataset, children, only=DATA)
        except UserError as error:
            return refused(error)
        with turn(dataset):
            try:
                wrong = fetched(dataset, children) or run_kinds(what, children)
            except CommandFailed as error:
                wrong = str(error)
    return Failed(message=wrong) if wrong else None
