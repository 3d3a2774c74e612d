"""Registering a version, giving it a stage, and going back."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from vidprompt.files.atomic import write_text
from vidprompt.provenance.dvc_project import DvcProject
from vidprompt.provenance.revision import Revision, check_repository, head
from vidprompt.registry import git_tags as origin
from vidprompt.registry import versions
from vidprompt.registry.checks import Verdict
from vidprompt.registry.declared import find_model
from vidprompt.registry.policy import read_policy
from vidprompt.registry.verdict import check_tree, judge
from vidprompt.registry.versions import Version
from vidprompt.registry.weights import find_weights
from vidprompt.system.errors import UserError

logger = logging.getLogger(__name__)

CARDS = Path("cache/cards")
Say = Callable[[str], object]


@dataclass(frozen=True)
class Registered:
    """What came of it; `tags` that were made, none where all was so before."""

    version: Version
    stage: str
    tags: tuple[str, ...]
    card: Path


def examine(name: str, stage: str, version: str = "", project: Path | str = ".") -> Verdict:
    """Every check and nothing written: of the workspace, or of a registered version's commit."""
    root = Path(project)
    check_repository(root)
    return judge(name, stage, _revision(root, name, version))


def _revision(root: Path, name: str, version: str) -> Revision:
    if not version:
        return Revision(root)
    return Revision(root, versions.history(root, name).get(version).commit)


def register(
    name: str,
    stage: str,
    *,
    version: str = "",
    bump: str = "minor",
    push: bool = False,
    project: Path | str = ".",
    say: Say = logger.info,
) -> Registered:
    """Give a stage to HEAD's version, which is made where there is none, or to a `version` there is.

    HEAD is judged as it lies on disk; a `version` by what git and DVC have of its commit. The card is
    written before the tags. UserError with the first thing that is in the way, in this order: no git
    repository, changed files, an undeclared name, an unknown stage, tags of origin's that are not here,
    an outdated pipeline, results that are not of the weights or not of the predictions, weights or
    backbone that are not in a remote, gates that are not passed.
    """
    root = Path(project)
    check_repository(root)
    if problem := check_tree(root).problem:
        raise UserError(problem)
    here = head(root)
    find_model(here, name)
    read_policy(here).check_stage(stage)
    if push:
        origin.check_remote(root)
    known = versions.history(root, name)
    chosen = known.get(version) if version else known.at(here.commit)
    number = chosen.version if chosen else known.next(bump)
    verdict = judge(name, stage, _revision(root, name, version), tree=False)
    if verdict.refusal:
        raise UserError(verdict.refusal)
    tags = []
    if chosen is None:
        chosen = Version(name, number, here.commit, "")
    soon = chosen.stages if stage in chosen.stages else (*chosen.stages, stage)
    card = write_card(replace(chosen, stages=soon), root)
    facts = _facts(verdict, Revision(root, chosen.commit))
    if known.at(chosen.commit) is None:
        about = f"{name} {number}\n\n{facts}"
        chosen, tag = versions.register(here, name, number, about)
        tags.append(tag)
        say(f"{tag}: {name} {number} is {chosen.commit[:7]}")
    if stage in chosen.stages:
        say(f"{chosen.shown} is in {stage} already")
    else:
        about = f"{chosen.shown} to {stage}\n\n{facts}"
        tags.append(versions.assign(chosen, stage, root, about))
        say(f"{tags[-1]}: {chosen.shown} is in {stage}")
    if push and tags:
        origin.push(root, tags)
        say(f"pushed to origin: {', '.join(tags)}")
    elif tags:
        say(f"others see it after `git push --atomic origin {' '.join(tags)}`")
    say(f"its card: {card}")
    return Registered(chosen, stage, tuple(tags), card)


def write_card(version: Version, root: Path) -> Path:
    """The card of a version, into cache/cards; its path."""
    from vidprompt.registry.card import card

    file = root / CARDS / f"{version.shown}.md"
    write_text(file, card(version.name, Revision(root, version.commit), version))
    return file


def _facts(verdict: Verdict, revision: Revision) -> str:
    """A tag's message: the weights, and what was found, a line a check."""
    model = find_model(revision, verdict.model)
    with DvcProject(revision) as project:
        weights = find_weights(model, project)
    lines = [
        f"{check.kind} {check.about}: {check.found} ({check.wanted})"
        + ("" if check.done else ", NOT CHECKED")
        for check in verdict.checks
    ]
    unseen = sum(not check.done for check in verdict.checks)
    head = f"Passed, and {unseen} not checked:" if unseen else "All passed:"
    return "\n".join([f"{model.path}: md5 {weights.md5}, sha256 {weights.sha256}", head, *lines])


def rollback(
    name: str, stage: str, *, push: bool = False, project: Path | str = ".", say: Say = logger.info
) -> tuple[Version | None, Version]:
    """Give a stage back to the version that was in it before; (from, to).

    No gates: it passed them. A version that was rolled back from is not returned to. UserError
    where there is no such model or stage, or none before.
    """
    root = Path(project)
    check_repository(root)
    read_policy(Revision(root)).check_stage(stage)
    if push:
        origin.check_remote(root)
    known = versions.histories(root)
    if problem := origin.check_tags(root, name).problem:
        raise UserError(problem)
    if name not in known:
        versions.resolve(root, f"{name}@{stage}")  # says what there is
    now, before = known[name].holder(stage), known[name].before(stage)
    if before is None:
        there = f"{now.shown} is the first in it" if now else "nothing was ever in it"
        raise UserError(f"{name} has nothing to go back to in {stage}: {there}")
    left = now.version if now else "nothing"
    tag = versions.assign(before, stage, root, f"{name} in {stage}: back from {left}")
    say(f"{tag}: {name} in {stage}: {left} → {before.version} ({before.commit[:7]})")
    if push:
        origin.push(root, [tag])
        say(f"pushed to origin: {tag}")
    else:
        say(f"others see it after `git push origin {tag}`")
    return now, before
