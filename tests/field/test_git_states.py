"""Repositories in the states that containers, CI and shared machines leave them in: git's reason is told."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from vidprompt.provenance.git import (
    check_identity,
    check_repository,
    find_commit,
    git,
    read_remote,
    try_git,
)
from vidprompt.provenance.revision import Revision
from vidprompt.registry.versions import Version, assign, history, register
from vidprompt.review.sides import find_sides
from vidprompt.system.errors import UserError
from vidprompt.system.user import no_home, user_variables


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two commits on main, a file that is ignored."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    folder = tmp_path / "it's (a=b) 日本"
    (tmp_path / "home").mkdir()
    folder.mkdir()
    run(folder, "init", "-q", "-b", "main")
    (folder / ".gitignore").write_text("ignored\n")
    (folder / "dvc.yaml").write_text("stages: {}\n")
    for message in ("one", "two"):
        (folder / "file").write_text(message)
        run(folder, "add", ".")
        run(folder, "-c", "user.name=x", "-c", "user.email=x@y", "commit", "-q", "-m", message)
    (folder / "ignored").touch()
    return folder


def run(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", folder, *arguments], check=True, capture_output=True)


def of_another_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")  # git's own way to test it


@pytest.mark.parametrize("language", ["C", "de_DE.UTF-8"])
def test_a_repository_of_another_user_is_named_so(
    language: str, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_another_user(monkeypatch)
    monkeypatch.setenv("LC_ALL", language)
    expected = "detected dubious ownership.*: git config --global --add safe.directory"
    for call in (check_repository, find_sides, lambda root: find_commit(root, "HEAD")):
        with pytest.raises(UserError, match=expected) as error:
            call(repository)
        assert "\n" not in str(error.value)
    monkeypatch.delenv("HOME")
    with pytest.raises(UserError, match="HOME is not set"):
        check_repository(repository)


def test_what_needs_no_git_reads_the_disk(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracked = {".gitignore", "dvc.yaml", "file"}
    assert {*Revision(repository).files} == tracked
    of_another_user(monkeypatch)
    assert {*Revision(repository).files} > tracked
    monkeypatch.setenv("PATH", str(repository))
    assert {*Revision(repository).files} > tracked
    assert Revision(repository).read("file") == b"two"
    with pytest.raises(UserError, match="git is not installed"):
        find_commit(repository, "HEAD")


def test_a_damaged_repository_is_not_called_none(repository: Path, tmp_path: Path) -> None:
    with (repository / ".git/config").open("a") as file:
        file.write("[bad\n")
    with pytest.raises(UserError, match="bad config line"):
        check_repository(repository)
    lost = tmp_path / "lost"
    lost.mkdir()
    (lost / ".git").write_text("gitdir: /nowhere/worktrees/lost\n")
    with pytest.raises(UserError, match="not a git repository: /nowhere"):
        check_repository(lost)
    with pytest.raises(UserError, match=f"{tmp_path}/home is no git repository"):
        check_repository(tmp_path / "home")


def test_unknown_names_are_none_where_git_reads(repository: Path) -> None:
    assert find_commit(repository, "nope") is None
    assert try_git(repository, "show", "HEAD:./nope") is None
    assert try_git(repository, "cat-file", "-e", "HEAD:./nope") is None
    assert try_git(repository, "remote", "get-url", "origin") is None


def test_a_shallow_clone_is_named_so(repository: Path, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    run(tmp_path, "clone", "-q", "--depth", "1", f"file://{repository}", str(clone))
    with pytest.raises(UserError, match="no revision 'HEAD~1' here.*git fetch --unshallow"):
        find_sides(clone, "HEAD~1")
    assert find_sides(clone)[0].commit == find_commit(repository, "main")
    run(clone, "checkout", "-q", "--detach")
    run(clone, "branch", "-D", "main")
    run(clone, "remote", "remove", "origin")
    with pytest.raises(UserError, match="neither origin/main nor main.*git fetch --unshallow"):
        find_sides(clone)


def test_detached_worktrees_and_read_only_repositories_are_read(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worktree = tmp_path / "work tree"
    run(repository, "worktree", "add", "-q", "--detach", str(worktree), "HEAD~1")
    base, head = find_sides(worktree)
    assert head.subject == "one"
    assert base.commit == find_commit(worktree, "HEAD")
    assert not head.changed
    monkeypatch.delenv("HOME")
    os.utime(repository / "file")  # the index would be written anew
    before = {path: path.stat().st_mtime_ns for path in repository.rglob(".git/*")}
    assert not find_sides(repository)[1].changed
    assert {path: path.stat().st_mtime_ns for path in repository.rglob(".git/*")} == before


def test_the_reason_of_a_refused_command_is_whole(repository: Path) -> None:
    with pytest.raises(UserError, match="'nowhere' does not appear to be a git repository"):
        git(repository, "push", "nowhere", "main")
    with pytest.raises(UserError, match="'nowhere' does not appear to be a git repository"):
        read_remote(repository, "ls-remote", "nowhere", timeout_s=30)
    with pytest.raises(UserError, match="Please tell me who you are|unable to auto-detect email"):
        git(repository, "-c", "user.useConfigOnly=true", "commit", "--allow-empty", "-m", "x")


def test_a_tag_names_its_maker(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"):
        monkeypatch.delenv(name, raising=False)
    here = Revision(repository, find_commit(repository, "HEAD") or "")
    with pytest.raises(
        UserError, match=r"who writes the tags \(no (email|name).*user\.email ADDRESS"
    ):
        check_identity(repository)
    monkeypatch.setenv("GIT_COMMITTER_EMAIL", "me@example.org")
    with pytest.raises(UserError, match=r"no name was given"):
        check_identity(repository)
    run(repository, "config", "user.name", "Me")
    run(repository, "config", "tag.gpgSign", "true")  # there is no key
    check_identity(repository)
    monkeypatch.setenv("GIT_COMMITTER_DATE", "2020-01-02T03:04:05Z")
    version, tag = register(here, "model", "v0.1.0", "# first\n\n#2 of 3")
    assert (tag, version.date[:10]) == ("model@v0.1.0", "2020-01-02")
    written = git(repository, "cat-file", "-p", tag)
    assert "tagger Me <me@example.org>" in written
    assert written.endswith("# first\n\n#2 of 3")
    made = [assign(version, stage, repository, "to it") for stage in ("staging", "candidate")]
    assert made == ["model#staging#1", "model#candidate#2"]
    assert history(repository, "model").get("v0.1.0").stages == ("staging", "candidate")


def test_a_tag_that_cannot_be_written(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("NAME", "Me"), ("EMAIL", "me@example.org")):
        monkeypatch.setenv(f"GIT_COMMITTER_{name}", value)
    version = Version("model", "v0.1.0", find_commit(repository, "HEAD") or "", "")
    with pytest.raises(UserError, match=r"'model#a b#1' cannot be a tag of the registry"):
        assign(version, "a b", repository, "to it")
    lock = repository / ".git/refs/tags/model#staging#1.lock"
    lock.parent.mkdir(exist_ok=True)
    lock.touch()
    with pytest.raises(UserError, match=r"Unable to create .*File exists"):
        assign(version, "staging", repository, "to it")


def test_users_whom_the_system_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    assert user_variables() == {}  # of the password file

    def unknown(number: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {number}")

    monkeypatch.setattr("pwd.getpwuid", unknown)
    assert user_variables() == {"USER": str(os.getuid())}
    monkeypatch.setenv("USER", "me")
    assert user_variables() == {}
    monkeypatch.delenv("HOME")
    with pytest.raises(RuntimeError) as error:
        Path.home()
    assert "HOME is not set, and the system has no entry" in str(no_home(error.value))
    assert no_home(RuntimeError("could not determine the size")) is None
