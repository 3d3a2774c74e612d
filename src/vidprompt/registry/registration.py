"""Registers versions, assigns stages to them, and rolls a stage back."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

from vidprompt.files.atomic import write_text
from vidprompt.provenance.dvc_project import DvcProject
from vidprompt.provenance.git import check_identity, check_repository, find_commit
from vidprompt.provenance.revision import Revision
from vidprompt.registry import git_tags, versions
from vidprompt.registry.checks import GateReport
from vidprompt.registry.declared import find_model
from vidprompt.registry.gates import check_model
from vidprompt.registry.model_files import find_weights
from vidprompt.registry.policy import read_policy
from vidprompt.registry.reproducibility import check_tree
from vidprompt.registry.versions import Version
from vidprompt.system.errors import UserError

logger = logging.getLogger(__name__)

CARDS = Path("cache/cards")


@dataclass(frozen=True)
class Registered:
    """A registration's result; `tags` are those made, none where the version was in the stage already."""

    version: Version
    tags: tuple[str, ...]
    card: Path


def check(name: str, stage: str, version: str = "", project: Path | str = ".") -> GateReport:
    """Make every check and write nothing: of the workspace, or of a registered version's commit."""
    root = Path(project)
    check_repository(root)
    return check_model(name, stage, _revision(root, name, version))


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
) -> Registered:
    """Assign a stage to HEAD's version, which is registered first, or to a registered `version`.

    HEAD is checked as it lies on disk, a `version` by what git and DVC have of its commit. The card is
    written before the tags. UserError for the first of: no git repository, changed files, an undeclared
    name, an unknown stage, no name of a maker for the tags, tags of origin that are not here, an outdated
    pipeline, results of other weights or not of the predictions, weights or backbone that no remote has,
    gates that are not passed.
    """
    from vidprompt.registry.card import card as model_card

    root = Path(project)
    check_repository(root)
    if problem := check_tree(root).problem:
        raise UserError(problem)
    head = find_commit(root, "HEAD")
    if head is None:
        raise UserError(f"{root.absolute()} has no commit: a version is one, so commit first")
    here = Revision(root, head)
    find_model(here, name)
    read_policy(here).check_stage(stage)
    if push:
        git_tags.check_remote(root)
    known = versions.history(root, name)
    chosen = known.get(version) if version else known.at(here.commit)
    if chosen is None:  # not yet registered
        chosen = Version(name, known.next(bump), here.commit, "")
    if stage not in chosen.stages:
        check_identity(root)
    report = check_model(name, stage, _revision(root, name, version), tree=False)
    if report.refusal:
        raise UserError(report.refusal)
    stages = chosen.stages if stage in chosen.stages else (*chosen.stages, stage)
    revision = Revision(root, chosen.commit)
    card = root / CARDS / f"{chosen.selector}.md"
    write_text(card, model_card(name, revision, replace(chosen, stages=stages)))
    message = _tag_message(report, revision)
    tags = []
    if known.at(chosen.commit) is None:
        text = f"{name} {chosen.version}\n\n{message}"
        chosen, tag = versions.register(here, name, chosen.version, text)
        tags.append(tag)
        logger.info(f"{tag}: {name} {chosen.version} is {chosen.commit[:7]}")
    if stage in chosen.stages:
        logger.info(f"{chosen.selector} is in {stage} already")
    else:
        text = f"{chosen.selector} to {stage}\n\n{message}"
        tags.append(versions.assign(chosen, stage, root, text))
        logger.info(f"{tags[-1]}: {chosen.selector} is in {stage}")
    if push and tags:
        git_tags.push(root, tags)
        logger.info(f"pushed to origin: {', '.join(tags)}")
    elif tags:
        logger.info(f"others see it after `{git_tags.push_command(tags)}`")
    logger.info(f"its card: {card}")
    return Registered(chosen, tuple(tags), card)


def _tag_message(report: GateReport, revision: Revision) -> str:
    """The weights' hashes, and a line for each check."""
    model = find_model(revision, report.model)
    with DvcProject(revision) as project:
        weights = find_weights(model, project)
    lines = [
        f"{check.kind} {check.subject}: {check.value} ({check.required})"
        + ("" if check.was_done else ", NOT CHECKED")
        for check in report.checks
    ]
    not_done = sum(not check.was_done for check in report.checks)
    head = f"Passed, and {not_done} not checked:" if not_done else "All passed:"
    return "\n".join([f"{model.path}: md5 {weights.md5}, sha256 {weights.sha256}", head, *lines])


def rollback(
    name: str, stage: str, *, push: bool = False, project: Path | str = "."
) -> tuple[Version | None, Version]:
    """Assign a stage to the version that was in it before; the versions (from, to).

    Its gates were passed and are not checked. A version that was rolled back from is not returned to.
    UserError for an unknown model or stage, and where no version was in it before.
    """
    root = Path(project)
    check_repository(root)
    read_policy(Revision(root)).check_stage(stage)
    if push:
        git_tags.check_remote(root)
    if problem := git_tags.check_tags(root, name).problem:
        raise UserError(problem)
    known = versions.history(root, name)
    if not known.versions:
        versions.resolve(root, f"{name}@{stage}")  # raises with the valid names
    now, before = known.holder(stage), known.before(stage)
    if before is None:
        there = f"{now.selector} is the first in it" if now else "nothing was ever in it"
        raise UserError(f"{name} has nothing to go back to in {stage}: {there}")
    check_identity(root)
    left = now.version if now else "nothing"
    tag = versions.assign(before, stage, root, f"{name} in {stage}: back from {left}")
    logger.info(f"{tag}: {name} in {stage}: {left} → {before.version} ({before.commit[:7]})")
    if push:
        git_tags.push(root, [tag])
        logger.info(f"pushed to origin: {tag}")
    else:
        logger.info(f"others see it after `{git_tags.push_command([tag])}`")
    return now, before
