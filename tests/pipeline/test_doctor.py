"""What doctor says of a dataset before anything was run on it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.data.make_videos import write_video
from tests.pipeline.project import edit, write_backbone
from typer.testing import CliRunner

from vidprompt.cli.main import app
from vidprompt.config.compose import compose
from vidprompt.data.annotations import Annotation
from vidprompt.pipeline import estimate
from vidprompt.pipeline.doctor import Finding, State, examine

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three own clips in each of two classes and one that is no video, on the demo's small settings."""
    shutil.copytree(ROOT / "params", tmp_path / "params")
    for number, name in enumerate(
        f"{label}/{take}" for label in ("wave", "jump") for take in range(3)
    ):
        path = tmp_path / f"data/own/{name}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, n=16, height=48, width=64, kind="h264.mp4", seed=number)
    (tmp_path / "data/own/wave/notes.mp4").write_text("not a video")
    write_backbone(tmp_path)
    small = {"backbone": "demo_clip", "frames": "demo", "prompts": "demo", "trainer": "demo"}
    edit(tmp_path / "params/dataset/own.yaml", pipeline=small)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _by_subject(findings: list[Finding], subject: str) -> list[Finding]:
    return [finding for finding in findings if finding.subject == subject]


def test_disk_and_time_are_estimated_from_what_this_machine_does(project: Path) -> None:
    findings = list(examine(compose(["dataset=own"])))
    assert {f.state for f in findings} == {State.OK, State.NOTE}
    assert "random" not in _by_subject(findings, "backbone")[0].message
    [disk] = _by_subject(findings, "disk")
    assert "measured on 6 of 7" in disk.message
    times = [f.message for f in _by_subject(findings, "time")]
    assert [t.split(":")[0] for t in times[:2]] == ["probing every video", "caching frames"]
    # supervised, base-to-novel with all videos, and 2 shots by 3 seeds
    clips = 24 * (400 + 350 + 3 * 150)
    assert any(t.startswith(f"ez_clip: 5 trainings of {clips:,} clips in all") for t in times)
    assert not (project / "cache").exists()  # looking leaves nothing behind


def test_what_is_missing_is_named_and_the_exit_status_says_so(project: Path) -> None:
    lists = {"train": "train.txt", "test": "test.txt"}
    own = project / "params/dataset/own.yaml"
    edit(own, sources__own__list=lists)
    (project / "data/own/train.txt").write_text("wave/0.mp4 0\nwave/gone.mp4 0\n")
    (project / "data/own/test.txt").write_text("wave/1.mp4 0\n")
    edit(own, published=[{"id": "few_shot/own@theirs", "lists": {"train": "theirs.txt"}}])
    result = CliRunner().invoke(app, ["doctor", "dataset=own", "--no-measure"])
    assert result.exit_code == 1
    assert (
        "own: 3 listed, 2 found, 1 missing (written to cache/manifest/own/missing.csv)"
        in result.output
    )
    assert "data/own/theirs.txt is named in the parameters and is not there" in result.output
    assert "`vidprompt activate own` adds it" in result.output
    assert "wave/gone.mp4" in (project / "cache/manifest/own/missing.csv").read_text("utf-8")


def test_no_folder_no_annotations_and_no_weights(project: Path) -> None:
    [videos] = _by_subject(list(examine(compose(["dataset=hmdb51"]))), "videos")
    assert videos.state is State.MISSING
    assert "data/hmdb51 is missing" in videos.message
    (project / "data/hmdb51").mkdir()
    [annotations] = _by_subject(list(examine(compose(["dataset=hmdb51"]))), "annotations")
    assert annotations.state is State.MISSING
    assert "testTrainMulti_7030_splits" in annotations.message
    [weights] = _by_subject(
        list(examine(compose(["backbone.weights=gone.safetensors"]))), "backbone"
    )
    assert (weights.state, "gone.safetensors is not there" in weights.message) == (
        State.MISSING,
        True,
    )


def test_videos_that_cannot_be_decoded_are_no_estimate(project: Path) -> None:
    for path in (project / "data/own").glob("*/?.mp4"):
        path.write_text("not a video")
    [disk] = _by_subject(list(examine(compose(["dataset=own"]))), "disk")
    assert disk.state is State.MISSING
    assert "none of the videos tried could be decoded" in disk.message


def test_stages_that_the_parameters_have_outgrown(project: Path) -> None:
    edit(project / "params/dataset/demo.yaml", protocols={})
    [pipeline] = _by_subject(list(examine(compose(["dataset=demo"]))), "pipeline")
    assert (pipeline.state, "run `vidprompt activate`" in pipeline.message) == (
        State.MISSING,
        True,
    )


def test_clips_of_a_training_by_its_length_and_its_batches(project: Path) -> None:
    def listed(label: str, count: int) -> list[Annotation]:
        rows = range(count)
        return [
            Annotation(f"c/{label}{i}", "ccvid", "p", "video", label, "", "train") for i in rows
        ]

    recipe = project / "params/recipe/released/ez_clip.yaml"
    ccvid, annotations = project / "params/dataset/ccvid.yaml", listed("a", 30) + listed("b", 20)
    edit(recipe, trainer__by_protocol__reid={"length": 7}, trainer__length="2 epochs")
    edit(project / "params/protocol/reid.yaml", people_per_batch=6, tracklets_per_person=4)
    edit(ccvid, protocols={"reid": {}})

    def clips(run: str) -> int:
        config = compose(["dataset=ccvid", "method=ez_clip", f"split={run}"])
        return estimate._clips(config, run, annotations)

    assert clips("reid") == 7 * 24
    edit(ccvid, protocols={"reid": {"people_per_batch": 16}}, roles={"recognition": "ccvid"})
    edit(recipe, trainer__by_protocol={}, trainer__batch_size=10)
    assert clips("supervised_split1") == 100
    assert (
        clips("few_shot_4shot_seed1") == 2 * 8 + 4
    )  # two classes × 4, rounded up to whole batches
    edit(ccvid, roles={"reid": "ccvid"})
    edit(recipe, trainer__by_protocol={"reid": {"length": 7}})
    assert clips("reid") == 7 * 64
    images = {"people_per_batch": 16, "image_model": {"length": 16}}  # of one frame, not of eight
    edit(ccvid, protocols={"reid": images})
    assert clips("reid") == (7 + 16 / 8) * 64


def test_a_copy_in_dvcs_cache_is_counted_unless_it_links(project: Path) -> None:
    frames = estimate.FrameCost(videos=10, probe_s=1, cache_s=1, cached_bytes=100, sampled=6)
    (project / ".dvc").mkdir()
    assert estimate.disk_needed(frames) == 2000
    (project / ".dvc/config").write_text("[cache]\n    type = hardlink,copy\n")
    assert estimate.disk_needed(frames) == 1000


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (89.4, "89 s"), (90, "2 min"), (5399, "90 min"), (5400, "1.5 h"), (172_800, "2.0 days")],
)  # fmt: skip
def test_durations_in_words(seconds: float, said: str) -> None:
    assert estimate.duration(seconds) == said
