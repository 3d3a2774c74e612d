"""Planted faults are each caught by the expectation that is about them, and by no other."""

from __future__ import annotations

import copy
import errno
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from vidprompt.data.checks import validation
from vidprompt.data.checks.tables import classes_table, training_of, videos_table
from vidprompt.data.checks.validation import first_failures, validate_dataset
from vidprompt.data.splits.split_file import Split, Subset
from vidprompt.system.errors import DataError
from vidprompt.system.machine_errors import DiskFullError

ACTIONS = ["jump", "run", "sit", "wave"]
Splits = dict[str, dict[str, Any]]
Fault = Callable[[pd.DataFrame, Splits], None]


def _manifest() -> pd.DataFrame:
    rows = []
    for label in ACTIONS:
        for group in range(1, 7):
            role = "test" if group <= 2 else "train"
            rows.append(("actions", label, f"g{group:02d}", role, 0))
    rows += [("transfer", label, "", "test", 0) for label in ("clap", "kick") for _ in range(2)]
    rows += [
        ("people", person, person, role, camera)
        for person, role in (("p1", "train"), ("p2", "query"), ("p3", "gallery"))
        for camera in (0, 1)
    ]
    frame = pd.DataFrame(rows, columns=["source", "label", "group", "split1", "camera"])
    number = frame.groupby(["source", "label"]).cumcount().astype(str)
    frame["video_id"] = frame["source"] + "/" + frame["label"] + "_" + number
    frame["path"] = frame["video_id"] + ".mp4"
    frame["kind"] = "video"
    frame["split2"] = frame["split3"] = ""
    frame["clothes"] = frame["detail"] = ""
    frame["size"], frame["n_frames"], frame["duration"], frame["fps"] = 1000, 16, 2.0, 8.0
    frame["width"] = frame["height"] = 64
    frame["codec"], frame["health"], frame["exact"] = "h264", "ok", True
    return frame.sort_values("video_id").reset_index(drop=True)


def _listed(manifest: pd.DataFrame, classes: list[str], keep: pd.Series) -> dict[str, Any]:
    rows = manifest[keep & manifest["label"].isin(classes)]
    labels = [classes.index(label) for label in rows["label"]]
    return {"classes": classes, "videos": rows["video_id"].tolist(), "labels": labels}


def _splits(manifest: pd.DataFrame) -> Splits:
    action = manifest["source"] == "actions"
    train = action & manifest["group"].isin(["g03", "g04"])
    val, test = action & (manifest["group"] == "g05"), action & (manifest["split1"] == "test")
    base, novel = ["run", "wave"], ["jump", "sit"]
    person, moved = manifest["source"] == "people", manifest["source"] == "transfer"
    return {
        "base_to_novel_2shot_seed1": {
            "id": "base_to_novel/demo@2shot-seed1",
            "protocol": "base_to_novel",
            "run": "base_to_novel_2shot_seed1",
            "train": _listed(manifest, base, train),
            "val": _listed(manifest, base, val),
            "tests": {
                "base": _listed(manifest, base, test),
                "novel": _listed(manifest, novel, test),
            },
        },
        "supervised_split1": {
            "id": "supervised/demo",
            "protocol": "supervised",
            "run": "supervised",
            "train": _listed(manifest, ACTIONS, train),
            "val": _listed(manifest, ACTIONS, val),
            "tests": {"test": _listed(manifest, ACTIONS, test)},
        },
        "zero_shot_transfer": {
            "id": "zero_shot/transfer",
            "protocol": "zero_shot",
            "run": "supervised",  # names the run, not the file: both are understood
            "train": None,
            "val": None,
            "tests": {"test": _listed(manifest, ["clap", "kick"], moved)},
        },
        "reid_general": {
            "id": "reid/demo/general",
            "protocol": "reid",
            "run": "reid_general",
            "train": _listed(manifest, ["p1"], person),
            "val": None,
            "tests": {
                "query": _listed(manifest, ["p2"], person),
                "gallery": _listed(manifest, ["p3"], person),
            },
        },
    }


def _typed(splits: Splits) -> dict[str, Split]:
    return {name: Split.from_json(split) for name, split in splits.items()}


