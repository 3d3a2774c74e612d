"""Which messages are shown, where, and in which form."""

from __future__ import annotations

import logging
import subprocess
import sys
import warnings
from collections.abc import Iterator

import pytest

from vidprompt.cli.main import message_options_first
from vidprompt.system.errors import UserError
from vidprompt.system.logging import LEVEL, configure

logger = logging.getLogger("vidprompt.test")


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv(LEVEL, "INFO")
    package, show = logging.getLogger("vidprompt"), warnings.showwarning
    handlers, level = package.handlers, package.level
    yield
    package.handlers, warnings.showwarning = handlers, show
    package.setLevel(level)


def _log() -> None:
    logger.debug("a detail")
    logger.info("50% done")
    logger.warning("odd")
    logger.error("wrong")


@pytest.mark.parametrize(
    ("level", "shown"),
    [
        ("", ["50% done", "warning: odd", "vidprompt: wrong"]),
        ("DEBUG", ["debug: a detail", "50% done", "warning: odd", "vidprompt: wrong"]),
        ("ERROR", ["vidprompt: wrong"]),
    ],
)
def test_messages_go_to_stderr_after_their_level(
    level: str, shown: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    configure(level)
    _log()
    out, err = capsys.readouterr()
    assert (out, err.splitlines()) == ("", shown)


def test_child_processes_have_the_level_and_others_than_the_first_say_nothing_but_errors(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    configure("DEBUG")
    configure()
    _log()
    assert "debug: a detail" in capsys.readouterr().err
    monkeypatch.setenv("RANK", "1")
    configure()
    _log()
    assert capsys.readouterr().err == "vidprompt: wrong\n"


def test_warnings_of_python_are_messages(capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        configure()
        warnings.warn("2 texts are cut", stacklevel=1)
        warnings.warn("old", RuntimeWarning, stacklevel=1)
    shown = capsys.readouterr().err.splitlines()
    assert shown == ["warning: 2 texts are cut", "warning: old (RuntimeWarning)"]


def test_an_unknown_level_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LEVEL, "LOUD")
    with pytest.raises(UserError, match=f"{LEVEL}=LOUD: valid: DEBUG, INFO, WARNING, ERROR"):
        configure()


def test_options_may_stand_behind_the_commands_name() -> None:
    assert message_options_first(["train", "a=b", "-v"]) == ["-v", "train", "a=b"]
    assert message_options_first(["-q", "card", "--", "-v"]) == ["-q", "card", "--", "-v"]
    command = [sys.executable, "-m", "vidprompt.cli", "train", "dataset=nope"]
    for option, traceback in (("-q", False), ("-v", True)):
        done = subprocess.run([*command, option], capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.splitlines()[-1].startswith("vidprompt: dataset=nope: ")
        assert ("Traceback" in done.stderr) is traceback
