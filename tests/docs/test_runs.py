"""Blocks that are marked `runs` do run, each page's in order, in a copy of the repository."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.docs.pages import PAGES, ROOT, Block, blocks
from tests.docs.shell import lines

# videos that examples name, and what they are here
NAMED_VIDEOS = ("a.mp4", "b.mp4", "clip.mp4", "shapes.mp4", "video.mp4")
VIDEO = "cache/unpacked/demo/actions/videos/StarGrowing/v_StarGrowing_g08_c01.mp4"
# a folder that examples name: some clips of some classes
FOLDER, CLASSES, CLIPS = (
    "videos",
    ("StarGrowing", "HeartMovingLeft", "SquareShrinking"),
    "*_g1[01]_*",
)
NEEDED = ("cache/unpacked/demo", "models/demo/ez_clip/supervised_split1/model.safetensors")
TIMEOUT_S = 900

RUN = [page for page in PAGES if any(block.runs for block in blocks(page))]
QUICK = [page for page in PAGES if any(one.mark.startswith("runs quickly") for one in blocks(page))]


@pytest.fixture
def copy(tmp_path: Path) -> Iterator[Path]:
    """The repository's files as they are on disk, in a git repository of their own."""
    folder = tmp_path / "project"
    for name in _git(ROOT, "ls-files", "--cached", "--others", "--exclude-standard").splitlines():
        if (ROOT / name).is_file() and not name.startswith(".dvcstore/"):
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("page", QUICK, ids=lambda page: page.stem)
def test_quick_blocks_run(page: Path, copy: Path) -> None:
    _run_page(
        [one for one in blocks(page) if one.file or one.mark.startswith("runs quickly")], copy
    )


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN, ids=lambda page: page.stem)
def test_blocks_run(page: Path, copy: Path) -> None:
    if not all((ROOT / name).exists() for name in NEEDED):
        pytest.skip("it needs the demo's models: `make repro`")
    for name in ("cache", "models", "data/demo", ".dvcstore"):
        shutil.copytree(ROOT / name, copy / name, dirs_exist_ok=True, copy_function=shutil.copy2)
    for name in NAMED_VIDEOS:
        shutil.copyfile(ROOT / VIDEO, copy / name)
    for name in CLASSES:
        for clip in (ROOT / VIDEO).parents[1].joinpath(name).glob(CLIPS):
            (copy / FOLDER / name).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(clip, copy / FOLDER / name / clip.name)
    _git(copy, "init", "--quiet", "--initial-branch=main")
    _git(copy, "add", "--all")
    _git(copy, "-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "--quiet", "-m", "copy")
    _run_page([one for one in blocks(page) if one.runs or one.file], copy)


def _run_page(chosen: list[Block], folder: Path) -> None:
    """Run blocks in order, each in the folder that the one before it ended in.

    A Python block begins with the page's earlier ones, as in a notebook.
    """
    before, note = "", folder.parent / "folder.txt"
    for block in chosen:
        if block.file:
            path = folder / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.content, "utf-8")
        elif block.language == "python":
            before += block.content + "\n"
            _run(block, [sys.executable, "-c", before], folder)
        else:
            script = f"trap 'pwd > {note}' EXIT\n{_script(block)}"
            _run(block, ["bash", "-euo", "pipefail", "-c", script], folder)
            folder = Path(note.read_text("utf-8").strip())


def _script(block: Block) -> str:
    """The commands, of a console without what they print."""
    if block.language == "bash":
        return block.content
    return "\n".join(lines(block.content, prompt=True))


def _run(block: Block, command: list[str], folder: Path) -> None:
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT / "src"),
        "COLUMNS": "120",
    }
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == block.exit_status, (
        f"{block}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    )


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], check=True, capture_output=True, text=True
    )
    return done.stdout
