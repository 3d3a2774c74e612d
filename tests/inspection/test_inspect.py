"""`vidprompt inspect`: what FiftyOne gets, as a dataset and as a folder that it imports."""

from __future__ import annotations

import json
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from tests.inspection.stand_in import modules
from tests.metrics.results_on_disk import complete
from typer.testing import CliRunner

from vidprompt.cli.main import app
from vidprompt.data.manifest.table import SCHEMA, write_manifest
from vidprompt.data.splits.split_file import Subset
from vidprompt.inference.feature_store import write_features
from vidprompt.inspection.app import build, load_fiftyone
from vidprompt.inspection.export import export
from vidprompt.inspection.videos import Inspection, embeddings, field_name, inspect_results
from vidprompt.metrics.predictions import PredictionsFile, tabulate
from vidprompt.system.errors import DataError, UserError

ROOT = Path(__file__).parents[2]
RUN = "supervised_split1"
NAMES = [f"actions/v{i}.mp4" for i in range(9)]
LABELS = [i % 3 for i in range(9)]
METHODS = {"ez_clip": {1}, "vita_clip": {1, 4, 5}}  # the videos that each gets wrong


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two methods on nine videos of three classes, with features of four numbers."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "params", tmp_path / "params")
    for name in NAMES:
        file = tmp_path / "cache/unpacked/demo" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    rows = [
        {"video_id": name, "path": name, "duration": 1.5, "fps": None, "width": 64, "height": 48}
        for name in NAMES
    ]
    (tmp_path / "cache/manifest/demo").mkdir(parents=True)
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    write_manifest(table, tmp_path / "cache/manifest/demo/manifest.parquet")
    test = Subset(["a", "b", "c"], NAMES, LABELS)
    for k, (method, wrong) in enumerate(METHODS.items()):
        scores = np.full((9, 3), 0.1, np.float32)
        for i, label in enumerate(LABELS):
            scores[i, label] = 0.2
            scores[i, (label + (i in wrong)) % 3] = 0.8
        found = tabulate(RUN, "test", test, np.arange(9), scores, {})
        predictions = tmp_path / f"cache/predictions/demo/{method}/supervised.parquet"
        predictions.parent.mkdir(parents=True)
        with PredictionsFile(predictions, []) as file:
            file.write_table(found)
        top1 = {"value": round(1 - len(wrong) / 9, 6)}
        tests = {"test": {"n": 9, "listed": 9, "coverage": 1.0, "top1": top1}}
        given = {"method": method, "n": 9, "summary": {"supervised": {"top1": top1}}}
        content = complete(given | {"splits": {RUN: {"id": RUN, "run": RUN, "tests": tests}}})
        out = tmp_path / f"results/demo/{method}/supervised/metrics.json"
        out.parent.mkdir(parents=True)
        out.write_text(json.dumps(content), encoding="utf-8")
        vectors = np.random.default_rng(k).normal(size=(9, 2, 4)).astype(np.float32)
        folder = tmp_path / f"cache/features/demo/{method}/{RUN}"
        write_features(folder, NAMES[::-1], vectors[::-1], {}, 1.0)
    return tmp_path


BOTH = ("demo/ez_clip/supervised", "demo/vita_clip/supervised")


def test_a_video_has_its_class_predictions_and_tags(project: Path) -> None:
    found = inspect_results(BOTH)
    assert [video.video_id for video in found.videos] == NAMES
    assert found.errors == {"ez_clip": 1, "vita_clip": 3}
    fourth = found.videos[4]
    assert fourth.path == project / "cache/unpacked/demo/actions/v4.mp4"
    assert (fourth.label, fourth.numbers) == ("b", {"duration": 1.5, "width": 64, "height": 48})
    assert fourth.tags == ["right: ez_clip", f"{RUN}/test", "wrong: vita_clip"]
    wrong = fourth.predictions["vita_clip"]
    assert (wrong.label, wrong.rank, wrong.confidence) == ("c", 2, pytest.approx(0.8))


