"""`vidprompt init`: a project's files in an empty folder, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import vidprompt
from vidprompt.pipeline.matrix import read_pipeline, stale
from vidprompt.project import create
from vidprompt.project.code_link import renew_code_link
from vidprompt.project.create import create_project
from vidprompt.project.skeleton import skeleton
from vidprompt.provenance.project_record import RECORD, Record, read_record
from vidprompt.system.errors import UserError

PACKAGE = Path(vidprompt.__file__).resolve().parent


def test_a_project_has_every_file_and_the_code_of_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "new" / "my clips"
    create_project(folder, demo=False)
    assert all((folder / path).is_file() for path in skeleton("my clips"))
    assert read_record(folder).name == "my clips"
    assert (folder / "src/vidprompt").resolve() == PACKAGE
    monkeypatch.chdir(folder)
    assert read_pipeline()["active"] == []
    assert stale() == []
    git = ["git", "status", "--porcelain", "--untracked-files=all"]
    shown = subprocess.run(git, check=True, capture_output=True, text=True).stdout
    assert " .vidprompt.json\n" in shown
    assert "src/" not in shown
    assert sorted(p.name for p in folder.iterdir() if p.name.startswith(".")) == [
        ".dvc", ".dvcignore", ".git", ".github", ".gitignore", RECORD,
    ]  # fmt: skip


def test_the_link_follows_the_running_package(tmp_path: Path) -> None:
    link = tmp_path / "src/vidprompt"
    assert not renew_code_link(tmp_path)  # no project
    assert not link.exists()
    (tmp_path / RECORD).write_text("{}", "utf-8")
    assert renew_code_link(tmp_path)
    assert not renew_code_link(tmp_path)
    link.unlink()
    link.symlink_to(tmp_path / "gone")  # an environment that was removed
    assert renew_code_link(tmp_path)
    assert link.resolve() == PACKAGE
    link.unlink()
    link.mkdir()  # sources of its own: the package's repository
    assert not renew_code_link(tmp_path)
    assert link.is_dir()
    assert not link.is_symlink()


def test_a_folder_that_git_or_python_made_is_empty_enough(tmp_path: Path) -> None:
    for name in (".git", ".venv"):
        (tmp_path / name).mkdir()
    assert create._checked(tmp_path) == tmp_path


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("full", r"full is not empty \(it has notes.txt\)"),
        ("file", "file is a file: choose another name"),
        ("file/below", "is a file, no folder"),
        ("x" * 300, "File name too long"),
        ("", "no name of a folder"),
        ("a\nb", "no name of a folder"),
        ("a\0b", "no name of a folder"),
        ("/", "not empty"),
    ],
)
def test_what_is_no_empty_folder_is_refused_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/notes.txt").write_text("mine", "utf-8")
    (tmp_path / "file").write_text("mine", "utf-8")
    with pytest.raises(UserError, match=says):
        create_project(name, demo=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "full"]


def test_without_the_demo_s_data_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(create, "CHECKOUT", tmp_path)
    monkeypatch.setattr(create, "DEMO_PACKAGE", "no_such_package")
    with pytest.raises(UserError, match=r"pip install 'vidprompt\[demo\]'"):
        create_project(tmp_path / "new", demo=True)
    assert not (tmp_path / "new").exists()


def test_a_failure_leaves_the_folder_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(names: list[str]) -> None:
        raise RuntimeError("stopped")

    monkeypatch.setattr(create.matrix, "activate", fail)
    (tmp_path / "there").mkdir()
    (tmp_path / "there/.git").mkdir()
    for name in ("new", "there"):
        with pytest.raises(RuntimeError):
            create_project(tmp_path / name, demo=False)
    assert not (tmp_path / "new").exists()
    assert [path.name for path in (tmp_path / "there").iterdir()] == [".git"]


def test_a_command_imports_nothing_for_links_that_are_right(tmp_path: Path) -> None:
    """Every command looks at them first."""
    Record("clips", "1", {}).write(tmp_path)
    renew_code_link(tmp_path)
    code = (
        "import sys; from pathlib import Path; from vidprompt.project.code_link import renew_links; "
        "print(renew_links(Path()), 'vidprompt.provenance.code' in sys.modules, 'tempfile' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("False False False\n", "")
