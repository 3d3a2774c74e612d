"""What GTO's tags say, in the order of their numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.pipeline.project import run

from vidprompt.registry.versions import History, histories, history
from vidprompt.system.errors import UserError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Four commits of one second, and a model's first three versions."""
    run("git", "init", "-q", folder=tmp_path)
    for key, value in (("user.name", "t"), ("user.email", "t@example.org")):
        run("git", "config", key, value, folder=tmp_path)
    for number in range(4):
        run("git", "commit", "-q", "--allow-empty", "-m", str(number), folder=tmp_path)
    for number, version in ((3, "v0.1.0"), (2, "v0.9.0"), (1, "v0.10.0")):
        tag(tmp_path, f"m@{version}", f"HEAD~{number}")
    return tmp_path


def tag(root: Path, name: str, commit: str) -> None:
    run("git", "tag", "-a", "-m", name, name, commit, folder=root)


def give(root: Path, number: int, version: str, *, stage: str = "prod", cancel: str = "") -> None:
    tag(root, f"m#{stage}{cancel}#{number}", f"m@{version}^{{commit}}")


def stage(root: Path) -> tuple[str, str]:
    """Who is in the stage, and who was before."""
    known = history(root, "m")
    holder, before = known.holder("prod"), known.before("prod")
    return holder.version if holder else "", before.version if before else ""


def test_newest_first_by_number_not_by_letters(root: Path) -> None:
    run("git", "tag", "m@v7.0.0", folder=root)  # a light tag is none of GTO's
    run("git", "tag", "-a", "-m", "x", "release-1", folder=root)
    tag(root, "other/model@v1.0.0", "HEAD")
    assert list(histories(root)) == ["m", "other/model"]
    known = history(root, "m")
    assert [one.version for one in known.versions] == ["v0.10.0", "v0.9.0", "v0.1.0"]
    assert [known.next(bump) for bump in ("major", "minor", "patch")] == [
        "v1.0.0",
        "v0.11.0",
        "v0.10.1",
    ]
    assert History("n", (), {}).next("minor") == "v0.1.0"
    with pytest.raises(UserError, match="bumped by 'big': valid: major, minor, patch"):
        known.next("big")


def test_a_stage_is_whose_number_is_the_highest(root: Path) -> None:
    assert stage(root) == ("", "")
    for number, version in ((9, "v0.1.0"), (10, "v0.9.0"), (11, "v0.10.0")):
        give(root, number, version)  # within a second, and #9 is the last by letters
    assert stage(root) == ("v0.10.0", "v0.9.0")
    give(root, 12, "v0.9.0")  # rolled back
    assert stage(root) == ("v0.9.0", "v0.1.0")
    give(root, 13, "v0.10.0")
    assert stage(root) == ("v0.10.0", "v0.9.0")


def test_stages_that_were_taken_and_versions_that_were_withdrawn(root: Path) -> None:
    for number, version in enumerate(("v0.1.0", "v0.9.0", "v0.10.0"), 1):
        give(root, number, version)
    give(root, 4, "v0.10.0", cancel="!")
    assert stage(root) == ("v0.9.0", "v0.1.0")
    tag(root, "m@v0.1.0!", "HEAD~3")
    assert stage(root) == ("v0.9.0", "")
    assert [one.version for one in history(root, "m").versions] == ["v0.10.0", "v0.9.0"]
    give(root, 5, "v0.9.0", cancel="!")
    assert stage(root) == ("", "")
    tag(root, "m@v0.10.0!", "HEAD~1")
    assert history(root, "m").next("minor") == "v0.11.0"  # no number twice
