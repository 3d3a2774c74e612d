"""Official layouts through the stages manifest → splits → validate: which files come out, of what."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.reproduce.trees import kinetics_lists

from vidprompt.config.compose import compose, protocols_of
from vidprompt.pipeline.stages import manifest, splits, validate
from vidprompt.system.errors import UserError

ROOT = Path(__file__).parents[3]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(ROOT / "params", tmp_path / "params")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _edit(project: Path, dataset: str, **changes: Any) -> None:
    file = project / f"params/dataset/{dataset}.yaml"
    file.write_text(
        yaml.safe_dump(yaml.safe_load(file.read_text("utf-8")) | changes, sort_keys=False)
    )


def _ucf101(root: Path, classes: int, groups: int = 25, clips: int = 2) -> None:
    """Groups 1-7 are the test of split 1, 8-14 of split 2, 15-21 of split 3."""
    lists = root / "ucfTrainTestlist"
    lists.mkdir(parents=True)
    names = [f"Action{chr(65 + i)}" for i in range(classes)]
    (lists / "classInd.txt").write_text("".join(f"{i} {n}\n" for i, n in enumerate(names, 1)))
    for split, first in ((1, 1), (2, 8), (3, 15)):
        train, test = [], []
        for number, name in enumerate(names, 1):
            for group in range(1, groups + 1):
                for clip in range(1, clips + 1 + number % 2):
                    path = f"{name}/v_{name}_g{group:02d}_c{clip:02d}.avi"
                    (root / "UCF-101" / name).mkdir(parents=True, exist_ok=True)
                    (root / "UCF-101" / path).write_bytes(b"0")
                    if first <= group < first + 7:
                        test.append(path)
                    else:
                        train.append(f"{path} {number}")
        (lists / f"trainlist0{split}.txt").write_text("\n".join(train) + "\n")
        (lists / f"testlist0{split}.txt").write_text("\n".join(test) + "\n")


def _kinetics(root: Path, classes: list[str], known: list[str]) -> None:
    parts = {"train": ("train.csv", 3), "val": ("val.csv", 2), "test": ("test.csv", 4)}
    for part, _, file in kinetics_lists(root, classes, parts):
        (root / "videos" / part).mkdir(parents=True, exist_ok=True)
        (root / "videos" / part / file).write_bytes(b"0")
    (root / "annotations/kinetics400_classes.txt").write_text("\n".join(known) + "\n")


def _run(dataset: str) -> dict[str, dict[str, Any]]:
    config = compose([f"dataset={dataset}", "dataset.probe=stat"])
    for stage in (manifest, splits, validate):
        stage.run(config)
    files = sorted(Path("cache/splits", dataset).glob("*.json"))
    return {file.stem: json.loads(file.read_text("utf-8")) for file in files}


def test_ucf101_has_every_protocol_with_the_fields_numbers(
    project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    _ucf101(project / "data/ucf101", classes=5)
    validation = {"max_broken_share": 0, "ranges": {}, "severity": {}}
    expected = {"videos.ucf101": 325, "groups.ucf101": 125, "tests.supervised_split1.test": 91}
    _edit(project, "ucf101", validation=validation | {"expected": expected})
    found = _run("ucf101")
    assert "ucf101: 325 listed, 325 found" in caplog.text
    assert set(found) == {
        *(f"supervised_split{s}" for s in (1, 2, 3)),
        *(f"zero_shot_split{s}" for s in (1, 2, 3)),
        *(f"zero_shot_half{s}" for s in range(10)),
        *(f"base_to_novel_16shot_seed{s}" for s in (1, 2, 3)),
        *(f"few_shot_{k}shot_seed{s}" for k in (2, 4, 8, 16) for s in (1, 2, 3)),
    }
    assert {split["run"] for name, split in found.items() if name.startswith("zero_shot")} == {
        "kinetics400/supervised_split1"
    }
    assert found["zero_shot_split2"]["id"] == "zero_shot/ucf101@split2"
    half = found["zero_shot_half3"]["tests"]["test"]
    assert len(half["classes"]) == 2
    # every video of these classes, of the training lists too: 25 groups of 3 clips, or of 2 in B and D
    clips = [2 if name in ("ActionB", "ActionD") else 3 for name in half["classes"]]
    assert len(half["videos"]) == 25 * sum(clips)
    base = found["base_to_novel_16shot_seed2"]
    # B and D have the fewest videos, so they are novel; A, C and E are in order of their names
    assert base["tests"]["novel"]["classes"] == ["ActionB", "ActionD"]
    assert base["train"]["classes"] == ["ActionA", "ActionC", "ActionE"]
    assert len(base["train"]["videos"]) == 48
    assert base["train"] != found["base_to_novel_16shot_seed1"]["train"]
    assert {str(split["val"]) for split in found.values()} == {"None"}  # unless asked for


def test_held_out_videos_leave_the_tests_and_the_official_counts_as_they_are(
    project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    _ucf101(project / "data/ucf101", classes=4)
    trained = {"train.supervised_split1": 18 * 10, "tests.supervised_split1.test": 7 * 10}
    validation = {"max_broken_share": 0, "ranges": {}, "severity": {}, "expected": trained}
    own = {"supervised": {"splits": [1]}, "few_shot": {"shots": [8], "seeds": [1]}}
    own |= {"base_to_novel": {"shots": None}, "zero_shot": None}
    _edit(project, "ucf101", validation=validation, protocols=own)
    whole = _run("ucf101")
    own["supervised"]["held_out"], own["base_to_novel"]["held_out"] = 0.1, 0.1
    own["few_shot"]["held_out"] = 50
    _edit(project, "ucf101", protocols=own)
    caplog.clear()
    found = _run("ucf101")
    messages = "".join(f"{message}\n" for message in caplog.messages)
    for name, split in found.items():
        assert {key: split[key] for key in ("id", "run", "tests")} == {
            key: whole[name][key] for key in ("id", "run", "tests")
        }
    # 18 groups of 3 or 2 videos: two of them are nearest to a tenth
    held = found["supervised_split1"]["val"]
    assert [held["labels"].count(i) for i in range(4)] == [6, 4, 6, 4]
    assert len(found["supervised_split1"]["train"]["videos"]) == 180 - 20
    base = found["base_to_novel_full"]
    assert base["val"]["classes"] == base["train"]["classes"] == ["ActionA", "ActionC"]
    assert found["few_shot_8shot_seed1"]["train"] == whole["few_shot_8shot_seed1"]["train"]
    assert "supervised/ucf101@split1: train 160, val 20, test 70 (4 classes)\n" in messages
    # 54 or 36 videos a class, and those of the shots' groups are not for it
    assert messages.count("videos held out (") == 1
    assert "8shot-seed1: 4 of 4 classes have fewer than 50 videos held out (ActionA " in messages


@pytest.mark.parametrize(
    ("own", "says"),
    [
        ({"supervised": {"held_out": 1}}, "supervised: held_out=1 is no share: give 0 "),
        ({"supervised": {"held_out": "few"}}, "held_out=few: a number"),
        ({"supervised": {"held_out_seed": -1}}, "supervised: held_out_seed=-1 is no seed"),
        ({"few_shot": {"held_out": 0.1}}, "few_shot: held_out=0.1 is no count: give 0 "),
        ({"few_shot": {"held_out": True}}, "held_out=True: a number"),
        ({"base_to_novel": {"held_out": 0.1}}, "base_to_novel: held_out=0.1 is no count"),
        ({"base_to_novel": {"shots": None, "held_out": 4}}, "held_out=4 is no share"),
        ({"reid": {"held_out": -0.2}}, "reid: held_out=-0.2 is no share"),
        ({"zero_shot": {"held_out": 0.1}}, "dataset.protocols.zero_shot: unknown 'held_out'"),
    ],
)
def test_a_wrong_number_of_held_out_videos_is_a_sentence_and_writes_nothing(
    project: Path, own: dict[str, Any], says: str
) -> None:
    _ucf101(project / "data/ucf101", classes=2)
    _edit(project, "ucf101", protocols=own)
    with pytest.raises(UserError) as caught:
        _run("ucf101")
    assert says in str(caught.value)
    assert not list(Path("cache/splits").rglob("*.json"))


def test_a_split_left_out_takes_its_expected_counts_with_it(project: Path) -> None:
    _ucf101(project / "data/ucf101", classes=2, groups=21)
    official = yaml.safe_load((ROOT / "params/dataset/ucf101.yaml").read_text("utf-8"))[
        "validation"
    ]
    counts = {"videos": 105, "classes": 2, "groups": 42}
    expected = official["expected"] | {f"{name}.ucf101": n for name, n in counts.items()}
    expected |= {"train.supervised_split1": 70, "tests.supervised_split1.test": 35}
    off = dict.fromkeys(("zero_shot", "few_shot", "base_to_novel"))
    validation = official | {"expected": expected, "ranges": {}}
    # the official counts of splits 2 and 3 stay in the file
    _edit(project, "ucf101", validation=validation, protocols={"supervised": {"splits": [1]}} | off)
    assert set(_run("ucf101")) == {"supervised_split1"}
    _edit(project, "ucf101", protocols={"supervised": {"splits": [1, 2]}} | off)
    with pytest.raises(UserError, match=r"expected_counts: 2 of 7, first tests\.supervised_split2"):
        _run("ucf101")


def test_kinetics600_is_tested_on_classes_that_are_not_in_kinetics400(project: Path) -> None:
    classes = [f"doing {chr(97 + i)}" for i in range(12)]
    known = [*classes[:4], "something else"]
    root = project / "data/kinetics600"
    _kinetics(root, classes, known)
    (root / "partition.txt").write_text("doing k\ndoing f\n")
    zero_shot = {
        **yaml.safe_load((ROOT / "params/dataset/kinetics600.yaml").read_text("utf-8"))[
            "protocols"
        ],
    }["zero_shot"]
    zero_shot |= {"test_classes": 5, "partitions": ["partition.txt"]}
    validation = {"max_broken_share": 0, "ranges": {}, "severity": {}, "expected": {}}
    _edit(project, "kinetics600", protocols={"zero_shot": zero_shot}, validation=validation)
    found = _run("kinetics600")
    assert set(found) == {
        "zero_shot_k600_minus_k400_test",
        "zero_shot_partition1_test",
        *(f"zero_shot_seed{s}_test" for s in (1, 2, 3)),
    }
    whole = found["zero_shot_k600_minus_k400_test"]
    assert whole["id"] == "zero_shot/kinetics600@k600-minus-k400-test"
    assert whole["tests"]["test"]["classes"] == classes[4:]
    assert len(whole["tests"]["test"]["videos"]) == 32  # the test list's, of 8 classes
    assert found["zero_shot_partition1_test"]["tests"]["test"]["classes"] == ["doing k", "doing f"]
    drawn = [found[f"zero_shot_seed{s}_test"]["tests"]["test"]["classes"] for s in (1, 2, 3)]
    assert all(len(names) == 5 and set(names) <= set(classes[4:]) for names in drawn)
    assert len({tuple(names) for names in drawn}) > 1
    # a known class in a partition is found by validation
    (root / "partition.txt").write_text("doing k\ndoing a\n")
    with pytest.raises(UserError, match="zero_shot_apart: 1 of .* class 'doing a' was trained on"):
        _run("kinetics600")


def test_a_zero_shot_test_says_which_official_list_it_is_of(project: Path) -> None:
    _kinetics(project / "data/kinetics600", [f"doing {chr(97 + i)}" for i in range(4)], ["doing a"])
    own = {"splits": [1], "trained_on": "kinetics400/supervised_split1", "test_on": "val"}
    own |= {"known_classes": "annotations/kinetics400_classes.txt"}
    validation = {"max_broken_share": 0, "ranges": {}, "severity": {}, "expected": {}}
    _edit(project, "kinetics600", protocols={"zero_shot": own}, validation=validation)
    found = _run("kinetics600")
    assert {split["id"] for split in found.values()} == {
        "zero_shot/kinetics600@split1-val",
        "zero_shot/kinetics600@k600-minus-k400-val",
    }
    for split in found.values():
        assert all(Path(video).name.startswith("va") for video in split["tests"]["test"]["videos"])
    source = {"kinetics600": {"reader": "kinetics", "folder": ".", "lists": ["val"]}}
    _edit(
        project, "kinetics600", protocols={"zero_shot": own | {"test_on": "test"}}, sources=source
    )
    with pytest.raises(
        UserError, match=r"test_on=test: kinetics600 has no test list .* lists: val\)"
    ):
        _run("kinetics600")


def test_halves_take_training_videos_so_their_model_is_another_datasets(project: Path) -> None:
    _ucf101(project / "data/ucf101", classes=2, groups=21)
    for trained_on in ("supervised_split1", "ucf101/supervised_split1"):
        own = {"zero_shot": {"splits": [1], "halves": 1, "trained_on": trained_on}}
        _edit(project, "ucf101", protocols=own | {"few_shot": None, "base_to_novel": None})
        with pytest.raises(UserError, match="random halves test every video of ucf101"):
            _run("ucf101")


def test_numbers_of_a_dataset_and_of_the_command_line(project: Path) -> None:
    del project
    ours = protocols_of(compose(["dataset=demo"]))
    assert ours.few_shot.shots == (2, 8)
    usual = protocols_of(compose(["dataset=ssv2"]))
    assert (usual.few_shot.shots, usual.base_to_novel.seeds) == ((2, 4, 8, 16), (1, 2, 3))
    given = protocols_of(compose(["dataset=demo", "protocol=few_shot", "protocol.seeds=[5]"]))
    assert (given.few_shot.shots, given.few_shot.seeds) == ((2, 8), (5,))


@pytest.mark.parametrize(
    ("own", "says"),
    [
        (
            {"zeroshot": {}},
            "dataset.protocols: unknown 'zeroshot': did you mean zero_shot? valid: zero_shot, base_to_novel",
        ),
        (
            {"few_shot": {"shot": [1]}},
            "dataset.protocols.few_shot: unknown 'shot': did you mean shots?",
        ),
    ],
)
def test_a_typo_in_a_datasets_numbers_is_a_sentence(
    project: Path, own: dict[str, Any], says: str
) -> None:
    _edit(project, "own", protocols=own)
    with pytest.raises(UserError) as caught:
        protocols_of(compose(["dataset=own"]))
    assert says in str(caught.value)


def test_a_published_list_alone_is_enough(project: Path) -> None:
    _ucf101(project / "data/ucf101", classes=2, groups=21)
    config = compose(["dataset=ucf101", "dataset.probe=stat"])
    manifest.run(config)
    Path("novel_val.txt").write_text("ActionB/v_ActionB_g01_c01.avi 0\n", encoding="utf-8")
    Path("My Train.txt").write_text("ActionA/v_ActionA_g09_c02.avi 0\n", encoding="utf-8")
    splits.take_lists(config, ["novel_val.txt"], "", None, "")
    taken = json.loads(Path("cache/splits/ucf101/zero_shot_novel_val.json").read_text("utf-8"))
    assert (taken["id"], taken["run"]) == (
        "zero_shot/ucf101@novel_val",
        "kinetics400/supervised_split1",
    )
    assert taken["tests"]["test"]["videos"] == ["ucf101/ActionB/v_ActionB_g01_c01.avi"]
    splits.take_lists(config, ["My Train.txt", "novel_val.txt"], "", None, "")
    taken = json.loads(Path("cache/splits/ucf101/supervised_my_train.json").read_text("utf-8"))
    assert (taken["id"], taken["run"]) == ("supervised/ucf101@My Train", "supervised_my_train")
    assert (list(taken["tests"]), taken["train"]["videos"]) == (
        ["test"],
        ["ucf101/ActionA/v_ActionA_g09_c02.avi"],
    )
    with pytest.raises(UserError, match="each part once"):
        splits.take_lists(config, ["novel_val.txt", "test=novel_val.txt"], "", None, "")


@pytest.mark.parametrize(
    ("id", "lists", "says"),
    [
        (
            "base_to_novel/u@theirs",
            ["train=l.txt", "test=l.txt"],
            "evaluated on base and novel, and",
        ),
        ("base_to_novel/u@theirs", ["base=l.txt"], "give base=FILE novel=FILE"),
        ("zero_shot/u@theirs", ["novel=l.txt"], "evaluated on test, and the lists are novel"),
        ("few_shot/u@theirs", ["train=l.txt"], "evaluated on test, and the lists are train"),
        ("supervised/u@theirs", ["test=l.txt", "other=l.txt"], "the lists are test, other"),
        ("reid/u@theirs", ["query=l.txt", "gallery=l.txt"], "read them by `reader: ccvid`"),
        ("few_shot/u@2shot-seed1", ["test=l.txt"], "2shot-seed1 is what a drawn split is called"),
        ("zero_shot/u@k600-minus-k400", ["test=l.txt"], "is what a drawn split is called"),
        ("zeroshot/u@theirs", ["test=l.txt"], "protocols: supervised, zero_shot, base_to_novel"),
    ],
)
def test_lists_that_evaluation_would_not_take_are_refused(
    project: Path, id: str, lists: list[str], says: str
) -> None:
    _ucf101(project / "data/ucf101", classes=2, groups=21)
    config = compose(["dataset=ucf101", "dataset.probe=stat"])
    manifest.run(config)
    Path("l.txt").write_text("ActionB/v_ActionB_g01_c01.avi 0\n", encoding="utf-8")
    with pytest.raises(UserError) as caught:
        splits.take_lists(config, lists, id, None, "supervised_split1")
    assert says in str(caught.value)
    assert not list(Path("cache/splits").rglob("*.json"))


def test_a_published_list_of_the_parameters_is_written_with_the_others(project: Path) -> None:
    _ucf101(project / "data/ucf101", classes=2, groups=21)
    lists = project / "data/ucf101/lists"
    lists.mkdir()
    (lists / "val.txt").write_text("ActionB/v_ActionB_g01_c01.avi 0\n")
    (lists / "names.csv").write_text("id,name\n0,Action B\n1,Other\n")
    (lists / "base.txt").write_text("/of/authors/v_ActionA_g01_c01 30 0\n")
    (lists / "base.csv").write_text("id,name\n0,Action A\n")
    published = [
        {
            "id": "zero_shot/ucf101@theirs",
            "lists": {"test": "lists/val.txt"},
            "label_map": "lists/names.csv",
        },
        {
            "id": "base_to_novel/ucf101@theirs",
            "lists": {"base": "lists/base.txt", "novel": "lists/val.txt"},
            "label_map": {"base": "lists/base.csv", "novel": "lists/names.csv"},
            "trained_on": "supervised_split1",
        },
        {
            "id": "supervised/ucf101@theirs",
            "lists": {"test": "lists/val.txt"},
            "trained_on": "ucf101/supervised_split2",
        },
    ]
    _edit(project, "ucf101", published=published, protocols={"few_shot": {"shots": [2]}})
    config = compose(["dataset=ucf101", "dataset.probe=stat"])
    manifest.run(config)
    splits.run(config)
    found = {
        path.stem: json.loads(path.read_text("utf-8"))["run"]
        for path in Path("cache/splits/ucf101").glob("*_theirs.json")
    }
    # the dataset's own trainings go without its name, as every other split file's do
    assert found == {
        "zero_shot_theirs": "supervised_split1",
        "supervised_theirs": "supervised_split2",
        "base_to_novel_theirs": "supervised_split1",
    }
    tests = json.loads(Path("cache/splits/ucf101/base_to_novel_theirs.json").read_text("utf-8"))[
        "tests"
    ]
    assert (tests["base"]["classes"], tests["novel"]["classes"]) == (
        ["ActionA"],
        ["ActionB", "Other"],
    )
    _edit(project, "ucf101", published=[{**published[1], "label_map": {"nvel": "lists/base.csv"}}])
    with pytest.raises(
        UserError, match="a label map for 'nvel', which has no list: did you mean nov"
    ):
        splits.run(compose(["dataset=ucf101", "dataset.probe=stat"]))
