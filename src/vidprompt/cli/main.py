"""The command `vidprompt`: its groups of commands, options for messages, and exit codes of errors.

Modules of this folder import what is heavy inside the commands: `vidprompt --help` answers in under a second.
"""

from __future__ import annotations

import errno
import io
import logging
import os
import sys
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import vidprompt
from vidprompt.cli import (
    explain,
    export,
    index,
    methods,
    models,
    plugins,
    predict,
    project,
    registry,
    reproduce,
    results,
    serving,
    stages,
)
from vidprompt.system.errors import TRANSIENT_EXIT, UserError, is_transient
from vidprompt.system.interruption import signal_number, sigterm_raises
from vidprompt.system.machine_errors import machine_error
from vidprompt.system.user import no_home, user_variables

logger = logging.getLogger(__name__)

MESSAGE_OPTIONS = ("-v", "--verbose", "-q", "--quiet")


class CommandGroup(TyperGroup):
    """Typer takes an EOFError for the end of a person's input and says "Aborted."; here it is a worker's."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except EOFError as error:
            raise machine_error(error) or RuntimeError("unexpected end of data") from error


app = typer.Typer(
    cls=CommandGroup,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Adapt a frozen CLIP to video by prompt learning. Stages take Hydra overrides: "
    "vidprompt train dataset=demo method=ez_clip trainer.lr=1e-3",
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"vidprompt {vidprompt.__version__}")
        raise typer.Exit


@app.callback()
def _configure_messages(
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", help="Show debug messages, too; also after COMMAND.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("-q", "--quiet", help="Show errors only; also after COMMAND.")
    ] = False,
    _version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    from vidprompt.project.code_link import renew_links
    from vidprompt.system.logging import configure

    configure("DEBUG" if verbose else "ERROR" if quiet else "")
    try:
        if renew_links(Path.cwd()):
            logger.info("src/vidprompt is linked to this package: `dvc status` compares its code")
    except (UserError, OSError) as error:  # a command that runs no stage does without
        logger.debug(error)


for _group in (
    predict,
    stages,
    results,
    methods,
    reproduce,
    explain,
    models,
    plugins,
    index,
    export,
    serving,
    registry,
    project,
):
    _group.add_to(app)


def message_options_first(arguments: list[str]) -> list[str]:
    """The command line with -v and -q before the command's name; after `--` nothing is moved."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    moved = [word for word in arguments[:end] if word in MESSAGE_OPTIONS]
    return moved + [word for word in arguments[:end] if word not in moved] + arguments[end:]


def main() -> None:
    """Run the command line; a user's mistake is one line on stderr and exit 2."""
    _use_utf8()
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.update(user_variables())
    warnings.filterwarnings("ignore", category=FutureWarning)
    # other packages give the root logger handlers, which would repeat every message
    logging.getLogger("vidprompt").propagate = False
    try:
        with sigterm_raises():
            app(message_options_first(sys.argv[1:]))
    except Exception as error:
        message, code = _message_and_exit_code(error)
        logger.debug("traceback", exc_info=True)
        if message:
            logger.error(message)
        raise SystemExit(code) from None
    except (SystemExit, KeyboardInterrupt) as stop:  # typer's, or before typer
        if (number := signal_number(stop)) is None:
            raise
        if os.environ.get("RANK", "0") == "0":
            logger.error(f"stopped by signal {number}: what is finished is kept")
        raise SystemExit(128 + number) from None


def _use_utf8() -> None:
    """Read and name files in UTF-8 whatever the locale, and print what the terminal cannot show as escapes.

    Python's UTF-8 mode can only be chosen when it starts: in a locale of another encoding, start it anew.
    """
    if sys.getfilesystemencoding() != "utf-8" and not sys.flags.utf8_mode:
        os.environ["PYTHONUTF8"] = "1"  # for the processes that this one starts
        os.environ.setdefault("PYTHONIOENCODING", f"{sys.stdout.encoding}:backslashreplace")
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors != "backslashreplace":
            with suppress(OSError):  # a file's stream whose descriptor is a pipe's by now
                stream.reconfigure(errors="backslashreplace")


def _message_and_exit_code(error: Exception) -> tuple[str, int]:
    """The message (empty: another process has it) and the exit status; raises an unexpected error again."""
    error = machine_error(error) or no_home(error) or error
    if isinstance(error, UserError):
        silent = error.in_all_processes and os.environ.get("RANK", "0") != "0"
        transient = error.exit_code == UserError.exit_code and is_transient(error)
        return "" if silent else str(error), TRANSIENT_EXIT if transient else error.exit_code
    if not isinstance(error, OSError):
        raise error
    if is_transient(error):
        return f"{error} (it may pass: run it again)", TRANSIENT_EXIT
    if error.errno not in (errno.EROFS, errno.EACCES):
        raise error
    where = f"{error.filename}: " if error.filename else ""
    return (
        f"{where}{error.strerror}: allow it, or choose another place",
        UserError.exit_code,
    )


if __name__ == "__main__":
    main()
