"""Copies in a dataset: equal files across lists and labels, and one video encoded twice."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import pandas as pd
import pytest
from tests.data.make_videos import write_video

from vidprompt.data.checks.duplicates import duplicates_report, near_groups
from vidprompt.data.checks.validation import validate_dataset
from vidprompt.data.manifest.table import SCHEMA, read_manifest
from vidprompt.data.probe.picture_fingerprint import HEX_DIGITS
from vidprompt.data.probe.videos import probe_video
from vidprompt.data.splits.held_out import draw_beside_shots, draw_share
from vidprompt.data.splits.protocols import supervised
from vidprompt.system.errors import DataError


def manifest(**hashes: str) -> pd.DataFrame:
    """Videos named `<role>_<class>_<any>`, each a hash."""
    names = pd.Series(sorted(hashes))
    frame = pd.DataFrame({"video_id": "s/" + names, "path": names, "source": "s", "kind": "video"})
    frame["split1"], frame["label"] = names.str.split("_").str[0], names.str.split("_").str[1]
    frame["hash"] = [hashes[name] for name in names]
    frame["group"] = frame["split2"] = frame["split3"] = frame["detail"] = frame["fingerprint"] = ""
    frame["size"], frame["n_frames"], frame["duration"] = 1000, 16, 2.0
    frame["width"], frame["height"], frame["health"] = 64, 64, "ok"
    return frame


def failed(rows: pd.DataFrame, **severity: str) -> dict[str, dict[str, Any]]:
    splits = {"supervised_split1": supervised(rows, "s", 1)}
    classes = {"s": sorted(rows["label"].unique())}
    report = validate_dataset(
        rows, splits, classes=classes, min_frames=8, expected={}, severity=severity
    )
    return {one["name"]: one for one in report["expectations"] if not one["success"]}


def test_a_file_in_training_and_test_is_an_error_and_other_copies_are_warnings() -> None:
    rows = manifest(train_a_1="x", train_a_2="y", train_b_1="z", test_a_1="x", test_b_1="w")
    faults = failed(rows)
    assert faults["split_contents_apart"]["severity"] == "error"
    assert faults["split_contents_apart"]["examples"] == [
        "s/test_a_1: supervised_split1 tests.test: the same file as s/train_a_1 (train)"
    ]
    assert faults["contents_unique"]["severity"] == "warn"
    assert set(faults) == {"split_contents_apart", "contents_unique"}
    assert failed(rows, split_contents_apart="warn")["split_contents_apart"]["severity"] == "warn"


def test_a_file_with_two_labels_is_a_warning_that_names_both() -> None:
    rows = manifest(train_a_1="x", train_b_1="x", train_b_2="y", test_a_1="u", test_b_1="v")
    faults = failed(rows)
    assert set(faults) == {"contents_one_label", "contents_unique"}
    assert faults["contents_one_label"]["examples"] == [
        "s/train_a_1: a, the same file as s/train_b_1, b",
        "s/train_b_1: b, the same file as s/train_a_1, a",
    ]


def test_broken_and_unhashed_videos_are_no_copies() -> None:
    rows = manifest(train_a_1="x", train_b_1="", train_b_2="", test_a_1="x", test_b_1="v")
    rows.loc[rows["hash"] == "x", "health"] = "not_a_video"
    assert set(failed(rows, broken_share="warn")) == {"broken_share", "lists_classes"}


def test_copies_are_held_out_together() -> None:
    rows = manifest(**{f"train_a_{i}": f"h{i // 3}" for i in range(9)})
    held = draw_share(rows, 0.34, 1)
    assert len(held) == 3
    assert rows.loc[rows["video_id"].isin(held), "hash"].nunique() == 1
    shots = ["s/train_a_0"]
    assert not draw_beside_shots(rows, shots, 9, 1) & {"s/train_a_1", "s/train_a_2"}
    one_each = rows.assign(hash=[f"h{i}" for i in range(9)])
    assert draw_share(one_each, 0.34, 1) == draw_share(rows.drop(columns="hash"), 0.34, 1)


def test_a_video_encoded_again_is_reported_and_others_are_not(tmp_path: Path) -> None:
    ffmpeg = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i"]
    rows = []
    for seed in range(4):
        path = write_video(
            tmp_path / f"{seed}.mp4", n=40, height=96, width=128, kind="h264.mp4", seed=seed
        )
        rows.append(path)
    again = tmp_path / "again.avi"
    worse = ["-vf", "scale=96:72", "-c:v", "mpeg4", "-q:v", "12"]
    subprocess.run([*ffmpeg, rows[0], *worse, again], check=True)
    shutil.copy(rows[1], tmp_path / "copy.mp4")
    rows += [again, tmp_path / "copy.mp4"]
    probes = [probe_video(path, 8) for path in rows]
    frame = pd.DataFrame([vars(probe) for probe in probes])
    frame["video_id"], frame["source"], frame["label"] = [p.name for p in rows], "s", "a"
    frame["split1"] = ["train"] * 4 + ["test"] * 2
    report = duplicates_report(frame)
    assert report["near"]["first"] == [["0.mp4", "again.avi"]]
    assert report["exact"]["first"] == [["1.mp4", "copy.mp4"]]
    assert report["exact"]["in_training_and_test"] == report["near"]["in_training_and_test"] == 1
    assert all(len(probe.fingerprint) == HEX_DIGITS for probe in probes)


def test_many_videos_take_seconds() -> None:
    rng = np.random.default_rng(0)
    prints = [rng.bytes(HEX_DIGITS // 2).hex() for _ in range(3000)]
    prints += [prints[7], *["00" * (HEX_DIGITS // 2)] * 3000]  # and a bucket of thousands
    groups = near_groups(prints, np.ones(len(prints)))
    assert groups[0] == [7, 3000]
    assert [len(group) for group in groups] == [2, 3000]


def test_a_manifest_of_another_version_is_refused(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    older = pa.schema([field for field in SCHEMA if field.name != "fingerprint"])
    (tmp_path / "own").mkdir()
    pq.write_table(older.empty_table(), tmp_path / "own/manifest.parquet")
    with pytest.raises(DataError, match=r"no fingerprint\): build it again.*manifest dataset=own"):
        read_manifest(tmp_path / "own/manifest.parquet")
