"""Types of the flows' parameters: the choices of the form in the UI, checked by the server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from vidprompt.pipeline.matrix import read_pipeline

_PARAMS = Path(__file__).parents[1] / "params"


def _choices(group: str) -> list[str]:
    return sorted(file.stem for file in (_PARAMS / group).glob("*.yaml"))


def _one_of(choices: list[str], description: str) -> Any:
    """A choice in the schema only: the flow checks it again, with a better message."""
    return Field(description=description, json_schema_extra={"enum": list(choices)})


def _trained() -> list[str]:
    return [str(name) for name in read_pipeline(_PARAMS)["trained"]]


Dataset = Annotated[
    str,
    _one_of(_choices("dataset"), "Has to be active: params/pipeline.yaml lists those that are."),
]
Method = Annotated[str, _one_of(_trained(), "As params/pipeline.yaml trains them.")]
Methods = Annotated[
    list[Method] | None, Field(description="Methods to train and evaluate; none given: all.")
]
Protocol = Annotated[str, _one_of(_choices("protocol"), "What the registered model is tested by.")]
Base = Annotated[str, Field(description="Git revision that metrics are compared with.")]
Model = Annotated[
    str,
    Field(description="NAME@STAGE, NAME@VERSION or NAME@latest: `vidprompt models` lists them."),
]
Name = Annotated[str, Field(description="A model that dvc.yaml declares under `artifacts:`.")]
Folder = Annotated[str, Field(description="Where the service reads its model: FOLDER/current.")]
Url = Annotated[str, Field(description="Of the service, which answers at URL/healthz.")]
Command = Annotated[
    list[str] | None,
    Field(
        description="Restarts the service, in words: [docker, restart, vidprompt]. None given: the flow "
        "runs `vidprompt serve` on this machine."
    ),
]