def check_dataset(dataset: object, found: Inspection) -> None:
    """What both ways give."""
    assert dataset.info == {"fields": ["ez_clip", "vita_clip"], "errors": found.errors}
    assert [len(dataset.views[f"wrong {name}"].samples) for name in METHODS] == [1, 3]
    assert dataset.evaluations == {
        "eval_ez_clip": ("ez_clip", 9),
        "eval_vita_clip": ("vita_clip", 9),
    }
    fourth = dataset.samples[4].fields
    assert fourth["ground_truth"] == {"label": "b"}
    assert fourth["vita_clip"] == {"label": "c", "confidence": 0.8, "rank": 2}
    stored = embeddings(found.fields[1], found)
    assert stored is not None
    assert np.allclose(fourth["vita_clip_embedding"], stored.vectors(NAMES)[4])
    assert np.allclose(dataset.maps["map_vita_clip"], stored.points(NAMES))


def test_the_dataset_by_the_librarys_own_calls(project: Path) -> None:
    fo, brain = modules()
    found = inspect_results(BOTH)
    check_dataset(build(found, fo, brain), found)


def test_the_folder_is_imported_by_its_script(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = inspect_results(BOTH)
    export(found, project / "errors")
    export(found, project / "errors")  # an earlier one is replaced
    fo, brain = modules()
    monkeypatch.setitem(sys.modules, "fiftyone", fo)
    monkeypatch.setitem(sys.modules, "fiftyone.brain", brain)
    runpy.run_path(str(project / "errors/open.py"), run_name="__main__")
    [dataset] = fo.shown
    check_dataset(dataset, found)
    (project / "other").mkdir()
    (project / "other/mine.txt").touch()
    with pytest.raises(UserError, match="other has files that are no earlier export"):
        export(found, project / "other")


def test_a_map_shows_the_first_two_principal_components(project: Path) -> None:
    [one] = inspect_results(BOTH[:1]).fields
    stored = embeddings(one, inspect_results(BOTH[:1]))
    assert stored is not None
    vectors = stored.vectors(NAMES).astype(np.float64)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    centred = vectors - vectors.mean(0)
    left, sizes, _ = np.linalg.svd(centred)
    assert np.allclose(np.abs(stored.points(NAMES)), np.abs(left[:, :2] * sizes[:2]), atol=1e-5)


def test_without_features_there_is_no_map(project: Path, caplog: pytest.LogCaptureFixture) -> None:
    shutil.rmtree(project / "cache/features/demo/vita_clip")
    found = inspect_results(BOTH)
    export(found, project / "errors")
    assert [file.stem for file in (project / "errors/points").iterdir()] == ["ez_clip"]
    assert "vita_clip has no embeddings" in caplog.text


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["demo/ez_clip/supervised", "ucf101/ez_clip/supervised"], "one dataset at a time"),
        (["demo/ez_clip/reid"], "re-identification predicts no class"),
        (["demo/ez_clip/supervised@HEAD"], "check the revision out"),
        (["demo/ez_clip/supervised"] * 2, "is named twice"),
        (["demo/ez_clp/supervised"], "did you mean demo/ez_clip/supervised"),
    ],
)
def test_what_cannot_be_shown_is_one_sentence(
    project: Path, names: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        inspect_results(names)


def test_missing_videos_are_named(project: Path) -> None:
    (project / "cache/unpacked/demo" / NAMES[2]).unlink()
    with pytest.raises(DataError, match=r"1 of 9 videos are not there, .*v2.mp4"):
        inspect_results(BOTH)


def test_fields_are_named_by_method_and_where_there_are_several_by_test() -> None:
    assert field_name(["ez_clip", "few_shot_8shot_seed1", "test"]) == "ez_clip_few_shot_8shot_seed1"
    assert field_name(["ez_clip", "base_to_novel_16shot_seed1", "novel"]).endswith("_novel")
    assert field_name(["my-method"]) == "my_method"


def test_the_command_exports_and_says_what_is_missing_otherwise(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = CliRunner().invoke(app, ["inspect", *BOTH, "--export", "errors"])
    assert shown.exit_code == 0, shown.output
    assert "vita_clip: 3 of 9 wrong" in shown.output
    monkeypatch.setitem(sys.modules, "fiftyone", None)
    with pytest.raises(UserError, match=r"pip install 'vidprompt\[inspect\]'.*--export DIR"):
        load_fiftyone()
