"""The real pipeline, `dvc repro`, on a cut-down demo in a temporary clone."""

import json
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from tests.pipeline.project import (
    copy_project,
    edit,
    environment,
    run,
    short_training,
    write_backbone,
)
from tests.prediction.pipeline_predictions import check_same_predictions

from vidprompt.data.splits.split_file import read_split

METHODS = ("frozen_clip", "ez_clip", "vita_clip")
PROTOCOLS = ("zero_shot", "base_to_novel", "few_shot", "supervised", "reid")


def cut_down(folder: Path) -> None:
    """Two shapes, six people, an untrained backbone, three steps."""
    from tools.demo import actions, people

    data = folder / "data" / "demo"
    actions.write_actions(data, actions.ACTIONS, 1, shapes=2, groups=6)
    actions.write_actions(data, actions.TRANSFER, 1, shapes=2, groups=6)
    people.write_people(data / "people", 1, train_people=3, test_people=3, frames=8)
    write_backbone(folder)
    edit(
        folder / "params/dataset/demo.yaml",
        protocols__base_to_novel={"shots": 4, "seeds": [1]},
        protocols__few_shot={"shots": [2], "seeds": [1]},
        validation__expected={},
        validation__max_broken_share=0.2,
    )
    short_training(folder)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clone")
    copy_project(folder)
    cut_down(folder)
    run("vidprompt", "activate", folder=folder, forked=True)
    run("dvc", "add", "-q", "data/demo", folder=folder)
    run("dvc", "repro", folder=folder, forked=True)
    return folder


def metrics(project: Path, method: str, protocol: str) -> dict:
    return json.loads(
        (project / f"results/demo/{method}/{protocol}/metrics.json").read_text("utf-8")
    )


def test_every_method_has_every_protocol_and_its_coverage(project: Path) -> None:
    for method in METHODS:
        for protocol in PROTOCOLS:
            result = metrics(project, method, protocol)
            broken = result["listed"] - result["n"]
            assert 0 < broken <= 3, (method, protocol)
            assert result["coverage"] == round(result["n"] / result["listed"], 6) < 1
            for split in result["splits"].values():
                assert split["id"].startswith(protocol)
            if protocol == "reid":
                general = result["summary"]["general"]
                assert general["id"] == "reid/demo/general@8-frames"


def test_broken_files_are_named_in_the_report_with_their_reason(project: Path) -> None:
    # long ids carry break opportunities, which a reader does not see
    page = (project / "results/demo/report.html").read_text("utf-8").replace("<wbr>", "")
    validation = json.loads((project / "results/demo/validation.json").read_text("utf-8"))
    assert validation["success"]
    assert len(validation["broken"]) == 5
    for row in validation["broken"]:
        assert row["video_id"] in page
        assert row["detail"]
    assert "https://" not in page.replace("https://www.w3.org", "")


def test_a_second_repro_does_nothing(project: Path) -> None:
    said = run("dvc", "repro", folder=project)
    assert "Running stage" not in said


@pytest.mark.parametrize("method", ["ez_clip", "vita_clip"])
def test_predicting_the_files_gives_the_tested_labels(project: Path, method: str) -> None:
    assert check_same_predictions(project, method) > 10


@pytest.mark.slow
def test_a_multirun_trains_and_tests_what_the_pipeline_does(project: Path) -> None:
    sweep = ("method=frozen_clip,ez_clip", "views=ez_clip,reversed", "-j", "2")
    said = run("vidprompt", "multirun", *sweep, folder=project)
    assert "| ez_clip, views reversed |" in said
    home = project / "multirun/method=frozen_clip,ez_clip,views=ez_clip,reversed/method=ez_clip"
    checkpoint = "models/demo/ez_clip/supervised_split1/model.safetensors"
    assert (home / checkpoint).read_bytes() == (project / checkpoint).read_bytes()
    forward = metrics(home / "views=ez_clip", "ez_clip", "supervised")
    assert forward["hashes"] == metrics(project, "ez_clip", "supervised")["hashes"]
    backward = metrics(home / "views=reversed", "ez_clip", "supervised")
    assert backward["hashes"]["checkpoints"] == forward["hashes"]["checkpoints"]
    assert backward["hashes"]["config"] != forward["hashes"]["config"]
    again = run("vidprompt", "multirun", *sweep, folder=project)
    assert "2 jobs, 2 done before" in again


