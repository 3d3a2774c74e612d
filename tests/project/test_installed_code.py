"""A commit of a project, which has no sources, is checked against the installed package's code."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml
from dvc.repo import Repo

from vidprompt.project.code_link import renew_code_link
from vidprompt.provenance.code import running_sources
from vidprompt.provenance.dvc_project import DvcProject
from vidprompt.provenance.lock_check import check_project
from vidprompt.provenance.project_record import RECORD, Record
from vidprompt.provenance.revision import Revision

STAGE = "unpack"


def commit(root: Path) -> Revision:
    for command in (["add", "."], ["commit", "-qm", "x"]):
        subprocess.run(["git", *command], cwd=root, check=True, capture_output=True)
    head = ["git", "rev-parse", "HEAD"]
    done = subprocess.run(head, cwd=root, check=True, capture_output=True, text=True)
    return Revision(root, done.stdout.strip())


def findings(revision: Revision) -> list[str]:
    with DvcProject(revision, remotes=False) as project:
        return [f"{f.subject}: {f.sentence}" for f in check_project(project).findings]


def test_the_code_of_a_commit_is_the_installed_package_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("NAME", "u"), ("EMAIL", "u@example.org")):
        for role in ("AUTHOR", "COMMITTER"):
            monkeypatch.setenv(f"GIT_{role}_{name}", value)
    monkeypatch.chdir(tmp_path)
    subprocess.run(["git", "init", "-q"], check=True)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text("[core]\n    analytics = false\n", "utf-8")
    (tmp_path / ".dvcignore").write_text("__pycache__/\n", "utf-8")
    Record("clips", "1", {}).write(tmp_path)
    renew_code_link(tmp_path)
    deps = running_sources().dependencies(STAGE)
    assert any("." not in Path(path).name for path in running_sources().dependencies("train"))
    deps += ["src/vidprompt/data/decode"]  # a folder
    stages = {STAGE: {"cmd": f"vidprompt {STAGE} dataset=own", "deps": deps}}
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}), "utf-8")
    with Repo() as repo:
        repo.commit(force=True)
    revision = commit(tmp_path)
    assert not any(path.startswith("src/") for path in revision.files)
    assert findings(revision) == []

    lock = tmp_path / "dvc.lock"
    content = yaml.safe_load(lock.read_text("utf-8"))
    content["stages"][STAGE]["deps"][-1]["md5"] = "0" * 32
    changed = content["stages"][STAGE]["deps"][-1]["path"]
    lock.write_text(yaml.safe_dump(content), "utf-8")
    (found,) = findings(commit(tmp_path))
    assert found.startswith(changed)
    assert "of the installed vidprompt is not what the stage ran" in found
    (tmp_path / RECORD).unlink()
    assert any("is gone" in one for one in findings(commit(tmp_path)))
