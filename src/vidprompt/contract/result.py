"""What a check of the contract found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["passed", "FAILED", "not applicable"]


class ContractFailure(Exception):
    """What a method does not hold, and what to look at."""


class NotApplicable(Exception):
    """Why a check says nothing about a method."""


@dataclass(frozen=True)
class CheckResult:
    """One check: its name, how it ended, and a sentence ("" where nothing is to be said)."""

    name: str
    status: Status
    reason: str = ""

    @property
    def failed(self) -> bool:
        return self.status == "FAILED"

    @property
    def line(self) -> str:
        """`FAILED  gradients: …`."""
        return f"{self.status:<14}  {self.name}{f': {self.reason}' if self.reason else ''}"
