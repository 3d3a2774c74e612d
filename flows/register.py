"""Flow register: assign a stage to a model of this commit if its gates pass."""

from __future__ import annotations

from typing import Any, Literal

from prefect import flow
from prefect.states import Failed

from flows.artifacts import model_card
from flows.dvc_stage import Children
from flows.parameters import Name
from flows.pipeline import run_command

Stage = Literal["candidate", "staging", "production"]


@flow(name="register")
def register(name: Name, stage: Stage = "candidate") -> Any:
    """What `vidprompt register NAME --stage STAGE` does; a refusal is the state's message."""
    with Children() as children:
        arguments = ["vidprompt", "register", "--stage", stage, "--", name]
        succeeded, message = run_command(f"register {name}", arguments, children)
        if not succeeded:
            return Failed(name="Refused", message=message)
        model_card(f"{name}@{stage}", children, return_state=True)  # its failure does not matter
    return None
