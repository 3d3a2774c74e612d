"""Something-Something v2's JSON lists, with their traps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vidprompt.data.annotations.base import Annotation, Source
from vidprompt.data.annotations.ssv2 import read_ssv2
from vidprompt.system.errors import DataError

LABELS = {
    "Something falling like a feather or paper": "2",
    "Moving part of something": "0",
    "Pretending to put something on a surface": "1",
}


def entry(video: Any, template: str) -> dict[str, Any]:
    return {"id": video, "label": "filled in", "template": template, "placeholders": ["it"]}


TRAIN = [
    entry("78687", "[Something] falling like a feather or paper"),
    entry("9", "Moving [part] of [something]"),
]
VALIDATION = [entry("10", "Pretending to put [something] on a surface")]


def write(folder: Path, prefix: str = "", **changed: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    parts = {"train": TRAIN, "validation": VALIDATION, "labels": LABELS, **changed}
    for part, content in parts.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / f"{prefix}{part}.json").write_text(text)


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")


def test_templates_are_classes_in_the_order_of_their_ids(tmp_path: Path) -> None:
    write(tmp_path / "annotations", test=[{"id": "5"}])  # the test list has no labels
    touch(tmp_path / "videos/78687.webm")
    touch(tmp_path / "videos/deeper/10.mp4")
    listing = read_ssv2(Source("ssv2", tmp_path))
    assert listing.classes == sorted(LABELS, key=lambda name: int(LABELS[name]))
    assert listing.annotations[0] == Annotation(
        video_id="ssv2/78687",
        source="ssv2",
        path="videos/78687.webm",
        kind="video",
        label="Something falling like a feather or paper",
        group="",
        split1="train",
    )
    assert [(a.label, a.split1, a.path, a.exists) for a in listing.annotations[1:]] == [
        ("Moving part of something", "train", "videos/9.webm", False),
        ("Pretending to put something on a surface", "test", "videos/deeper/10.mp4", True),
    ]


@pytest.mark.parametrize("annotations", ["annotations", "labels", ".", "mine"])
@pytest.mark.parametrize("videos", ["videos", "20bn-something-something-v2", "somewhere/else"])
def test_layouts_give_the_same_ids(tmp_path: Path, annotations: str, videos: str) -> None:
    (tmp_path / "annotations").mkdir()  # empty: not where to look
    prefix = "" if annotations == "labels" else "something-something-v2-"
    write(tmp_path / annotations, prefix)
    for video in ("78687", "9", "10"):
        touch(tmp_path / videos / f"{video}.webm")
    options = {"annotations": "mine"} if annotations == "mine" else {}
    found = read_ssv2(Source("s", tmp_path, options)).annotations
    assert [a.video_id for a in found] == ["s/78687", "s/9", "s/10"]
    assert [a.path for a in found] == [f"{videos}/{v}.webm" for v in ("78687", "9", "10")]
    assert all(a.exists for a in found)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"train": [entry("1", "Holding [something]")]}, r"entry 1 \(id 1\): class 'Holding som"),
        ({"train": [*TRAIN, {"id": "3"}]}, r"train\.json: entry 3 \(id 3\): has no template"),
        ({"train": [entry("../1", "x")]}, r"entry 1 .*expected an id of digits"),
        ({"train": ["78687"]}, r"entry 1 .*expected an id of digits"),
        ({"validation": TRAIN[:1]}, r"validation\.json: entry 1 \(id 78687\): .*before, as train"),
        ({"train": {"78687": {}}}, r"train\.json: expected a list of videos"),
        ({"train": '[\n{"id":'}, r"train\.json:2 is not JSON"),
        ({"labels": list(LABELS)}, r"labels\.json: expected"),
        ({"labels": {"a": "0", "b": "2"}}, r"labels\.json: 2 classes need the ids 0 to 1"),
        ({"labels": {"a": "0", "b": "0"}}, r"labels\.json: 2 classes need the ids 0 to 1"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    write(tmp_path / "labels", **changed)
    with pytest.raises(DataError, match=message):
        read_ssv2(Source("ssv2", tmp_path))


def test_a_missing_list_is_named(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "validation.json").unlink()
    with pytest.raises(
        DataError, match=r"no something-something-v2-validation\.json or validation"
    ):
        read_ssv2(Source("ssv2", tmp_path))
