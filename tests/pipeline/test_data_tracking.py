"""What DVC and git keep of data/: the demo in the remote in git, a user's datasets where the user says."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from tests.pipeline.project import ROOT, run

FILES = (
    ".gitignore",
    ".dvcignore",
    ".dvc/config",
    ".dvc/.gitignore",
    "data.dvc",
    "data/.gitignore",
)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The repository's files about data, a small demo that was pushed, and a dataset of the user's."""
    folder = tmp_path / "project"
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    run("git", "init", "-q", folder=folder)
    run("git", "add", ".", folder=folder)
    (folder / "data/demo").mkdir()
    (folder / "data/demo/a.txt").write_text("demo")
    run("dvc", "add", "-q", "data/demo", folder=folder)
    run("dvc", "push", "-q", "data.dvc", folder=folder)
    (folder / "data/ucf101").mkdir()
    (folder / "data/ucf101/v.avi").write_text("licensed")
    return folder


def _stored(project: Path) -> list[str]:
    files = (path for path in (project / ".dvcstore").rglob("*") if path.is_file())
    return sorted(path.read_text() for path in files if path.suffix != ".dir")


def test_the_demo_alone_is_in_the_remote_in_git(project: Path) -> None:
    [out] = yaml.safe_load((project / "data.dvc").read_text())["outs"]
    assert (out["path"], out["remote"], out["nfiles"]) == ("data/demo", "sample", 1)
    run("dvc", "add", "-q", "data/ucf101", folder=project)
    assert "ucf101" not in (project / "data.dvc").read_text()
    assert "no remote specified" in run("dvc", "push", folder=project, fails=True)
    mine = project.parent / "mine"
    run("dvc", "remote", "add", "-q", "--local", "-d", "mine", str(mine), folder=project)
    run("dvc", "push", "-q", folder=project)
    assert _stored(project) == ["demo"]
    assert [path.read_text() for path in mine.rglob("*") if path.is_file()].count("licensed") == 1
    listed = run("git", "ls-files", "-co", "--exclude-standard", "data", folder=project).split()
    assert listed == ["data/.gitignore", "data/ucf101.dvc"]


@pytest.mark.parametrize("linked", [False, True])
def test_the_demo_is_fetched_beside_a_users_dataset(project: Path, linked: bool) -> None:
    if linked:
        (project / "data/ucf101").rename(project.parent / "disk")
        (project / "data/ucf101").symlink_to(project.parent / "disk")
    shutil.rmtree(project / "data/demo")
    shutil.rmtree(project / ".dvc/cache")
    run("dvc", "pull", "-q", "data.dvc", folder=project)
    assert (project / "data/demo/a.txt").read_text() == "demo"
    assert (project / "data/ucf101/v.avi").read_text() == "licensed"
    assert "up to date" in run("dvc", "status", "data.dvc", folder=project)
    listed = run("git", "ls-files", "-o", "--exclude-standard", "data", folder=project)
    assert listed == ""


def test_the_whole_folder_cannot_be_added(project: Path) -> None:
    said = run("dvc", "add", "data", folder=project, fails=True)
    assert "already tracked by SCM" in said
    assert "path: data/demo" in (project / "data.dvc").read_text()
