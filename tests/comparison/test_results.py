"""A result is found on disk, beside another checkout, and in a git revision through DVC."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.metrics.results_on_disk import labelled, write_recognition
from tests.pipeline.project import run
from typer.testing import CliRunner

from vidprompt.cli.main import app
from vidprompt.comparison.results import find_result, parse_address, without_revision
from vidprompt.system.errors import DataError, UserError

NAME = "d/a/supervised"
ONE = ("supervised_split1", "test")
PREDICTIONS = f"cache/predictions/{NAME}.parquet"
STAGES = f"stages:\n  evaluate:\n    cmd: echo\n    outs: [{PREDICTIONS}]\n"


@pytest.mark.parametrize(
    ("text", "root", "revision"),
    [
        ("d/a/supervised", ".", ""),
        ("d/a/supervised@HEAD~1", ".", "HEAD~1"),
        ("d/a/supervised@HEAD@{1}", ".", "HEAD@{1}"),
        ("d/a/supervised@origin/some/branch", ".", "origin/some/branch"),
        ("results/d/a/supervised/", ".", ""),
        ("./results/d/a/supervised@v1", ".", "v1"),
        ("/x@y/results/old/results/d/a/supervised/metrics.json", "/x@y/results/old", ""),
    ],
)
def test_addresses(text: str, root: str, revision: str) -> None:
    address = parse_address(text)
    assert (address.root, address.revision) == (Path(root), revision)
    assert str(address.metrics) == "results/d/a/supervised/metrics.json"
    assert str(address.predictions) == PREDICTIONS


def test_what_names_no_result() -> None:
    for text in ("d/a", "supervised@main", "/results/a/b", "d/a/supervised@"):
        with pytest.raises(UserError, match="names no result"):
            parse_address(text)
    assert without_revision("d/a/supervised@HEAD~1") == "d/a/supervised"
    with pytest.raises(UserError, match="with what"):
        without_revision("d/a/supervised")


def test_on_disk(tmp_path: Path) -> None:
    folder = write_recognition(tmp_path, NAME, {ONE: labelled(6, [1])})
    result = find_result(str(folder))
    assert result.videos is not None
    assert list(result.videos["top1"]) == [1, 0, 1, 1, 1, 1]
    assert list(result.videos["top5"]) == [1] * 6
    assert set(result.videos["classes"]) == {6}
    with pytest.raises(UserError, match="did you mean d/a/supervised?"):
        find_result(f"{tmp_path}/results/d/a/supervize")
    (tmp_path / PREDICTIONS).write_bytes(b"no parquet")
    with pytest.raises(DataError, match="holds no predictions of supervised"):
        find_result(str(folder))
    (folder / "metrics.json").write_text("<<<<<<< HEAD")
    with pytest.raises(DataError, match=r"metrics.json cannot be read"):
        find_result(str(folder))


def test_metrics_and_predictions_of_two_evaluations(tmp_path: Path) -> None:
    """What `git checkout` without `dvc checkout` leaves."""
    other = write_recognition(tmp_path / "other", NAME, {ONE: labelled(6, [1])})
    folder = write_recognition(tmp_path, NAME, {ONE: labelled(6, [1, 2])})
    shutil.copy(other / "metrics.json", folder)
    with pytest.raises(DataError, match=r"of two evaluations .* `dvc checkout`"):
        find_result(str(folder))


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose result improved from `old` to now, both kept in DVC's cache."""
    root = tmp_path_factory.mktemp("history")
    git = ("git", "-c", "user.name=t", "-c", "user.email=t@example.org")
    run("git", "init", "-q", folder=root)
    run("dvc", "init", "-q", folder=root)
    (root / "dvc.yaml").write_text(STAGES)
    (root / ".gitignore").write_text("/cache/\n")
    for wrong, tag in ((range(30), "old"), (range(4), "new")):
        write_recognition(root, NAME, {ONE: labelled(60, wrong)})
        run("dvc", "commit", "-q", "-f", folder=root)
        run("git", "add", ".", folder=root)
        run(*git, "commit", "-q", "-m", tag, folder=root)
        run("git", "tag", tag, folder=root)
    return root


@pytest.fixture
def project(history: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "project"
    shutil.copytree(history, root)
    monkeypatch.chdir(root)
    return root


def test_a_result_of_a_revision(project: Path) -> None:
    (project / PREDICTIONS).unlink()  # they come from the cache, by the revision's dvc.lock
    old, new = find_result(f"{NAME}@old"), find_result(f"{project}/results/{NAME}@HEAD")
    assert old.videos is not None
    assert new.videos is not None
    assert (old.videos["top1"].sum(), new.videos["top1"].sum()) == (30, 56)
    assert old.commit == run("git", "rev-parse", "HEAD~1", folder=project).strip()
    with pytest.raises(UserError, match="no revision 'nowhere'"):
        find_result(f"{NAME}@nowhere")
    with pytest.raises(UserError, match="has no results/d/b/supervised/metrics.json"):
        find_result("d/b/supervised@old")


def test_a_revision_outside_git(tmp_path: Path) -> None:
    folder = write_recognition(tmp_path, NAME, {ONE: labelled(6, [1])})
    with pytest.raises(UserError, match=f"{tmp_path} is no git repository"):
        find_result(f"{folder}@HEAD")


def test_predictions_in_a_remote_that_is_nobodys_default(project: Path, tmp_path: Path) -> None:
    remote = f"['remote \"sample\"']\n    url = {tmp_path}/store\n"
    (project / ".dvc/config.local").write_text(remote)
    run("git", "checkout", "-q", "old", folder=project)
    run("dvc", "push", "-q", "-r", "sample", folder=project)
    run("git", "checkout", "-q", "new", folder=project)
    shutil.rmtree(project / ".dvc/cache")
    old = find_result(f"{NAME}@old")
    assert old.videos is not None
    assert old.videos["top1"].sum() == 30


def test_the_command(project: Path) -> None:
    files = ["--json", "a.json", "--changed", "a.csv", "--show", "2"]
    shown = CliRunner().invoke(app, ["compare", f"{NAME}@HEAD~1", NAME, *files])
    assert shown.exit_code == 0, shown.output
    assert "supervised top-1 60 50.0 93.3 +43.3" in " ".join(shown.output.split())
    assert "better" in shown.output
    assert (project / "a.json").is_file()
    assert len((project / "a.csv").read_text("utf-8").splitlines()) == 1 + 26
    alone = CliRunner().invoke(app, ["compare", f"{NAME}@HEAD~1", "--markdown"])
    assert "| supervised top-1 | 60 | 50.0 | 93.3 | +43.3 |" in alone.output


def test_predictions_that_are_nowhere_leave_the_unpaired_difference(project: Path) -> None:
    shutil.rmtree(project / ".dvc/cache")
    (project / ".dvc/config").write_text("['remote \"far\"']\n    url = gdrive://nobody/x\n")
    shown = CliRunner().invoke(app, ["compare", f"{NAME}@old", NAME])
    assert shown.exit_code == 0, shown.output
    words = " ".join(shown.output.split())
    assert "50.0 40.0 to 60.0 93.3 83.3 to 100.0 +43.3" in words
    assert f"predictions of {NAME}@old are neither in DVC's cache nor in a remote that" in words
    assert "(far: " in words
    assert "Unpaired" in words
