"""The result of a check of a model, all checks for a stage, and their tables."""

from __future__ import annotations

from dataclasses import dataclass

from vidprompt.reporting.markdown import table

GATES = ("validation", "broken", "coverage", "minimum", "not_worse")  # of params/registry.yaml
TITLES = {
    "tree": "Tree",
    "pipeline": "Pipeline",
    "links": "Links",
    "tags": "Tags",
    "weights": "Weights of",
    "recomputed": "Recomputed",
    "remote": "Remote has",
    "validation": "Validation",
    "broken": "Broken videos",
    "coverage": "Coverage",
    "minimum": "Minimum",
    "not_worse": "Not worse",
    "gates": "Gates",
}
HEADS = ("Check", "Found", "Required", "")


@dataclass(frozen=True)
class Check:
    """One check of a model.

    `kind` is a key of TITLES, `subject` what was checked, `value` and `required` cells of a table. `problem`:
    what is wrong and what to do; empty where it passed. Without `was_done` it could not be made, which is
    shown and no reason to refuse.
    """

    kind: str
    subject: str
    value: str
    required: str
    problem: str = ""
    was_done: bool = True

    @property
    def passed(self) -> bool:
        return not self.problem


@dataclass(frozen=True)
class GateReport:
    """All checks of a model for a stage, at a `revision` (a short commit, or `the workspace`)."""

    model: str
    stage: str
    revision: str
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    @property
    def problems(self) -> tuple[str, ...]:
        """A sentence for each check that failed."""
        return tuple(check.problem for check in self.checks if check.problem)

    @property
    def refusal(self) -> str:
        """Why the stage is refused: the first failure that is no gate, else all failed gates."""
        first = [c.problem for c in self.checks if c.problem and c.kind not in GATES]
        if first:
            return first[0]
        if self.passed:
            return ""
        return f"{self.model} does not pass the gates of {self.stage}: {'; '.join(self.problems)}"


def table_rows(report: GateReport) -> list[tuple[str, str, str, str]]:
    """A row a check, under HEADS."""
    return [
        (
            f"{TITLES[check.kind]} {check.subject}",
            check.value,
            check.required,
            "FAILED" if check.problem else "passed" if check.was_done else "not checked",
        )
        for check in report.checks
    ]


def markdown(report: GateReport) -> str:
    """A Markdown table, and below it a sentence for each failure."""
    rows = [[cell.replace("|", "\\|") for cell in row] for row in table_rows(report)]
    problems = (f"\n- {problem}" for problem in report.problems)
    return "\n".join([*table(HEADS, rows, "l" * len(HEADS)), *problems])
