"""A stage's code: what its dependencies in dvc.yaml see, edit by edit."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from vidprompt.pipeline.matrix import stale
from vidprompt.provenance.code import SOURCE_FOLDER, SourceTree, with_code_dependencies
from vidprompt.system.errors import UserError

ROOT = Path(__file__).parents[2]
TREE = SourceTree.of_folder(ROOT / SOURCE_FOLDER)


def tree(contents: dict[str, str]) -> SourceTree:
    """A package of these files."""
    return SourceTree(frozenset(contents), lambda name: contents[name].encode())


def test_imports_inside_functions_and_for_types_count() -> None:
    sources = tree(
        {
            "a.py": "from vidprompt.b import f\nimport vidprompt.c",
            "b.py": "def f():\n    from vidprompt import d",
            "c.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from . import e",
            "d.py": "import os",
            "e.py": "",
            "f.py": "import vidprompt.a",
        }
    )
    assert sources.closure(["a.py"]) == {"a.py", "b.py", "c.py", "d.py", "e.py"}


def test_what_enters_no_file_and_empty_packages_are_no_code_of_a_stage() -> None:
    sources = tree(
        {
            "a.py": "import vidprompt.system.errors\nimport vidprompt.tracking.x\nimport vidprompt.rooms.x",
            "system/errors.py": "",
            "tracking/x.py": "import vidprompt.b",
            "b.py": "",
            "rooms/__init__.py": "'Rooms.'",
            "rooms/x.py": "",
        }
    )
    assert sources.closure(["a.py"]) == {"a.py", "rooms/x.py"}


def test_a_packages_own_code_and_templates_count_with_a_module_of_it() -> None:
    sources = tree(
        {
            "a.py": "import vidprompt.rooms.x",
            "rooms/__init__.py": "import vidprompt.b",
            "rooms/x.py": "",
            "rooms/page.jinja": "",
            "other/page.jinja": "",
            "b.py": "",
        }
    )
    reached = {"a.py", "rooms/__init__.py", "rooms/x.py", "rooms/page.jinja", "b.py"}
    assert sources.closure(["a.py"]) == reached


def test_an_unknown_stage_names_the_others() -> None:
    with pytest.raises(UserError, match="no stage 'trian': did you mean train"):
        TREE.stage_files("trian")


def test_a_stages_hash_follows_the_content_of_its_files() -> None:
    before = {stage: TREE.code_hash(stage) for stage in TREE.stages()}

    def read(name: str) -> bytes:
        return TREE.read(name) + (b"\n# edited" if name == "config/compose.py" else b"")

    after = SourceTree(TREE.files, read)
    assert all(after.code_hash(stage) != before[stage] for stage in before)


def test_report_registry_review_and_flows_are_no_code_of_a_training() -> None:
    """Their folders, and the command line: a change of them trains nothing again."""
    apart = ("reporting", "registry", "review", "cli", "sweep", "published", "comparison")
    for stage in ("train", "features"):
        assert not [name for name in TREE.stage_files(stage) if name.split("/")[0] in apart]


def test_dvc_yaml_lists_the_code_of_its_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "dvc.yaml").read_text("utf-8")
    assert with_code_dependencies(text, TREE) == text
    monkeypatch.chdir(ROOT)
    assert not stale()


def test_dvc_yaml_is_written_again_after_a_new_import() -> None:
    text = (ROOT / "dvc.yaml").read_text("utf-8")
    gone = text.replace("        - src/vidprompt/training\n", "        - src/vidprompt/review\n")
    assert gone != text
    assert with_code_dependencies(gone, TREE) == text


def test_dependencies_hold_every_file_of_a_stages_code_and_no_other() -> None:
    """For every stage of dvc.yaml and every file of the package: is an edit of it seen?"""
    for name, stage in yaml.safe_load((ROOT / "dvc.yaml").read_text("utf-8"))["stages"].items():
        code = TREE.stage_files(stage["do"]["cmd"].split()[1])
        seen = {
            file
            for file in TREE.files
            for path in stage["do"]["deps"]
            if path in (f"{SOURCE_FOLDER}/{file}", *map(str, Path(SOURCE_FOLDER, file).parents))
        }
        without_code = {f for f in TREE.files if f.endswith("__init__.py")} - code
        assert seen - without_code == code, name


@pytest.mark.parametrize("every", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_dvc_status_sees_edits_of_a_stages_code_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int
) -> None:
    """A file of every so many folders is edited: the stages that DVC calls changed are those that run it.

    The test above says the same of every file, without DVC.
    """
    from dvc.repo import Repo

    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / SOURCE_FOLDER, tmp_path / SOURCE_FOLDER, ignore=ignore)
    declared = yaml.safe_load((ROOT / "dvc.yaml").read_text("utf-8"))["stages"]
    stages = {
        name: {
            "cmd": f"echo {name} > {name}.txt",
            "deps": [path for path in one["do"]["deps"] if path.startswith("src/")],
            "outs": [f"{name}.txt"],
        }
        for name, one in declared.items()
    }
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    monkeypatch.chdir(tmp_path)
    files = [name for name in sorted(TREE.files, reverse=True) if not name.endswith("__init__.py")]
    with Repo.init(".", no_scm=True) as repo:
        repo.reproduce()
        for name in list({str(Path(name).parent): name for name in files}.values())[::every]:
            file = tmp_path / SOURCE_FOLDER / name
            content = file.read_bytes()
            file.write_bytes(content + b"\n# edited\n")
            changed = set(repo.status())
            file.write_bytes(content)
            runs = {
                s
                for s, one in declared.items()
                if name in TREE.stage_files(one["do"]["cmd"].split()[1])
            }
            assert changed == runs, name
