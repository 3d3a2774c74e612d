"""The reference of the command line, from its parser."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer
from tools.site.markdown import escaped

from vidprompt.cli.main import app


def command_line_page() -> str:
    """All commands by their panels, with usage, arguments and options as `--help` has them."""
    group: Any = typer.main.get_command(app)
    panels: dict[str, list[str]] = {}
    for name, command in group.commands.items():
        panels.setdefault(command.rich_help_panel or "Commands", []).append(name)
    parts = ["# Command line", _inside_paragraphs(group.help)]
    parts += ["`vidprompt COMMAND --help` prints the same.", "**Options of every command**"]
    context = group.make_context("vidprompt", ["--help"], resilient_parsing=True)
    parts.append(_list(group.get_params(context), context))
    for panel, names in panels.items():
        parts.append(f"## {panel}")
        for name in names:
            parts += _command(group.commands[name], name)
    return "\n\n".join(filter(None, parts)) + "\n"


def _command(command: Any, name: str) -> Iterator[str]:
    context = command.make_context(name, [], resilient_parsing=True)
    yield f"### {name}"
    yield _inside_paragraphs(command.help)
    usage = " ".join(command.collect_usage_pieces(context))
    yield f"```text\nvidprompt {name} {usage}\n```"
    parameters = command.get_params(context)
    yield _list([one for one in parameters if one.param_type_name == "argument"], context)
    yield _list([one for one in parameters if one.param_type_name == "option"], context)


def _list(parameters: list[Any], context: Any) -> str:
    lines = []
    for parameter in parameters:
        record = parameter.get_help_record(context)
        if record and parameter.name != "help":
            name = parameter.name if parameter.param_type_name == "argument" else record[0]
            lines.append(f"- `{name}`" + (f": {escaped(record[1])}" if record[1] else ""))
    return "\n".join(lines)


def _inside_paragraphs(text: str | None) -> str:
    return escaped((text or "").replace("\b", "").strip())
