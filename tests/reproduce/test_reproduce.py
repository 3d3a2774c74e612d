"""A published row end to end: on small datasets of the official layout, with the demo's backbone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tests.pipeline import forked_vidprompt
from tests.pipeline.project import edit, write_backbone
from tests.reproduce.trees import TREES

from vidprompt import reproduce
from vidprompt.config.published import PublishedRow, published_rows

ROOT = Path(__file__).parents[2]
ROWS = published_rows(ROOT / "params")
SMALL = (
    "backbone=demo_clip", "seed=1", "trainer.length=2", "trainer.warmup=0", "trainer.batch_size=4",
    "trainer.micro_batches=1", "trainer.precision=no", "trainer.workers=0",
)  # fmt: skip
PEOPLE = ("protocol.people_per_batch=2", "protocol.tracklets_per_person=2")
QUICK = ("ez_clip/base_to_novel/ucf101", "ez_clip/zero_shot/hmdb51")  # in every run of the tests


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's parameters, for small videos, and whatever counts they have; data as rows want them."""
    folder = tmp_path_factory.mktemp("reproduce")
    shutil.copytree(ROOT / "params", folder / "params")
    for name in ("standard", "all", "tracklets"):
        edit(folder / f"params/frames/{name}.yaml", short_side=48)
    edit(folder / "params/frames/tracklets.yaml", stretch=[48, 48])
    for name in TREES:
        edit(folder / f"params/dataset/{name}.yaml", validation__ranges={}, validation__expected={})
    write_backbone(folder)
    return folder


@pytest.fixture
def project(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(home)
    return home


def make_data(folder: Path, row: PublishedRow) -> None:
    for name in {row.dataset, *(["kinetics400"] if row.model else [])}:
        if not (folder / f"data/{name}").exists():
            TREES[name](folder / f"data/{name}")


def run(row: PublishedRow, *overrides: str) -> reproduce.Reproduction:
    own = PEOPLE if row.protocol == "reid" else ()
    command = [str(forked_vidprompt.scripts() / "vidprompt")]
    return reproduce.run(row.name, (*SMALL, *own, *overrides), command=command)


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in ROWS]
)
def test_a_row_runs_from_its_videos_to_its_table(project: Path, name: str) -> None:
    row = ROWS[name]
    make_data(project, row)
    found = run(row)
    assert [one.measure for one in found.comparisons] == list(row.values)
    assert not [text for text in found.differs if "splits" in text]  # those that the row stands for
    written = json.loads(found.file.read_text())
    assert written["coverage"] == 1
    for measure, figure in row.values.items():
        ours = written["measures"][measure]
        assert ours["published"] == pytest.approx(figure.value / 100)
        assert ours["difference"] == pytest.approx(ours["value"] - figure.value / 100, abs=1e-6)
        trained_by_seed = row.protocol == "base_to_novel" and row.method != "frozen_clip"
        assert ours["over"] == ("seeds" if trained_by_seed else "videos")
    assert f"| {next(iter(row.values))} |" in found.file.with_suffix(".md").read_text()
