"""How a revision differs from its dvc.lock: differences by stage, and findings as a review shows them."""

from __future__ import annotations

from dataclasses import dataclass

from vidprompt.reporting.markdown import count_of, first_of, single_line

MOST_SUBJECT, MOST_SENTENCE = 200, 600  # characters


@dataclass(frozen=True, order=True)
class Finding:
    """Something wrong: the file or stage, and a sentence with what to do.

    Both may hold text of files under review: they are cut to one line of printable characters, which is
    not yet Markdown (`markdown.sentence` makes it that).
    """

    subject: str
    sentence: str

    def __post_init__(self) -> None:
        for name, most in (("subject", MOST_SUBJECT), ("sentence", MOST_SENTENCE)):
            object.__setattr__(self, name, single_line(getattr(self, name), most))


@dataclass(frozen=True)
class Difference:
    """One way in which a stage is not as dvc.lock records it.

    `what`: a path or a few words. `problem`: a sentence, or with `is_input` its beginning, which `findings`
    completes with the stages that read `subject`. `subject`: a file; empty for the stage itself.
    """

    stage: str
    what: str
    problem: str
    subject: str = ""
    is_input: bool = False
    remedy: str = ""


@dataclass(frozen=True)
class LockReport:
    """The check of some stages.

    `links`: how many dependencies are outputs of others; `unlinked` of them could not be compared, since no
    store has a folder's listing. `absent`: how many outputs are neither on disk nor in the cache. `others`:
    findings of no stage.
    """

    differences: tuple[Difference, ...] = ()
    stages: int = 0
    links: int = 0
    unlinked: int = 0
    absent: int = 0
    others: tuple[Finding, ...] = ()

    @property
    def outdated(self) -> tuple[str, ...]:
        """Each stage that differs with the first of what does: `train (src/a.py, src/b.py and 2 more)`."""
        by_stage: dict[str, list[str]] = {}
        for one in self.differences:
            whats = by_stage.setdefault(one.stage, [])
            if one.what not in whats:
                whats.append(one.what)
        return tuple(f"{stage} ({first_of(whats, 2)})" for stage, whats in sorted(by_stage.items()))

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The differences and `others`, sorted; what stages have in common is one finding."""
        groups: dict[tuple[str, str, bool, str], list[str]] = {}
        for one in self.differences:
            key = one.subject, one.problem, one.is_input, one.remedy
            groups.setdefault(key, []).append(one.stage)
        found = {_finding(*key, stages) for key, stages in groups.items()}
        return tuple(sorted({*found, *self.others}))


def _finding(subject: str, problem: str, is_input: bool, remedy: str, stages: list[str]) -> Finding:
    kinds = ", ".join(sorted({stage.partition("@")[0] for stage in stages}))
    count = count_of(len(stages), "stage")
    end = f": {remedy}" if remedy else ""
    if is_input:
        return Finding(subject, f"{problem} since {count} ran ({kinds}){end}")
    if subject or len(stages) == 1:
        return Finding(subject or stages[0], problem + end)
    return Finding("dvc.yaml", f"{problem}, of {count} ({kinds}){end}")
