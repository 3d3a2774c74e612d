"""What was looked at before a model may have a stage, and how it is shown."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

GATES = ("validation", "broken", "coverage", "minimum", "not_worse")  # what results must reach
TITLES = {
    "tree": "Tree",
    "pipeline": "Pipeline",
    "links": "Links",
    "tags": "Tags",
    "weights": "Weights of",
    "recount": "Recount",
    "remote": "Remote has",
    "validation": "Validation",
    "broken": "Broken videos",
    "coverage": "Coverage",
    "minimum": "Minimum",
    "not_worse": "Not worse",
    "gates": "Gates",
}


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    `kind`: one of TITLES. `about`: of what. `found` and `wanted` are what a table shows. `problem` says
    what is wrong and what to do; empty where it passed. Not `done`: it could not be looked at, which is
    shown and no reason to refuse.
    """

    kind: str
    about: str
    found: str
    wanted: str
    problem: str = ""
    done: bool = True

    @property
    def passed(self) -> bool:
        return not self.problem


@dataclass(frozen=True)
class Verdict:
    """All checks of one model for one stage. `revision` is a short commit, or `the workspace`."""

    model: str
    stage: str
    revision: str
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    @property
    def problems(self) -> tuple[str, ...]:
        """A sentence a check that failed."""
        return tuple(check.problem for check in self.checks if check.problem)

    @property
    def refusal(self) -> str:
        """Why it is refused: the first thing that must be mended before the gates count, or all gates."""
        first = [c.problem for c in self.checks if c.problem and c.kind not in GATES]
        if first:
            return first[0]
        if self.passed:
            return ""
        return f"{self.model} does not pass the gates of {self.stage}: {'; '.join(self.problems)}"

    def as_dict(self) -> dict[str, Any]:
        """For JSON: its own fields, `passed` beside them."""
        return asdict(self) | {
            "passed": self.passed,
            "checks": [asdict(check) | {"passed": check.passed} for check in self.checks],
        }


def rows(verdict: Verdict) -> list[tuple[str, str, str, str]]:
    """Check, found, wanted, outcome: a row a check."""
    return [
        (
            f"{TITLES[check.kind]} {check.about}",
            check.found,
            check.wanted,
            "FAILED" if check.problem else "passed" if check.done else "not checked",
        )
        for check in verdict.checks
    ]


HEADS = ("Check", "Found", "Asked for", "")


def markdown(verdict: Verdict) -> str:
    """A table, and below it a sentence a failure."""
    lines = [HEADS, ("---",) * len(HEADS), *rows(verdict)]
    table = "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
    )
    return "\n".join([table, *(f"\n- {problem}" for problem in verdict.problems)])
