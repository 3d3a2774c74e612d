"""Jobs as processes: finished ones stay, failing ones are named, stopped ones go on."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from tests.sweep.project import MADE, experiment, make_project

from vidprompt import sweep as multirun
from vidprompt.sweep import launch
from vidprompt.sweep.launch import Launcher, work_of
from vidprompt.sweep.plan import Configurations, make_plan
from vidprompt.sweep.summary import summarise
from vidprompt.system.errors import DataError
from vidprompt.system.interruption import Interrupted


class Project:
    """Runs multiruns of a project, and knows which stages were called."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.command = folder, make_project(folder)
        self.calls = folder / "calls.txt"
        self.made = MADE

    def run(self, *arguments: str, jobs: int = 2, again: bool = False) -> tuple[dict, list[str]]:
        plan = make_plan(arguments, self.made)
        self.calls.write_text("")
        works = work_of(plan, self.made, again=again)
        self.plan = plan
        failed = Launcher(jobs, again=again, command=self.command).run(plan, works, self.made)
        return failed, [
            " ".join(call.split()[:2]) for call in self.calls.read_text("utf-8").splitlines()
        ]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CALLS", str(tmp_path / "calls.txt"))
    return Project(tmp_path)


ONE = ["train supervised_split1", "features supervised_split1", "evaluate supervised"]


def test_what_is_done_is_not_done_again(project: Project) -> None:
    assert project.run("seed=1,2", jobs=1) == ({}, ONE * 2)
    assert project.run("seed=1,2") == ({}, [])
    assert project.run("seed=1,2", again=True, jobs=1) == ({}, ONE * 2)
    (project.plan.folder / "seed=2/results/demo/ez_clip/supervised/metrics.json").unlink()
    assert project.run("seed=1,2") == ({}, ["evaluate supervised"])


def test_another_multirun_takes_a_training_that_is_done(project: Project) -> None:
    project.run("seed=1,2")
    assert project.run("seed=1,2,3", jobs=1)[1] == ONE[1:] * 2 + ONE
    model = project.plan.folder / "seed=2/models/demo/ez_clip/supervised_split1/model.safetensors"
    assert model.read_text("utf-8") == "1 2"
    assert "taken from multirun/seed=1,2/seed=2" in (model.parents[4] / "log.txt").read_text(
        "utf-8"
    )


def test_a_training_that_was_replaced_since_is_not_taken(project: Project) -> None:
    def settings(**lr: int) -> None:
        experiment(project.folder, settings={name: f"trainer.lr={lr[name]}" for name in lr})
        project.made = Configurations()

    settings(a=1)
    project.run("experiment=small")
    settings(a=2, b=1)
    assert project.run("experiment=small", jobs=1) == ({}, ONE * 2)
    model = "models/demo/ez_clip/supervised_split1/model.safetensors"
    assert [(project.plan.folder / name / model).read_text("utf-8") for name in "ab"] == [
        "2 1",
        "1 1",
    ]


def test_features_without_their_index_are_not_done(project: Project) -> None:
    project.run("seed=1,2")
    features = project.plan.folder / "seed=2/cache/features/demo/ez_clip/supervised_split1"
    (features / "index.parquet").unlink()
    assert project.run("seed=1,2") == ({}, ["features supervised_split1"])


