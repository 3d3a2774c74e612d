"""A published row end to end: on small datasets of the official layout, with the demo's backbone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from tests.pipeline import forked_programs
from tests.pipeline.project import edit, write_backbone
from tests.reproduce.trees import TREES

from vidprompt import reproduce
from vidprompt.config.published import PublishedRow, find_row, published_rows
from vidprompt.models.backbones.loading import build_clip
from vidprompt.models.checkpoint_metadata import read_metadata
from vidprompt.pipeline.doctor import State
from vidprompt.reproduce.table import Reproduction
from vidprompt.system.errors import UserError

ROOT = Path(__file__).parents[2]
ROWS = published_rows(ROOT / "params")
SMALL = (
    "backbone=demo_clip", "seed=1", "trainer.length=2", "trainer.warmup=0", "trainer.batch_size=4",
    "trainer.micro_batches=1", "trainer.precision=no", "trainer.workers=0",
)  # fmt: skip
PEOPLE = (
    "protocol.people_per_batch=2", "protocol.tracklets_per_person=2", "protocol.image_model.length=2",
)  # fmt: skip
# notes each call, and fails where FAIL is among the arguments; the stage SKIP leaves an empty validation.json
STAGES = """#!/bin/sh
echo "$1" >> "$CALLS"
if [ "$1" = "$SKIP" ]; then
  for set in $(ls cache/splits); do mkdir -p results/$set; echo "{{}}" > results/$set/validation.json; done
  exit 0
fi
case " $* " in *"$FAIL"*) echo "vidprompt: as asked"; exit 1;; esac
exec {program} "$@"
"""
QUICK = "ez_clip/zero_shot/hmdb51"  # in every run of the tests, as is ez_clip/base_to_novel/ucf101 below


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's parameters, for small videos, and whatever counts they have; data as rows want them."""
    folder = tmp_path_factory.mktemp("reproduce")
    shutil.copytree(ROOT / "params", folder / "params")
    for name in ("standard", "all", "tracklets"):
        edit(folder / f"params/frames/{name}.yaml", short_side=48)
    edit(folder / "params/frames/tracklets.yaml", stretch=[48, 48])
    for name in TREES:
        file = folder / f"params/dataset/{name}.yaml"
        edit(file, validation__ranges={}, validation__expected={})
        if name not in (
            "ccvid",
            "kinetics600",
        ):  # splits that no row is of would have to be validated
            own = yaml.safe_load(file.read_text("utf-8"))["protocols"]
            edit(file, protocols=own | {"few_shot": None, "supervised": {"splits": [1]}})
    for file in (folder / "params/experiment").glob("vl_prompting_*.yaml"):
        file.write_text(file.read_text("utf-8").replace("_depth: 9", "_depth: 2"))  # small towers
    write_backbone(folder)
    (folder / "vidprompt").write_text(
        STAGES.format(program=forked_programs.scripts() / "vidprompt")
    )
    (folder / "vidprompt").chmod(0o755)
    return folder


