"""The overrides of a command: `key=value …`, and options for paths, which need no quotes of Hydra's."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import typer

Overrides = Annotated[
    list[str] | None, typer.Argument(help="key=value …, of params/", show_default=False)
]
PANEL = "Paths, as overrides without quotes"
# option → key, value in the help, help
_OPTIONS = {
    "--root": ("dataset.root", "DIR", "Folder of the dataset's videos"),
    "--archives": ("dataset.archives", "DIR", "Folder of its tar files"),
    "--weights": ("backbone.weights", "FILE", "Weights of the backbone"),
    "--backbone-config": ("backbone.config", "FILE", "open_clip model config of the backbone"),
    "--descriptions": ("prompts.descriptions", "FILE", "Descriptions of the classes"),
}


def with_paths(command: Callable[..., None]) -> Callable[..., None]:
    """The command (which has a parameter `overrides`) with the options, added to its overrides."""
    names = {option.strip("-").replace("-", "_"): option for option in _OPTIONS}

    @wraps(command)
    def wrapped(**given: Any) -> None:
        from vidprompt.config.overrides import override_of
        from vidprompt.system.errors import UserError

        overrides = list(given.pop("overrides") or [])
        for name, option in names.items():
            path = given.pop(name)
            if path == "":
                raise UserError(f"{option} is empty: name a path")
            if path is not None:
                overrides.append(override_of(_OPTIONS[option][0], path))
        command(overrides=overrides, **given)

    own = inspect.signature(command, eval_str=True)
    added = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[str | None, _option(option)],
        )
        for name, option in names.items()
    ]
    parameters = [*own.parameters.values(), *added]
    wrapped.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    wrapped.__annotations__ = {one.name: one.annotation for one in parameters}
    return wrapped


def _option(name: str) -> Any:
    key, metavar, text = _OPTIONS[name]
    return typer.Option(
        name, metavar=metavar, help=f"{text} ({key}).", rich_help_panel=PANEL, show_default=False
    )
