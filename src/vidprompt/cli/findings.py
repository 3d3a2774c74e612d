"""Print what `doctor` finds, a line a finding."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.markup import escape

from vidprompt.pipeline.doctor import Finding, State

_MARKS = {State.OK: "[green]✓[/]", State.NOTE: "[yellow]![/]", State.MISSING: "[red]✗[/]"}


def print_findings(findings: Iterable[Finding]) -> bool:
    """Print as they come; returns whether nothing is missing."""
    console, ready, last = Console(highlight=False), True, ""
    for finding in findings:
        ready = ready and finding.state is not State.MISSING
        subject = finding.subject if finding.subject != last else ""
        line = f"{_MARKS[finding.state]} {subject:<11} {escape(finding.message)}"
        console.print(line, soft_wrap=True)
        last = finding.subject
    return ready