@pytest.fixture
def project(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(home)
    monkeypatch.setenv("CALLS", str(home / "calls.txt"))
    monkeypatch.setenv("FAIL", "no such argument")
    monkeypatch.setenv("SKIP", "")
    return home


def make_data(folder: Path, row: PublishedRow) -> None:
    for name in {row.dataset, *(["kinetics400"] if row.model or row.start else [])}:
        if not (folder / f"data/{name}").exists():
            TREES[name](folder / f"data/{name}")


def run(row: PublishedRow, *overrides: str) -> tuple[Reproduction, list[str]]:
    """What comes out, and the stages that ran for it."""
    calls = Path("calls.txt")
    calls.write_text("", encoding="utf-8")
    own = PEOPLE if row.protocol == "reid" else ()
    command = [str(Path("vidprompt").absolute())]
    found = reproduce.run(row.name, (*SMALL, *own, *overrides), command=command)
    return found, calls.read_text("utf-8").splitlines()


@pytest.mark.parametrize(
    "name", [name if name == QUICK else pytest.param(name, marks=pytest.mark.slow) for name in ROWS]
)
def test_a_row_runs_from_its_videos_to_its_table(
    project: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = ROWS[name]
    if name == QUICK:  # Great Expectations takes as long as all the rest; the slow rows validate
        monkeypatch.setenv("SKIP", "validate")
    make_data(project, row)
    if row.protocol == "few_shot":
        edit(project / f"params/dataset/{row.dataset}.yaml", protocols__few_shot={})
    check_table(row, run(row)[0])


def check_table(row: PublishedRow, found: Reproduction) -> None:
    """Every figure of the row stands beside ours, in the object and in both files."""
    assert [one.measure for one in found.comparisons] == list(row.values)
    assert not [text for text in found.differs if "splits" in text]  # those that the row stands for
    written = json.loads(found.file.read_text("utf-8"))
    assert written["coverage"] == 1
    for measure, figure in row.values.items():
        ours = written["measures"][measure]
        assert ours["published"] == pytest.approx(figure.value / 100)
        assert ours["difference"] == pytest.approx(ours["value"] - figure.value / 100, abs=1e-6)
        by_seed = row.protocol in ("base_to_novel", "few_shot")
        trained_by_seed = by_seed and row.method != "frozen_clip"
        assert ours["over"] == ("seeds" if trained_by_seed else "videos")
    assert f"| {next(iter(row.values))} |" in found.file.with_suffix(".md").read_text("utf-8")


@pytest.mark.slow
def test_the_published_re_identification_trains_an_eva(project: Path) -> None:
    """All weights of timm's smallest EVA-02, of 42×42 pixels."""
    row = ROWS["leaderboard/reid/ccvid_general"]
    make_data(project, row)
    vision = {"timm_model_name": "eva02_tiny_patch14_224", "timm_model_pretrained": False,
              "timm_pool": "token", "timm_proj": None, "image_size": 42}  # fmt: skip
    text = {"context_length": 32, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1}
    config = {"embed_dim": 192, "vision_cfg": vision, "text_cfg": text, "custom_text": True}
    (project / "eva.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    save_file(build_clip(config).state_dict(), project / "eva.safetensors")
    own = {"name": "eva", "config": "eva.json", "weights": "eva.safetensors", "pretrained": "null"}
    found, _ = run(row, *(f"backbone.{key}={value}" for key, value in own.items()))
    check_table(row, found)
    files = project.glob("multirun/reproduce/*/models/ccvid/ez_clip/reid/model.safetensors")
    [checkpoint] = [file for file in files if read_metadata(file).backbone == "eva"]
    metadata = read_metadata(checkpoint)
    assert metadata.options["train_backbone"] == "all"
    assert "clip.visual.trunk.blocks.0.attn.proj.weight" in load_file(checkpoint)


@pytest.mark.slow
def test_a_preset_without_a_row_runs_like_one(project: Path) -> None:
    row = find_row("ez_clip_hmdb51_few_shot")
    make_data(project, row)
    edit(
        project / "params/dataset/hmdb51.yaml", protocols__few_shot={"shots": [2], "seeds": [1, 2]}
    )
    found, calls = run(row)
    assert calls.count("train") == 2
    [comparison] = found.comparisons
    assert (comparison.measure, comparison.published, comparison.over) == (
        "2shot/top1",
        None,
        "seeds",
    )
    assert json.loads(found.file.read_text("utf-8"))["measures"]["2shot/top1"]["difference"] is None


@pytest.mark.slow
def test_a_row_that_failed_goes_on_where_it_was(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = ROWS["ez_clip/base_to_novel/ucf101"]
    make_data(project, row)
    findings = [one for _, one in reproduce.check(row.name, (*SMALL, "trainer.lr=1e-3"))]
    assert not [one for one in findings if one.state is State.MISSING]
    clips = 3 * 2 * 4  # trainings, steps, batch
    assert any(f"ez_clip: 3 trainings of {clips} clips" in one.message for one in findings)
    monkeypatch.setenv("SKIP", "validate")
    monkeypatch.setenv("FAIL", "split=base_to_novel_16shot_seed2 ")
    with pytest.raises(UserError) as caught:
        run(row, "trainer.lr=1e-3")
    assert "train base_to_novel_16shot_seed2: as asked (multirun/reproduce/" in str(caught.value)
    monkeypatch.setenv("FAIL", "no such argument")
    _, calls = run(row, "trainer.lr=1e-3")
    assert calls == ["train"] * 2 + ["features"] * 3 + ["evaluate"]
    found, calls = run(row, "trainer.lr=1e-3")
    assert calls == []
    check_table(row, found)
    assert {
        "run with trainer.lr=1e-3",
        "the backbone is demo_clip, the published one vit_b_16",
    } <= {*found.differs}
    (project / "data/ucf101/UCF-101/YoYo/v_YoYo_g02_c01.avi").touch()  # maybe another video
    assert run(row, "trainer.lr=1e-3")[1] == ["manifest", "frames"]  # it was not
