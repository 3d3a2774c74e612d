"""`prefect deployment run train-eval/ucf`, refused until UCF-101 is there, and then run to its metrics."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.data.make_videos import write_video
from tests.flows.conftest import Server
from tests.pipeline.project import copy_project, edit, run, short_training, write_backbone

CLASSES = ("ApplyEyeMakeup", "HandstandPushups", "PlayingDhol", "YoYo")
GROUPS, CLIPS = 6, 2  # the first two groups are tested


def write_ucf101(root: Path) -> None:
    """A few rendered XviD videos in the dataset's own layout, with its own lists."""
    lists: dict[str, list[str]] = {"train": [], "test": []}
    for number, name in enumerate(CLASSES, start=1):
        (root / "UCF-101" / name).mkdir(parents=True)
        for group in range(1, GROUPS + 1):
            for clip in range(1, CLIPS + 1):
                spelt = name.replace("Handstand", "HandStand")  # as the dataset does
                file = f"{name}/v_{spelt}_g{group:02}_c{clip:02}.avi"
                write_video(
                    root / "UCF-101" / file, 16, 48, 64, kind="mpeg4.avi", seed=10 * number + group
                )
                part, label = ("test", "") if group <= 2 else ("train", f" {number}")
                lists[part].append(file + label)
    folder = root / "ucfTrainTestlist"
    folder.mkdir()
    indices = "".join(f"{i} {name}\n" for i, name in enumerate(CLASSES, start=1))
    (folder / "classInd.txt").write_text(indices)
    for split in (1, 2, 3):
        for part, lines in lists.items():
            (folder / f"{part}list{split:02}.txt").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ucf")
    copy_project(folder)
    write_backbone(folder)
    short_training(folder)
    write_ucf101(folder / "data/ucf101")
    small: dict[str, Any] = {
        "backbone": "demo_clip",
        "frames": "demo",
        "prompts": "demo",
        "trainer": "demo",
    }
    edit(
        folder / "params/dataset/ucf101.yaml",
        pipeline=small,
        protocols={
            "supervised": {"splits": [1]},
            "few_shot": {"shots": [2], "seeds": [1]},
            "base_to_novel": {"shots": 2, "seeds": [1]},
            "zero_shot": {"trained_on": "kinetics400/supervised_split1", "halves": 0},
        },
        validation__ranges={"duration_s": [0.1, 75], "size_bytes": [100, None]},
        validation__expected={"videos.ucf101": len(CLASSES) * GROUPS * CLIPS},
    )
    edit(folder / "params/pipeline.yaml", trained=["ez_clip"])
    text = (folder / "params/pipeline.yaml").read_text("utf-8")
    (folder / "params/pipeline.yaml").write_text(text.replace("active:\n- demo", "active: [demo]"))
    run("dvc", "add", "-q", "data/demo", folder=folder)  # the backbone is the demo's
    return folder


@pytest.mark.slow
def test_ucf101_runs_the_moment_it_is_activated(worker: Server, project: Path) -> None:
    worker.prefect("deploy", "--all", folder=project)
    command = ("deployment", "run", "train-eval/ucf", "--watch", "--watch-timeout", "900")
    assert "'Refused'" in worker.prefect(*command, folder=project, fails=True)

    run("vidprompt", "activate", "ucf101", folder=project)
    run("dvc", "add", "-q", "data/ucf101", folder=project)
    output = worker.prefect(*command, folder=project)
    assert "'Completed'" in output

    for method in ("frozen_clip", "ez_clip"):
        protocols = {"supervised", "few_shot", "base_to_novel"}
        protocols |= {"zero_shot"} if method == "frozen_clip" else set()  # nobody trains its model
        for protocol in protocols:
            file = project / "results/ucf101" / method / protocol / "metrics.json"
            result = json.loads(file.read_text("utf-8"))
            assert result["coverage"] == 1
            assert result["n"] >= len(CLASSES) * 2
    assert (project / "results/ucf101/report.html").is_file()
    stages = yaml.safe_load((project / "dvc.lock").read_text("utf-8"))["stages"]
    assert {name.partition("@")[2].partition("-")[0] for name in stages} == {"ucf101"}
    again = worker.prefect(*command, folder=project)
    assert again.count("task-run.Unchanged") == len(stages)
