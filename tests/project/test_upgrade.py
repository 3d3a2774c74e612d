"""`vidprompt upgrade`: three versions of a file, and what becomes of each."""

from __future__ import annotations

from pathlib import Path

import pytest

from vidprompt.project import upgrade
from vidprompt.project.skeleton import content_hash
from vidprompt.project.upgrade import State, apply, examine, keep
from vidprompt.provenance.project_record import RECORD, Record, read_record
from vidprompt.system.errors import UserError

OLD = {"same": b"1", "older": b"1", "mine": b"1", "both": b"1\n", "gone": b"1", "dropped": b"1"}
NEW = {"same": b"1", "older": b"2", "mine": b"1", "both": b"2\n", "gone": b"2", "added": b"2"}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of the package OLD, where NEW is installed; some of its files were changed."""
    monkeypatch.setattr(upgrade, "skeleton", lambda name: dict(NEW))
    monkeypatch.setattr(upgrade, "package_version", lambda: "2")
    monkeypatch.setattr(upgrade.matrix, "activate", lambda names: None)
    for path, content in OLD.items():
        (tmp_path / path).write_bytes(content)
    for path in ("mine", "both"):
        (tmp_path / path).write_bytes(b"mine\n")
    (tmp_path / "gone").unlink()
    hashes = {path: content_hash(path, content) for path, content in OLD.items()}
    Record("clips", "1", hashes).write(tmp_path)
    return tmp_path


def states(root: Path) -> dict[str, State]:
    return {finding.path: finding.state for finding in examine(root).findings}


def test_each_file_is_compared_with_what_the_package_had_and_has(root: Path) -> None:
    assert states(root) == {
        "older": State.OLDER,
        "both": State.CONFLICT,
        "added": State.NEW,
        "dropped": State.DROPPED,
    }
    report = examine(root)
    assert (report.made_by, report.installed) == ("1", "2")
    (diff,) = [finding.diff for finding in report.findings if finding.diff]
    assert diff == "--- both (here)\n+++ both (package)\n@@ -1 +1 @@\n-mine\n+2\n"


def test_only_files_that_are_not_changed_here_are_taken(root: Path) -> None:
    assert sorted(apply(root, examine(root))) == ["added", "older"]
    assert (root / "older").read_bytes() == (root / "added").read_bytes() == b"2"
    assert (root / "both").read_bytes() == (root / "mine").read_bytes() == b"mine\n"
    assert not (root / "gone").exists()
    assert states(root) == {"both": State.CONFLICT, "dropped": State.DROPPED}
    assert read_record(root).version == "2"
    assert apply(root, examine(root)) == []


def test_a_file_that_is_kept_is_up_to_date(root: Path) -> None:
    keep(root, ["both", "dropped"])
    assert states(root) == {"older": State.OLDER, "added": State.NEW}
    with pytest.raises(UserError, match="bot is no file of the package's: did you mean both"):
        keep(root, ["bot"])


def test_a_merged_file_is_up_to_date(root: Path) -> None:
    (root / "both").write_bytes(b"2\r\n")
    assert "both" not in states(root)


def test_nothing_is_written_through_a_link_out_of_the_project(root: Path, tmp_path: Path) -> None:
    outside = root.parent / f"{root.name}-outside"
    outside.write_bytes(b"1")
    (root / "older").unlink()
    (root / "older").symlink_to(outside)
    assert states(root)["older"] is State.OUTSIDE
    apply(root, examine(root))
    assert outside.read_bytes() == b"1"
    assert states(root)["older"] is State.OUTSIDE


@pytest.mark.parametrize("content", [None, "", "[]", '{"name": "a"}', '{"files": 1}'])
def test_no_project_and_a_broken_record_are_sentences(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / RECORD).write_text(content, "utf-8")
    with pytest.raises(UserError, match="vidprompt init" if content is None else "from git again"):
        examine(tmp_path)