def test_again_that_ends_after_its_training_leaves_the_rest_to_be_done(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.run("seed=1,2", jobs=1)
    with monkeypatch.context() as patch:
        patch.setenv("FAIL", "features")
        failed, called = project.run("seed=1,2", jobs=1, again=True)
    assert (set(failed), called) == ({"seed=1", "seed=2"}, ONE[:2] * 2)
    assert project.run("seed=1,2", jobs=1) == ({}, ONE[1:] * 2)


def test_jobs_at_once_have_a_gpu_each(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gpus").mkdir()
    monkeypatch.setenv("GPUS", str(tmp_path / "gpus"))
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert project.run("seed=1,2,3", jobs=2)[0] == {}
    assert set((tmp_path / "gpus/used").read_text("utf-8").split()) == {"0", "1"}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-5,3")
    assert project.run("seed=4,5", jobs=2)[0] == {}
    assert {"GPU-5", "3"} <= set((tmp_path / "gpus/used").read_text("utf-8").split())
    assert project.run("seed=6,7", jobs=1)[0] == {}  # one after another: all GPUs for each
    assert "GPU-5,3" in (tmp_path / "gpus/used").read_text("utf-8").split()


@pytest.mark.parametrize(
    "text", [b"{", b"\xff", b"[]", b'{"done": 1}', b'{"done": {"train a": {}}}']
)
def test_a_record_that_cannot_be_read_is_of_nothing_done(project: Project, text: bytes) -> None:
    project.run("seed=1,2")
    (project.plan.folder / "seed=1/job.json").write_bytes(text)
    assert project.run("seed=1,2,3", jobs=1)[1] == ONE + ONE[1:] + ONE
    assert project.run("seed=1,2") == ({}, ONE[1:])


def test_a_change_of_the_parameters_is_done_again_and_the_job_keeps_those_it_began_with(
    project: Project,
) -> None:
    project.run("seed=1,2", jobs=1)
    trainer = project.folder / "params/trainer/demo.yaml"
    trainer.write_text(
        trainer.read_text("utf-8").replace("weight_decay: 0.05", "weight_decay: 0.06")
    )
    project.made = Configurations()
    kept = project.plan.folder / "seed=1/params/trainer/demo.yaml"
    assert "weight_decay: 0.05" in kept.read_text("utf-8")
    assert project.run("seed=1,2", jobs=1) == ({}, ONE * 2)
    assert "weight_decay: 0.06" in kept.read_text("utf-8")


def test_a_failing_job_is_named_and_the_others_go_on(
    project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    failed, called = project.run("trainer.lr=1,13,2", jobs=1)
    assert called == [*ONE, "train supervised_split1", *ONE]
    (name,) = failed
    assert name == "trainer.lr=13"
    assert failed[name].startswith("train supervised_split1: lr is unlucky (")
    assert "failed trainer.lr=13: train supervised_split1: lr is unlucky" in caplog.text
    assert list(summarise(project.plan, failed)["rows"]) == ["lr 1", "lr 2"]
    assert project.run("trainer.lr=1,13,2")[1] == ["train supervised_split1"]


def test_looks_share_the_models_and_see_only_the_chosen_splits(project: Project) -> None:
    project.run("views=centre,reversed")
    job = project.plan.folder / "single"
    for variant in ("views=centre", "views=reversed"):
        model = job / variant / "models/demo/ez_clip/supervised_split1/model.safetensors"
        assert model.samefile(job / "models/demo/ez_clip/supervised_split1/model.safetensors")
        splits = sorted(file.name for file in (job / variant / "cache/splits/demo").iterdir())
        assert splits == ["supervised_split1.json"]
        assert (job / variant / "cache/frames/demo/frames.json").samefile(
            "cache/frames/demo/frames.json"
        )
    called = project.calls.read_text("utf-8").splitlines()
    folders = [Path(line.split()[2]).name for line in called]
    assert folders == ["single", *["views=centre"] * 2, *["views=reversed"] * 2]
    assert not list(Path("cache").glob("features")) + list(Path().glob("models"))


def test_asked_to_stop_it_ends_its_stages_and_goes_on_when_run_again(project: Project) -> None:
    def stop() -> None:
        while not project.calls.read_text("utf-8"):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    project.calls.write_text("")
    thread = threading.Thread(target=stop)
    thread.start()
    began = time.monotonic()
    with pytest.raises(Interrupted) as caught:
        project.run("trainer.lr=7,1", jobs=1)
    thread.join()
    assert time.monotonic() - began < 30
    assert caught.value.exit_code == 128 + signal.SIGTERM
    assert project.calls.read_text("utf-8").split()[:2] == ["train", "supervised_split1"]
    assert len(project.calls.read_text("utf-8").splitlines()) == 1
    assert project.run("trainer.lr=1")[0] == {}


def test_two_do_not_work_on_one_job(project: Project) -> None:
    code = (
        "import fcntl, sys; lock = open(sys.argv[1], 'w'); fcntl.flock(lock, fcntl.LOCK_EX); "
        "print('held', flush=True); sys.stdin.read()"
    )
    lock = Path("multirun/seed=1,2/seed=1/lock")
    lock.parent.mkdir(parents=True)
    with subprocess.Popen(
        [sys.executable, "-c", code, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        failed, called = project.run("seed=1,2")
        other.communicate()
    assert failed == {"seed=1": "another process runs this job"}
    assert called == ONE
    assert project.run("seed=1,2") == ({}, ONE)


def test_the_command_says_what_there_is_to_do_and_whether_all_went_well(
    project: Project, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(launch, "VIDPROMPT", project.command)
    there = multirun.pending(["trainer.lr=1,13"])
    assert there["trainer.lr=13"][:2] == ["train supervised_split1", "features supervised_split1"]
    assert not Path("multirun").exists()
    page = Path("page.md")
    page.write_text("no marks", encoding="utf-8")
    with pytest.raises(DataError, match="page.md needs the lines"):
        multirun.run(["trainer.lr=1,13"], into=page)
    assert not Path("multirun").exists()
    page.write_text(
        "<!-- trainer.lr=1,13:begin -->\n<!-- trainer.lr=1,13:end -->\n", encoding="utf-8"
    )
    assert list(multirun.run(["trainer.lr=1,13"], into=page).failed) == ["trainer.lr=13"]
    assert "failed: trainer.lr=13: train supervised_split1: lr is unlucky" in caplog.text
    assert "| top-1 | 10.0 |" in page.read_text("utf-8")
    assert not multirun.run(["trainer.lr=1,2"]).failed


def test_the_threads_of_a_step_are_its_share_unless_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("vidprompt.sweep.launch.available_cores", lambda: 8)
    assert Launcher(3).environment["OMP_NUM_THREADS"] == "2"
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert Launcher(3).environment["OMP_NUM_THREADS"] == "5"
