"""The published rows as data: read and checked, listed, and made of settings that fit them."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from vidprompt.cli.main import app
from vidprompt.config.names import FLOOR
from vidprompt.config.published import find_row, published_rows
from vidprompt.reproduce.expected_cost import _work_of_a_clip, expected_cost
from vidprompt.reproduce.plan import plan_row
from vidprompt.sweep.plan import Configurations
from vidprompt.system.errors import UserError

ROOT = Path(__file__).parents[2]
ROWS = published_rows(ROOT / "params")
MADE = Configurations()


@pytest.fixture(autouse=True)
def _in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("name", ROWS)
def test_the_settings_of_a_row_are_of_its_method_dataset_and_protocol(name: str) -> None:
    row = ROWS[name]
    chain = plan_row(row, (), MADE)
    assert (chain.job.method, chain.dataset, chain.protocol) == (
        row.method,
        row.dataset,
        row.protocol,
    )
    published = row.ids[0].partition("@")[0]
    assert published == f"{row.protocol}/{row.dataset}"
    if (
        row.protocol == "zero_shot" and row.method != FLOOR
    ):  # the tested model is trained by name, too
        assert chain.borrowed is not None
        assert chain.borrowed.runs == ("supervised_split1",)
        trained, tested = chain.borrowed.config, chain.config
        assert (trained.method, trained.backbone) == (tested.method, tested.backbone)
        assert trained.values["prompts"]["templates"] == tested.values["prompts"]["templates"]
        described = [one.prompts.descriptions for one in (trained, tested)]
        if row.method == "ez_clip":  # a description a class, of the dataset whose classes they are
            names = ("kinetics400", row.dataset.replace("ucf_ds", "ucf101"))
            assert described == [f"params/prompts/descriptions/{name}.csv" for name in names]
        else:
            assert described == [None, None]
    if row.start is not None:  # its own trainings start from another's
        assert chain.starts
        assert chain.borrowed is not None
        assert chain.borrowed.job.name == row.start
        assert len(chain.runs) == {"base_to_novel": 3, "few_shot": 12}[row.protocol]
    if row.protocol == "base_to_novel" and row.method != FLOOR:
        assert list(chain.runs) == [f"base_to_novel_16shot_seed{seed}" for seed in (1, 2, 3)]


def test_a_row_shows_all_ten_figures_of_the_leaderboard() -> None:
    figures = {(row.dataset, measure): figure.value for name, row in ROWS.items()
               if name.startswith("leaderboard/") for measure, figure in row.values.items()}  # fmt: skip
    rows = [row for name, row in ROWS.items() if name.startswith("leaderboard/")]
    assert len(rows) == 10
    assert figures["hmdb51", "top1"] == 55.2
    assert {row.values["clothes-changing/R-1"].value for row in rows
            if "clothes-changing/R-1" in row.values} == {90.3, 89.8}  # fmt: skip


def test_rows_of_one_name_and_measure_do_not_contradict_each_other() -> None:
    """A base accuracy is in two tables, with one value."""
    for dataset in ("hmdb51", "ucf101", "kinetics400", "ssv2"):
        theirs = ROWS[f"leaderboard/base_to_novel/{dataset}"].values["base/top1"]
        assert ROWS[f"ez_clip/base_to_novel/{dataset}"].values["base/top1"] == theirs


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("experiment: ez_clip_ucf101_zero_shot", "experiment: ez_clip_ucf_zero_shot",
         "no experiment 'ez_clip_ucf_zero_shot': did you mean ez_clip_ucf"),
        ("    dataset: ucf101", "    datset: ucf101", "unknown key 'datset': did you mean dataset?"),
        ("values: {top1: 79.1}", "values: {top1: 791}", "values.top1.value=791: a number from 0 to 100"),
        ("values: {top1: 79.1}", "values: {}", "has one at least"),
        ("    protocol: zero_shot", "    protocol: zeroshot", "did you mean zero_shot?"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_row_is_named_with_its_file(
    tmp_path: Path, old: str, new: str, says: str
) -> None:
    shutil.copytree(ROOT / "params", tmp_path / "params")
    file = tmp_path / "params/published/ez_clip.yaml"
    assert old in file.read_text("utf-8")
    file.write_text(file.read_text("utf-8").replace(old, new))
    with pytest.raises(UserError) as caught:
        published_rows(tmp_path / "params")
    assert says in str(caught.value)
    assert str(file) in str(caught.value)


def test_a_typo_in_a_row_lists_close_ones() -> None:
    with pytest.raises(UserError) as caught:
        find_row("ez_clip/base_to_novel/ucf11")
    assert "close to it: ez_clip/base_to_novel/ucf101" in str(caught.value)


def test_a_preset_without_figures_is_planned_like_a_row() -> None:
    few = plan_row(find_row("ez_clip_ucf101_few_shot"), (), MADE)
    assert [run for run in few.runs if "_16shot_" in run] == [
        f"few_shot_16shot_seed{seed}" for seed in (1, 2, 3)
    ]
    assert few.config.backbone.name == "ViT-L-14-quickgelu"  # as its configuration was released
    tested = plan_row(find_row("ez_clip_ucf_ds_zero_shot"), (), MADE)
    assert tested.borrowed is not None
    assert tested.borrowed.job.name == "ez_clip_k400"
    with pytest.raises(UserError, match="no published row 'ablate_prompts'"):
        find_row("ablate_prompts")


@pytest.mark.parametrize("override", ["dataset=hmdb51", "split=a", "multirun.sweep={}"])
def test_what_a_row_stands_for_cannot_be_overridden(override: str) -> None:
    with pytest.raises(UserError, match="the row's own"):
        plan_row(ROWS["ez_clip/base_to_novel/ucf101"], [override], MADE)


def test_the_check_names_what_is_missing_of_both_datasets_and_exits_with_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(ROOT / "params", tmp_path / "params")
    monkeypatch.chdir(tmp_path)
    shown = CliRunner().invoke(app, ["reproduce", "ez_clip/zero_shot/hmdb51", "--check"])
    assert shown.exit_code == 1
    for dataset in ("kinetics400", "hmdb51"):
        assert f"data/{dataset} is missing" in shown.output
    assert "to train: supervised_split1" in shown.output
    lines = [line for line in shown.output.splitlines() if "GPU time" in line or " disk " in line]
    assert len(lines) == 4  # of both datasets, though neither is here
    assert "6,766 videos" in lines[2]
    assert "about 6 GB" in lines[2]
    assert "no training, 1,530 videos encoded" in lines[3]
    assert list(tmp_path.iterdir()) == [tmp_path / "params"]  # looking leaves nothing behind


def test_the_expected_gpu_time_follows_lists_lengths_and_backbones() -> None:
    """16 shots of 51 base classes of UCF-101; a clip of ViT-L/14 is 4.6 times the work of ViT-B/16's."""
    row = ROWS["ez_clip/base_to_novel/ucf101"]
    runs = ["base_to_novel_16shot_seed1"]

    def clips(*overrides: str) -> int:
        config = plan_row(row, overrides, MADE).config
        message = list(expected_cost(config, runs))[1].message
        return int(re.findall(r"training of ([\d,]+) clips", message)[0].replace(",", ""))

    config = plan_row(row, (), MADE).config
    batch = config.trainer.batch_size
    assert clips("trainer.length=1 epoch") == batch * -(-51 * 16 // batch)
    assert clips("trainer.length=7") == 7 * batch
    large = plan_row(row, ["backbone=vit_l_14"], MADE).config
    assert 4 < _work_of_a_clip(large) / _work_of_a_clip(config) < 5
    longer = plan_row(row, ["method.num_frames=16"], MADE).config
    assert _work_of_a_clip(longer) == pytest.approx(2 * _work_of_a_clip(config))


def test_the_list_is_a_table_and_json() -> None:
    shown = CliRunner().invoke(app, ["reproduce", "--list", "--method", "vita_clip"])
    assert shown.exit_code == 0
    lines = shown.output.splitlines()
    assert "vita_clip/supervised/ssv2" in shown.output
    assert "ez_clip/zero_shot" not in shown.output
    assert len({line.index("zero_shot") for line in lines if " zero_shot " in line}) <= 2  # columns
    found = json.loads(CliRunner().invoke(app, ["reproduce", "--list", "--json"]).output)
    assert {one["name"] for one in found} == set(ROWS)
    assert all(one["source"]["url"] for one in found)
