"""Errors as one line."""

from __future__ import annotations

import pytest

from vidprompt.system.errors import UserError, first_line, named_first_line


@pytest.mark.parametrize(
    ("error", "line", "named"),
    [
        (ValueError("\n  two\nlines"), "two", "ValueError: two"),
        (EOFError(), "EOFError", "EOFError"),  # as of an empty file
        (UserError(" \n"), "UserError", "UserError"),
    ],
)
def test_the_first_line_of_an_error(error: Exception, line: str, named: str) -> None:
    assert first_line(error) == line
    assert named_first_line(error) == named
