"""What DVC and git keep of data/: the demo in the remote in git, a user's datasets where the user says."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from tests.pipeline.project import ROOT, run

from vidprompt.registry.in_git_store import check_store
from vidprompt.system.errors import DataError, UserError

FILES = (
    ".gitignore",
    ".dvcignore",
    ".dvc/config",
    ".dvc/.gitignore",
    "data.dvc",
    "data/.gitignore",
)


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pushed") / "project"
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


@pytest.fixture
def project(pushed: Path, tmp_path: Path) -> Path:
    """The repository's files about data, a small demo that was pushed, and a dataset of the user's."""
    return Path(shutil.copytree(pushed, tmp_path / "project"))


def _stored(project: Path) -> list[str]:
    files = (path for path in (project / ".dvcstore").rglob("*") if path.is_file())
    return sorted(path.read_text("utf-8") for path in files if path.suffix != ".dir")


def test_the_demo_alone_is_in_the_remote_in_git(project: Path) -> None:
    [out] = yaml.safe_load((project / "data.dvc").read_text("utf-8"))["outs"]
    assert (out["path"], out["remote"], out["nfiles"]) == ("data/demo", "sample", 1)
    run("dvc", "add", "-q", "data/ucf101", folder=project)
    assert "ucf101" not in (project / "data.dvc").read_text("utf-8")
    assert "no remote specified" in run("dvc", "push", folder=project, fails=True)
    mine = project.parent / "mine"
    run("dvc", "remote", "add", "-q", "--local", "-d", "mine", str(mine), folder=project)
    run("dvc", "push", "-q", folder=project)
    assert _stored(project) == ["demo"]
    assert [path.read_text("utf-8") for path in mine.rglob("*") if path.is_file()].count(
        "licensed"
    ) == 1
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
    assert (project / "data/demo/a.txt").read_text("utf-8") == "demo"
    assert (project / "data/ucf101/v.avi").read_text("utf-8") == "licensed"
    assert "up to date" in run("dvc", "status", "data.dvc", folder=project)
    listed = run("git", "ls-files", "-o", "--exclude-standard", "data", folder=project)
    assert listed == ""


def test_the_whole_folder_cannot_be_added(project: Path) -> None:
    said = run("dvc", "add", "data", folder=project, fails=True)
    assert "already tracked by SCM" in said
    assert "path: data/demo" in (project / "data.dvc").read_text("utf-8")


PIPELINE = """stages:
  frames:
    cmd: mkdir -p cache/frames/ucf101 && cp data/ucf101/v.avi cache/frames/ucf101/shard.tar
    deps: [data/ucf101]
    outs: [cache/frames/ucf101]
  train:
    cmd: mkdir -p models/demo/m/run && cp data/demo/a.txt models/demo/m/run/model.safetensors &&
      date +%N >> models/demo/m/run/model.safetensors
    deps: [data/demo]
    outs: [models/demo/m/run/model.safetensors]
artifacts:
  m-demo: {path: models/demo/m/run/model.safetensors, type: model}
  m-ucf: {path: cache/frames/ucf101, type: model}
"""


@pytest.fixture(scope="module")
def reproduced(pushed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(shutil.copytree(pushed, tmp_path_factory.mktemp("reproduced") / "project"))
    (folder / "dvc.yaml").write_text(PIPELINE)
    run("dvc", "add", "-q", "data/ucf101", folder=folder)
    run("dvc", "repro", "-q", folder=folder)
    return folder


@pytest.fixture
def pipeline(reproduced: Path, tmp_path: Path) -> Path:
    """The project with frames of the user's dataset, and a declared model of the demo's."""
    return Path(shutil.copytree(reproduced, tmp_path / "project"))


def _objects(project: Path) -> list[str]:
    return sorted(p.name for p in (project / ".dvcstore").rglob("*") if p.is_file())


def test_a_push_of_everything_into_git_is_found_and_undone(pipeline: Path) -> None:
    before = _objects(pipeline)
    assert "the demo in 2 files" in run("vidprompt", "check-store", folder=pipeline)
    run("dvc", "push", "-q", "-r", "sample", "--run-cache", folder=pipeline)
    assert "licensed" in _stored(pipeline)
    said = run("vidprompt", "check-store", folder=pipeline, fails=True)
    for path in ("data/ucf101", "cache/frames/ucf101", "`vidprompt check-store --remove`"):
        assert path in said
    assert "Traceback" not in said
    assert "m-demo" not in said  # a declared model of the demo's may be there
    said = run("vidprompt", "check-store", "--remove", folder=pipeline)
    assert "deleted data/ucf101/v.avi as files/md5/" in said
    assert "the demo in 3 files" in said
    weights = (pipeline / "models/demo/m/run/model.safetensors").read_text("utf-8")
    assert sorted([*_stored(pipeline)]) == sorted(["demo", weights])
    assert set(_objects(pipeline)) > set(before)
    shutil.rmtree(pipeline / ".dvc/cache")
    shutil.rmtree(pipeline / "data/demo")
    run("dvc", "pull", "-q", "data.dvc", folder=pipeline)


def test_weights_of_a_version_stay_and_others_go(pipeline: Path) -> None:
    def git(*words: str) -> None:
        run("git", "-c", "user.name=a", "-c", "user.email=a@b", *words, folder=pipeline)

    weights = "models/demo/m/run/model.safetensors"
    run("dvc", "push", "-q", "-r", "sample", weights, folder=pipeline)
    git("add", ".")
    git("commit", "-q", "-m", "first")
    git("tag", "-a", "m-demo@v0.1.0", "-m", "a version")
    run("dvc", "repro", "-q", "-f", "-s", "train", folder=pipeline)
    assert "the demo in 3 files" in check_store(pipeline)
    git("tag", "-d", "m-demo@v0.1.0")
    with pytest.raises(UserError, match=r"holds 1 file .* not of the demo"):
        check_store(pipeline)


def test_the_store_is_nobodys_default(project: Path) -> None:
    run("dvc", "remote", "default", "-q", "sample", folder=project)
    with pytest.raises(UserError, match="`dvc remote default --unset`"):
        check_store(project)


def test_a_demo_that_is_not_whole_is_told_from_one_with_more(project: Path) -> None:
    listing, file = sorted((project / ".dvcstore").rglob("*"), key=lambda p: -len(p.name))[:2]
    assert listing.suffix == ".dir"
    file.chmod(0o644)
    file.write_text("damaged")
    with pytest.raises(UserError, match=r"other bytes than its names say for data/demo/a\.txt"):
        check_store(project)
    file.unlink()
    with pytest.raises(DataError, match=r"lacks 1 file of the demo \(data/demo/a\.txt\)"):
        check_store(project)
    listing.unlink()  # nothing can be told from the demo then: nothing may be deleted
    (file.parent / "other").write_text("kept")
    said = run("vidprompt", "check-store", "--remove", folder=project, fails=True)
    assert "`dvc push data.dvc`" in said
    assert (file.parent / "other").exists()


def test_the_store_is_small(project: Path) -> None:
    (project / "data/demo/b.bin").write_bytes(bytes(20_000_000))
    run("dvc", "add", "-q", "data/demo", folder=project)
    run("dvc", "push", "-q", "data.dvc", folder=project)
    run("vidprompt", "check-store", "--remove", folder=project, fails=True)  # the old listing goes
    with pytest.raises(UserError, match="bytes of at most 20,000,000"):
        check_store(project)
    assert "the demo in 3 files" in check_store(project, limit=20_100_000)


def test_this_repository_publishes_the_demo_alone() -> None:
    assert "the demo in" in check_store(ROOT)
