"""Commands about plug-ins: what is installed, and whether a method holds the contract."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from vidprompt.cli.overrides import Overrides, with_paths

PANEL = "Plug-ins"


def plugins(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the plug-ins of installed packages, and whether each works; exit 1 when one does not."""
    from vidprompt.cli.tables import print_table
    from vidprompt.contract.installed import installed_plugins

    found = installed_plugins()
    if as_json:
        print(json.dumps([one.to_json() for one in found], indent=1))
    elif not found:
        print("no plug-ins are installed (docs/plugins.md says how to write one)")
    else:
        rows = [(p.kind, p.name, p.distribution, p.version, p.state) for p in found]
        print_table("Plug-ins", ("kind", "name", "distribution", "version", "state"), rows)
    if any(one.problem for one in found):
        raise typer.Exit(1)


@with_paths
def check_method(
    method: Annotated[str, typer.Argument(help="A method, ours or a plug-in's.")],
    overrides: Overrides = None,
    backbone: Annotated[
        str,
        typer.Option(
            help="A file of params/backbone, or NAME:TAG of open_clip. Default: a small random one."
        ),
    ] = "",
) -> None:
    """Check a method against the contract of methods: a line a check, exit 1 when one fails."""
    from vidprompt.config.compose import compose
    from vidprompt.config.params_files import is_backbone_file
    from vidprompt.contract.method import check_each

    chosen: object = backbone or None
    if backbone and is_backbone_file(backbone):
        chosen = vars(compose([f"backbone={backbone}"]).backbone)
    failed = 0
    for result in check_each(method, backbone=chosen, overrides=overrides or []):  # type: ignore[arg-type]
        print(result.line, flush=True)
        failed += result.failed
    if failed:
        print(f"{method}: {failed} failed")
        raise typer.Exit(1)


def add_to(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for command in (plugins, check_method):
        app.command(rich_help_panel=PANEL)(command)