def test_a_step_is_chosen_by_held_out_videos(project: Path) -> None:
    own = {"shots": 2, "seeds": [1], "held_out": 1}
    edit(project / "params/dataset/demo.yaml", protocols__base_to_novel=own)
    run("vidprompt", "splits", folder=project, forked=True)
    name = "base_to_novel_2shot_seed1"
    other = "trainer.also_tested_on=[demo/zero_shot_split1]"
    chosen = (f"split={name}", "trainer.evaluate_every=1", "trainer.best_on_test=true", other)
    run("vidprompt", "train", *chosen, "trainer.select=best", folder=project, forked=True)
    summary = json.loads(
        (project / f"results/demo/ez_clip/runs/{name}/training.json").read_text("utf-8")
    )
    base = read_split(project / f"cache/splits/demo/{name}.json").tests["base"].classes
    assert summary["held_out"] == len(base)
    assert [look["step"] for look in summary["looks"]] == [1, 2, 3]
    best = max(summary["looks"], key=lambda look: look["held_out"])
    assert summary["kept_step"] == best["step"]
    assert set(summary["best_on_test"]) == {"base", "novel", "demo/zero_shot_split1/test"}
    for test, best in summary["best_on_test"].items():  # each list has a step of its own
        look = max(summary["looks"], key=lambda look: look[f"test/{test}"])
        assert best == {"step": look["step"], "value": look[f"test/{test}"]}
    said = run("vidprompt", "train", "trainer.select=best", folder=project, fails=True, forked=True)
    assert "trainer.select=best needs held-out videos: set protocol.held_out" in said


LONGER = ("method=vita_clip", "trainer.length=60", "trainer.save_every=5", "trainer.select=last")


def start(project: Path, *overrides: str) -> subprocess.Popen[str]:
    """A training, stopped from outside once it has saved a state."""
    snapshots = project / "cache/training/demo/vita_clip/supervised_split1"
    command = ["vidprompt", "train", *LONGER, *overrides]
    child = subprocess.Popen(
        command, cwd=project, text=True, stderr=subprocess.PIPE, env=environment()
    )
    end = time.monotonic() + 120
    while not list(snapshots.glob("step-*.json")) and child.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.01)
    return child


def trained(project: Path) -> dict[str, bytes]:
    files = [project / "models/demo/vita_clip/supervised_split1/model.safetensors"]
    files += sorted((project / "results/demo/vita_clip/runs/supervised_split1").iterdir())
    return {file.name: file.read_bytes() for file in files}


@pytest.mark.slow
def test_a_training_that_was_killed_ends_as_if_it_was_not(project: Path) -> None:
    run("vidprompt", "train", *LONGER, folder=project, forked=True)
    whole = trained(project)
    assert set(whole) == {"loss.csv", "model.safetensors", "training.json"}
    child = start(project)
    child.send_signal(signal.SIGSTOP)
    said = run("vidprompt", "train", *LONGER, folder=project, fails=True, forked=True)
    assert "another process is at work in cache/training/demo/vita_clip/supervised_split1" in said
    child.kill()
    assert child.wait() == -signal.SIGKILL
    said = run("vidprompt", "train", *LONGER, "trainer.workers=1", folder=project, forked=True)
    assert "resuming after step" in said
    assert trained(project) == whole
    left = sorted(p.name for p in (project / "cache/training/demo/vita_clip").glob("*/*"))
    assert "steps.jsonl" in left
    assert not [name for name in left if name.startswith("step-")]


@pytest.mark.slow
def test_two_processes_stop_together_when_told_to_and_one_goes_on(project: Path) -> None:
    run("vidprompt", "train", *LONGER, folder=project, forked=True)
    [*_, whole] = trained(project)["loss.csv"].decode().splitlines()
    child = start(project, "processes=2")
    child.terminate()
    _, said = child.communicate(timeout=60)
    assert child.returncode == 143
    assert "which is saved: run the same again to resume" in said
    assert "Traceback" not in said
    assert "resuming after step" in run("vidprompt", "train", *LONGER, folder=project, forked=True)
    [*_, last] = trained(project)["loss.csv"].decode().splitlines()
    numbers = [float(value) for value in last.split(",")]
    assert numbers == pytest.approx([float(value) for value in whole.split(",")], abs=1e-4)


def test_deleted_results_come_back_byte_for_byte(project: Path) -> None:
    folder = project / "results/demo/ez_clip"
    before = {p: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
    checkpoint = project / "models/demo/ez_clip/supervised_split1/model.safetensors"
    weights = checkpoint.read_bytes()
    shutil.rmtree(folder)
    checkpoint.unlink()
    shutil.rmtree(project / ".dvc/cache")
    # by the installed command: what the pipeline's forked one made is the same
    command = ("vidprompt", "train", "dataset=demo", "method=ez_clip", "split=supervised_split1")
    run(*command, folder=project)
    run("vidprompt", "evaluate", "method=ez_clip", "protocol=supervised", folder=project)
    assert checkpoint.read_bytes() == weights
    again = [p for p in sorted(folder.rglob("*")) if p.is_file()]
    assert len(again) == 6
    assert all(p.read_bytes() == before[p] for p in again)