def _validate(manifest: pd.DataFrame, splits: Splits, **changes: Any) -> dict[str, Any]:
    options: dict[str, Any] = {
        "classes": {
            "actions": ACTIONS,
            "transfer": ["clap", "kick"],
            "people": ["p1", "p2", "p3"],
        },
        "min_frames": 8,
        "expected": {"videos": 34, "videos.actions": 24, "tests.reid_general.query": 2},
        "severity": {},
        **changes,
    }
    return validate_dataset(manifest, _typed(splits), **options)


def _failed(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {entry["name"]: entry for entry in report["expectations"] if not entry["success"]}


@pytest.fixture
def clean() -> tuple[pd.DataFrame, Splits]:
    manifest = _manifest()
    return manifest, _splits(manifest)


def test_clean_set_passes_and_one_broken_video_is_reported(
    clean: tuple[pd.DataFrame, Splits], tmp_path: Path
) -> None:
    manifest, splits = clean
    broken = {"health": "truncated", "detail": "ends early", "n_frames": 0, "duration": 0.0}
    for column, value in broken.items():
        _set(manifest, "actions/jump_5", column, value)
    report = _validate(manifest, splits, docs=tmp_path / "docs")
    assert report["success"]
    assert _failed(report) == {}
    assert first_failures(report) == []
    assert report["health"] == {"ok": 33, "truncated": 1}
    assert report["broken"] == [
        {"video_id": "actions/jump_5", "reason": "truncated", "detail": "ends early"}
    ]
    checked = {entry["name"]: entry["checked"] for entry in report["expectations"]}
    assert list(checked) == sorted(checked)
    assert checked == {
        "base_novel_apart": 2,
        "broken_share": 34,
        "contents_one_label": 34,
        "contents_unique": 34,
        "duration_in_range": 33,
        "expected_counts": 3,
        "frames_enough": 33,
        "groups_apart_split1": 30,
        "groups_apart_split2": 0,
        "groups_apart_split3": 0,
        "height_in_range": 33,
        "label_known": 34,
        "lists_classes": 6,
        "lists_not_empty": 9,
        "path_unique": 34,
        "roles_known": 34,
        "shots_exact": 2,
        "shots_usable": 44,
        "size_in_range": 33,
        "split_contents_apart": 44,
        "split_groups_apart": 44,
        "split_labels_match": 44,
        "split_runs_known": 1,
        "split_videos_apart": 44,
        "split_videos_known": 44,
        "split_videos_once": 44,
        "video_id_unique": 34,
        "width_in_range": 33,
        "zero_shot_apart": 2,
    }
    assert (tmp_path / "docs" / "index.html").is_file()
    assert str(tmp_path) not in json.dumps(report)
    moved = manifest.sample(frac=1, random_state=0)  # the order of rows does not matter
    assert json.dumps(_validate(moved, splits)) == json.dumps(report)


def _set(manifest: pd.DataFrame, video: str, column: str, value: Any) -> None:
    assert (manifest["video_id"] == video).sum() == 1
    manifest.loc[manifest["video_id"] == video, column] = value


def _duplicate_path(manifest: pd.DataFrame, splits: Splits) -> None:
    _set(manifest, "people/p1_0", "path", "people/p1_1.mp4")


def _duplicate_video(manifest: pd.DataFrame, splits: Splits) -> None:
    _set(manifest, "people/p1_0", "video_id", "people/p1_1")
    for part in ("videos", "labels"):
        del splits["reid_general"]["train"][part][0]


def _wrong_label(manifest: pd.DataFrame, splits: Splits) -> None:
    _set(manifest, "actions/sit_5", "label", "clap")  # a class, but of another source


def _few_frames(manifest: pd.DataFrame, splits: Splits) -> None:
    _set(manifest, "people/p2_1", "n_frames", 7)


def _no_duration(manifest: pd.DataFrame, splits: Splits) -> None:
    _set(manifest, "actions/sit_0", "duration", float("nan"))


def _no_size(manifest: pd.DataFrame, splits: Splits) -> None:
    _set(manifest, "actions/sit_0", "size", 0)


def _odd_role(manifest: pd.DataFrame, splits: Splits) -> None:
    _set(manifest, "transfer/clap_0", "split2", "trian")


def _leaking_official_group(manifest: pd.DataFrame, splits: Splits) -> None:
    manifest.loc[manifest["label"] == "jump", "split3"] = ["train"] * 5 + ["test"]
    manifest.loc[(manifest["label"] == "sit") & (manifest["group"] == "g06"), "split3"] = "train"


def _too_many_broken(manifest: pd.DataFrame, splits: Splits) -> None:
    for person in ("p2", "p3"):
        _set(manifest, f"people/{person}_0", "health", "empty")


def _unknown_video(manifest: pd.DataFrame, splits: Splits) -> None:
    splits["supervised_split1"]["val"]["videos"][0] = "actions/gone"


def _listed_twice(manifest: pd.DataFrame, splits: Splits) -> None:
    test = splits["zero_shot_transfer"]["tests"]["test"]
    test["videos"].append(test["videos"][0])
    test["labels"].append(test["labels"][0])


def _wrong_index(manifest: pd.DataFrame, splits: Splits) -> None:
    splits["zero_shot_transfer"]["tests"]["test"]["labels"][0] = 1


def _leaking_video(manifest: pd.DataFrame, splits: Splits) -> None:
    test, train = (splits["supervised_split1"][part] for part in ("tests", "train"))
    _set(manifest, "actions/jump_2", "group", "")  # without a group only the video tells
    assert "actions/jump_2" in train["videos"]
    test["test"]["videos"].append("actions/jump_2")
    test["test"]["labels"].append(0)


def _leaking_val(manifest: pd.DataFrame, splits: Splits) -> None:
    split = splits["supervised_split1"]
    split["val"]["videos"][0] = split["train"]["videos"][0]
    _set(manifest, split["val"]["videos"][0], "group", "")  # without a group only the video tells


def _leaking_val_group(manifest: pd.DataFrame, splits: Splits) -> None:
    split = splits["supervised_split1"]
    _set(manifest, split["val"]["videos"][0], "group", "g03")  # trained on


def _tested_val(manifest: pd.DataFrame, splits: Splits) -> None:
    split = splits["supervised_split1"]
    split["val"]["videos"][0] = split["tests"]["test"]["videos"][0]
    _set(manifest, split["val"]["videos"][0], "group", "")


def _held_out_person(manifest: pd.DataFrame, splits: Splits) -> None:
    people, persons = manifest["source"] == "people", ["p1"]
    splits["reid_general"]["val"] = _listed(manifest, persons, people)
    train = splits["reid_general"]["train"]
    del train["videos"][1], train["labels"][1]  # one tracklet of the person is left in train
    del splits["reid_general"]["val"]["videos"][0], splits["reid_general"]["val"]["labels"][0]


def _novel_val(manifest: pd.DataFrame, splits: Splits) -> None:
    val = splits["base_to_novel_2shot_seed1"]["val"]
    val["classes"] = [*val["classes"], "sit"]


def _leaking_group(manifest: pd.DataFrame, splits: Splits) -> None:
    for column in ("split1", "split2", "split3"):
        _set(manifest, "actions/wave_1", column, "")
    _set(manifest, "actions/wave_1", "group", "g05")  # tested, and val has g05


def _base_and_novel(manifest: pd.DataFrame, splits: Splits) -> None:
    splits["base_to_novel_2shot_seed1"]["tests"]["novel"]["classes"].append("run")


def _seen_class(manifest: pd.DataFrame, splits: Splits) -> None:
    splits["supervised_split1"]["train"]["classes"] = [*ACTIONS, "kick"]


def _wrong_shots(manifest: pd.DataFrame, splits: Splits) -> None:
    train = splits["base_to_novel_2shot_seed1"]["train"]
    assert train["labels"].pop() == 1
    train["videos"].pop()


def _broken_shot(manifest: pd.DataFrame, splits: Splits) -> None:
    video = splits["base_to_novel_2shot_seed1"]["train"]["videos"][0]
    _set(manifest, video, "health", "truncated")


def _unknown_run(manifest: pd.DataFrame, splits: Splits) -> None:
    splits["zero_shot_transfer"]["run"] = "elsewhere"


def _missing_video(manifest: pd.DataFrame, splits: Splits) -> None:
    row = manifest.index[manifest["video_id"] == "actions/jump_5"]
    manifest.drop(index=row, inplace=True)


FAULTS: list[tuple[Fault, str, int, str]] = [
    (
        _broken_shot,
        "shots_usable",
        1,
        "actions/run_2: base_to_novel_2shot_seed1 train: truncated, yet drawn",
    ),
    (
        _duplicate_path,
        "path_unique",
        2,
        "people/p1_0: people/p1_1.mp4 is listed more than once",
    ),
    (
        _duplicate_video,
        "video_id_unique",
        2,
        "people/p1_1: listed more than once, here as people/p1_0.mp4",
    ),
    (
        _wrong_label,
        "label_known",
        1,
        "actions/sit_5: label 'clap' is not a class of actions",
    ),
    (_few_frames, "frames_enough", 1, "people/p2_1: 7 frames, fewer than 8"),
    (_no_duration, "duration_in_range", 1, "actions/sit_0: duration nan s, not above 0"),
    (_no_size, "size_in_range", 1, "actions/sit_0: size 0 bytes, not above 0"),
    (_odd_role, "roles_known", 1, "transfer/clap_0: split2=trian is not an official role"),
    (
        _leaking_official_group,
        "groups_apart_split3",
        2,
        "actions/jump_5: group g06 of actions is on both sides of split3",
    ),
    (_too_many_broken, "broken_share", 2, "people/p2_0: empty"),
    (
        _unknown_video,
        "split_videos_known",
        1,
        "actions/gone: supervised_split1 val: not in the manifest",
    ),
    (
        _listed_twice,
        "split_videos_once",
        2,
        "transfer/clap_0: zero_shot_transfer tests.test: more than once",
    ),
    (
        _wrong_index,
        "split_labels_match",
        1,
        "transfer/clap_0: zero_shot_transfer tests.test: labelled 'kick', annotated 'clap'",
    ),
    (
        _leaking_video,
        "split_videos_apart",
        1,
        "actions/jump_2: supervised_split1 tests.test: also in train",
    ),
    (
        _leaking_val,
        "split_videos_apart",
        1,
        "actions/jump_2: supervised_split1 val: also in train",
    ),
    (
        _leaking_val_group,
        "split_groups_apart",
        1,
        "actions/jump_4: supervised_split1 val: group actions/g03 is also in train",
    ),
    (
        _tested_val,
        "split_videos_apart",
        1,
        "actions/jump_0: supervised_split1 tests.test: also in val",
    ),
    (
        _held_out_person,
        "split_groups_apart",
        1,
        "people/p1_1: reid_general val: group people/p1 is also in train",
    ),
    (
        _novel_val,
        "base_novel_apart",
        1,
        "base_to_novel_2shot_seed1: class 'sit' is both base and novel",
    ),
    (
        _leaking_group,
        "split_groups_apart",
        2,
        "actions/wave_1: base_to_novel_2shot_seed1 tests.base: group actions/g05 is also in val",
    ),
    (
        _base_and_novel,
        "base_novel_apart",
        1,
        "base_to_novel_2shot_seed1: class 'run' is both base and novel",
    ),
    (
        _seen_class,
        "zero_shot_apart",
        1,
        "zero_shot_transfer: class 'kick' was trained on in supervised_split1",
    ),
    (
        _wrong_shots,
        "shots_exact",
        1,
        "base_to_novel_2shot_seed1: class 'wave' has 1 videos, not 2",
    ),
    (
        _unknown_run,
        "split_runs_known",
        1,
        "zero_shot_transfer: no training split is called 'elsewhere'",
    ),
    (_missing_video, "expected_counts", 2, "videos.actions: 23, not 24"),
]


@pytest.mark.parametrize(
    ("fault", "name", "failed", "example"), FAULTS, ids=[fault[0].__name__ for fault in FAULTS]
)
def test_planted_fault_is_caught_by_its_expectation_alone(
    clean: tuple[pd.DataFrame, Splits], fault: Fault, name: str, failed: int, example: str
) -> None:
    manifest, splits = clean
    splits = copy.deepcopy(splits)
    fault(manifest, splits)
    expected = {"videos": 34, "videos.actions": 24}
    report = _validate(manifest, splits, expected=expected)
    assert not report["success"]
    found = _failed(report)
    assert list(found) == [name]
    assert found[name]["failed"] == failed
    assert example in found[name]["examples"]
    (sentence,) = first_failures(report)
    assert sentence.startswith(f"{name}: {failed} of {found[name]['checked']}, first ")


def test_report_of_a_bad_set_is_identical_bytes_and_warnings_do_not_fail(
    clean: tuple[pd.DataFrame, Splits],
) -> None:
    manifest, splits = clean
    manifest["n_frames"] = 3
    severity = {"frames_enough": "warn"}
    first = _validate(manifest, splits, severity=severity)
    second = _validate(manifest, splits, severity=severity)
    assert json.dumps(first) == json.dumps(second)
    assert first["success"]
    assert first_failures(first) == []
    assert len(_failed(first)["frames_enough"]["examples"]) == 5
    (sentence,) = first_failures(first, "warn")
    assert sentence == ("frames_enough: 34 of 34, first actions/jump_0: 3 frames, fewer than 8.")


def test_manifest_without_splits(clean: tuple[pd.DataFrame, Splits]) -> None:
    report = _validate(clean[0], {}, expected={"videos.elsewhere": 5})
    assert list(_failed(report)) == ["expected_counts"]
    assert report["expectations"][0]["checked"] == 0


def test_counts_of_splits_left_out_are_left_out_and_misspelt_ones_are_not(
    clean: tuple[pd.DataFrame, Splits],
) -> None:
    manifest, splits = clean
    expected = {
        "videos": 34,
        "tests.supervised_split1.test": len(splits["supervised_split1"]["tests"]["test"]["videos"]),
        "train.supervised_split2": 9586,
        "tests.supervised_split3.test": 3696,
        "tests.zero_shot_half0.test": 5,
        "tests.reid.query": 834,
    }
    report = _validate(manifest, splits, expected=expected)
    assert _failed(report) == {}
    counted = next(e for e in report["expectations"] if e["name"] == "expected_counts")
    assert counted["checked"] == 2
    # what is built is counted, a list that it does not have too
    wrong = {"tests.supervised_split1.test": 1, "tests.supervised_split1.tset": 8}
    failed = _failed(_validate(manifest, splits, expected=wrong))["expected_counts"]
    assert failed["failed"] == 2
    assert "tests.supervised_split1.tset: 0, not 8" in failed["examples"]
    for name in ("train.supervised_spilt2", "tests.supervised_split4.test", "val.reid_genral"):
        with pytest.raises(DataError, match="No split is called '.*, as the expected count"):
            _validate(manifest, splits, expected={name: 1})


def test_what_is_held_out_of_an_official_list_is_counted_with_it(
    clean: tuple[pd.DataFrame, Splits],
) -> None:
    manifest, splits = clean
    # train has groups 3 and 4 and val group 5, of four classes; the shots' list is whole without val
    expected = {"train.supervised_split1": 12, "val.supervised_split1": 4}
    expected |= {"train.base_to_novel_2shot_seed1": 4, "val.base_to_novel_2shot_seed1": 2}
    assert _failed(_validate(manifest, splits, expected=expected)) == {}
    # and a published list, whose name no draw has, is as it is listed
    splits["supervised_published"] = splits.pop("supervised_split1")
    expected = {"train.supervised_published": 8, "val.supervised_published": 4}
    assert _failed(_validate(manifest, splits, expected=expected)) == {}


def test_what_cannot_be_judged_is_refused(clean: tuple[pd.DataFrame, Splits]) -> None:
    manifest, splits = clean
    with pytest.raises(DataError, match="no column group, health"):
        _validate(manifest.drop(columns=["group", "health"]), splits)
    with pytest.raises(DataError, match="no videos"):
        _validate(manifest.iloc[:0], splits)
    with pytest.raises(DataError, match="No such expected count: 'video'"):
        _validate(manifest, splits, expected={"video": 1})
    with pytest.raises(DataError, match="No expectation is called 'frames'"):
        _validate(manifest, splits, severity={"frames": "warn"})
    with pytest.raises(DataError, match="use warn or error"):
        _validate(manifest, splits, severity={"frames_enough": "off"})
    splits["zero_shot_transfer"]["tests"]["test"]["labels"].pop()
    with pytest.raises(DataError, match=r"zero_shot_transfer, tests\.test: 4 videos but 3 labels"):
        _validate(manifest, splits)


def test_training_of_finds_the_split_by_file_or_by_run(
    clean: tuple[pd.DataFrame, Splits],
) -> None:
    splits = clean[1]
    found = training_of("zero_shot_transfer", _typed(splits))
    assert found is not None
    assert found.key == "supervised_split1"
    splits["zero_shot_transfer"]["run"] = "reid_general"
    found = training_of("zero_shot_transfer", _typed(splits))
    assert found is not None
    assert found.key == "reid_general"
    assert found.val is None
    splits["zero_shot_transfer"]["run"] = None
    assert training_of("zero_shot_transfer", _typed(splits)) is None


def test_groups_are_a_sources_own(clean: tuple[pd.DataFrame, Splits]) -> None:
    manifest = clean[0]
    manifest.loc[manifest["source"] == "transfer", "group"] = "g06"  # actions trains on its g06
    assert (videos_table(manifest)["split1_sides"].dropna() == 1).all()


def test_what_was_measured_has_to_lie_in_its_range(clean: tuple[pd.DataFrame, Splits]) -> None:
    manifest, splits = clean
    ranges = {"duration_s": [0.5, 12], "size_bytes": [1000, None], "width_px": [None, 64]}
    assert _failed(_validate(manifest, splits, ranges=ranges)) == {}
    _set(manifest, "actions/sit_0", "duration", 12.5)
    _set(manifest, "actions/sit_1", "size", 999)
    _set(manifest, "actions/sit_2", "width", 65)
    report = _validate(manifest, splits, ranges=ranges, severity={"duration_in_range": "warn"})
    assert set(_failed(report)) == {"duration_in_range", "size_in_range", "width_in_range"}
    assert first_failures(report, "warn") == [
        "duration_in_range: 1 of 34, first actions/sit_0: duration 12.5 s, not within 0.5 and 12."
    ]
    assert first_failures(report) == [
        "size_in_range: 1 of 34, first actions/sit_1: size 999 bytes, not at least 1000.",
        "width_in_range: 1 of 34, first actions/sit_2: width 65 px, not within 0 and 64.",
    ]
    with pytest.raises(
        DataError,
        match="unknown 'duration': .* valid: duration_s, size_bytes",
    ):
        _validate(manifest, splits, ranges={"duration": [0, 1]})
    with pytest.raises(DataError, match="give .least, most."):
        _validate(manifest, splits, ranges={"duration_s": [1]})


def test_published_shots_may_be_more_or_fewer_than_the_name_says() -> None:
    train = Subset(["a", "b"], ["v1", "v2", "v3"], [0, 0, 1])
    for key, counted in (("few_shot_2shot_seed1", 2), ("few_shot_published_2shot", 0)):
        split = Split(f"few_shot/d@{key}", "few_shot", key, train)
        assert classes_table({key: split})["shots"].notna().sum() == counted


class _FullDisk:
    """Stands for Great Expectations, which logs an error of a page and goes on."""

    def add_data_docs_site(self, *_: object) -> None:
        pass

    def build_data_docs(self, **_: object) -> None:
        logger = logging.getLogger("great_expectations.render.renderer.site_builder")
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError as error:
            logger.error(f"An unexpected Exception occurred. Traceback: {error}")


def test_pages_that_cannot_be_written_are_one_sentence(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(DiskFullError, match="docs cannot be written: No space left on device"):
        validation._write_docs(_FullDisk(), tmp_path / "docs")
    assert list(tmp_path.iterdir()) == []
    assert not caplog.records
