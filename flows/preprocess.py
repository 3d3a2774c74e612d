"""Flow preprocess: the data side of a dataset, from its videos to validated lists and frame shards."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.states import Failed

from flows.artifacts import after_kind
from flows.dvc_stage import Children, CommandFailed
from flows.parameters import Dataset
from flows.pipeline import DATA, RUNNER, kind_of, plan, refused, run_kind
from vidprompt.errors import UserError


@flow(name="preprocess", task_runner=RUNNER)
def preprocess(dataset: Dataset = "demo") -> Any:
    """Bring manifest, splits, validation, frames and backbone of the dataset up to date."""
    with Children() as children:
        try:
            what = plan(dataset, children, only=DATA)
            for stages in what.kinds:
                if failed := run_kind(stages, what, children):
                    return Failed(message="; ".join(failed))
                after_kind(kind_of(stages[0]), dataset)
        except UserError as error:
            return refused(error)
        except CommandFailed as error:
            return Failed(message=str(error))
    return None
