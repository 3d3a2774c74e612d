"""The commands of `vidprompt`: each in a group, with one line of help."""

from __future__ import annotations

import time
from importlib.metadata import entry_points

import typer
from typer.testing import CliRunner

import vidprompt
from vidprompt.cli import export, models, plugins, project, registry, reproduce, results, stages
from vidprompt.cli.main import CommandGroup, app

PANELS = {
    module.PANEL
    for module in (export, models, plugins, project, registry, reproduce, results, stages)
}


def test_every_command_is_in_a_group_and_has_one_line_of_help() -> None:
    for command in app.registered_commands:
        text = command.help or (command.callback.__doc__ if command.callback else "") or ""
        assert text.endswith("."), command.name
        assert "\n" not in text, command.name
        assert len(text) <= 100, command.name
        assert command.rich_help_panel in PANELS, command.name


def test_help_lists_the_groups_at_once() -> None:
    began = time.process_time()
    shown = CliRunner().invoke(app, ["--help"]).output
    assert time.process_time() - began < 1
    assert all(panel in shown for panel in PANELS)


def test_the_version_is_that_of_the_package() -> None:
    shown = CliRunner().invoke(app, ["--version"])
    assert (shown.exit_code, shown.output) == (0, f"vidprompt {vidprompt.__version__}\n")


def test_the_end_of_a_workers_data_is_an_error_and_no_abort() -> None:
    group = typer.Typer(cls=CommandGroup)
    group.callback()(lambda: None)

    @group.command()
    def receive() -> None:
        raise EOFError

    result = CliRunner().invoke(group, ["receive"])
    assert str(result.exception) == "unexpected end of data"


def test_the_installed_command_is_this_one() -> None:
    (script,) = (one for one in entry_points(group="console_scripts") if one.name == "vidprompt")
    assert script.value == "vidprompt.cli.main:main"
