"""Which split files are one measure: the draws of each protocol, and no published list."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from vidprompt.config.compose import compose, protocols_of
from vidprompt.data.splits.names import measure_of
from vidprompt.pipeline.matrix import training_runs

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("name", "measure"),
    [
        ("supervised_split3", "supervised"),
        ("zero_shot_split1", "zero_shot"),
        ("zero_shot_half9", "zero_shot_half"),
        ("zero_shot_seed2", "zero_shot_seed"),
        ("zero_shot_split1_val", "zero_shot"),
        ("zero_shot_partition3_test", "zero_shot_partition_test"),
        ("zero_shot_partition3_val", "zero_shot_partition_val"),
        ("zero_shot_partition_val", "zero_shot_partition_val"),
        ("zero_shot_k600_minus_k400_test", "zero_shot_k600_minus_k400_test"),
        ("base_to_novel_16shot_seed2", "base_to_novel"),
        ("base_to_novel_full", "base_to_novel"),
        ("few_shot_16shot_seed2", "16shot"),
        ("few_shot_16shot_nested_seed2", "16shot_nested"),
        ("reid", "reid"),
    ],
)
def test_draws_of_one_kind_are_one_measure(name: str, measure: str) -> None:
    assert measure_of(name) == measure


@pytest.mark.parametrize(
    "name",
    [
        "zero_shot_published",
        "zero_shot_testlist01",
        "zero_shot_splits",
        "supervised_split4",
        "supervised_half1",
        "few_shot_published_2shot_seed1",
        "base_to_novel_published_full",
        "base_to_novel_16shot",
    ],
)
def test_other_names_are_published_lists(name: str) -> None:
    assert measure_of(name) is None


def test_every_training_of_the_shipped_datasets_is_known_as_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(ROOT / "params", tmp_path / "params")
    monkeypatch.chdir(tmp_path)
    for name in ("demo", "hmdb51", "own", "ccvid"):
        config = compose([f"dataset={name}"])
        runs = training_runs(protocols_of(config), set(config.dataset.roles))
        assert runs
        assert all(measure_of(run) for run in runs)
