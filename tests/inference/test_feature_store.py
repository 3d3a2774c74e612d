"""Stored features: read as written, mapped, label sets once, and nothing damaged is believed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from vidprompt.inference.feature_blocks import BlockRows, BlockStore, plan_blocks
from vidprompt.inference.feature_store import read_features, write_features
from vidprompt.system.errors import DataError

RNG = np.random.default_rng(0)
VIDEO = RNG.standard_normal((5, 3, 8), np.float32)
TEXT = RNG.standard_normal((2, 4, 8), np.float32)
NAMES = [f"v/{number}" for number in range(5)]


class FewAtATime:
    """The features a few rows at a time."""

    shape = VIDEO.shape

    def __iter__(self) -> Iterator[np.ndarray]:
        yield VIDEO[:2]
        yield VIDEO[2:]


def files(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    text = {"b/test": TEXT, "a/test": TEXT.copy(), "a/novel": TEXT[:1]}
    write_features(tmp_path / "out", NAMES, VIDEO, text, 100.0)
    return tmp_path / "out"


def test_what_is_read_is_what_was_written(stored: Path) -> None:
    features = read_features(stored)
    assert features.videos == NAMES
    assert (features.video == VIDEO).all()
    assert features.logit_scale == 100
    assert (features.text["a/test"] == TEXT).all()
    assert (features.text["a/novel"] == TEXT[:1]).all()
    positions, rows = features.rows(["v/3", "none", "v/0"])
    assert positions.tolist() == [0, 2]
    assert rows.tolist() == [3, 0]
    assert features.rows(["none"])[0].shape == (0,)


def test_the_video_features_are_a_safetensors_file_and_are_mapped(stored: Path) -> None:
    assert (load_file(stored / "video.safetensors")["video"] == VIDEO).all()
    features = read_features(stored)
    assert isinstance(features.video.base, np.memmap)
    assert not isinstance(features.video[[4, 1]], np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        features.video[0] = 0


def test_equal_label_sets_are_stored_once(stored: Path) -> None:
    assert set(load_file(stored / "text.safetensors")) == {"000", "001", "logit_scale"}
    text = read_features(stored).text
    assert text["a/test"] is text["b/test"]


def test_writing_again_replaces_everything(stored: Path) -> None:
    before = files(stored)
    (stored / "left.over").touch()
    text = {"a/novel": TEXT[:1], "a/test": TEXT, "b/test": TEXT}
    write_features(stored, NAMES, FewAtATime(), text, 100.0)
    assert files(stored) == before
    with pytest.raises(ValueError, match="2 ids, 5 features"):
        write_features(stored, NAMES[:2], VIDEO, {}, 100.0)


@pytest.mark.parametrize("name", ["video.safetensors", "text.safetensors", "text.json"])
def test_damaged_features_are_not_read(stored: Path, name: str) -> None:
    content = (stored / name).read_bytes()
    (stored / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="is damaged .* run the features stage again"):
        read_features(stored)
    (stored / name).unlink()
    with pytest.raises(DataError, match="is damaged"):
        read_features(stored)


def test_without_an_index_there_are_no_features(stored: Path) -> None:
    (stored / "index.parquet").unlink()
    with pytest.raises(DataError, match="no features in"):
        read_features(stored)


def test_a_write_that_fails_leaves_no_features(stored: Path) -> None:
    class Short(FewAtATime):
        def __iter__(self) -> Iterator[np.ndarray]:
            yield VIDEO[:2]

    with pytest.raises(ValueError, match="192 bytes of features"):
        write_features(stored, NAMES, Short(), {}, 100.0)
    with pytest.raises(DataError, match="no features in"):
        read_features(stored)


def test_blocks_keep_the_order_and_the_kinds_apart() -> None:
    blocks = plan_blocks(["a", "b", "c"], ["b", "d"], 2)
    assert [(b.number, list(b.videos), b.whole) for b in blocks] == [
        (0, ["a", "b"], False),
        (1, ["c"], False),
        (2, ["b", "d"], True),
    ]


def test_blocks_become_features(tmp_path: Path) -> None:
    blocks = plan_blocks(["a", "b", "c"], ["b", "d"], 2)
    store = BlockStore(tmp_path / "scratch", blocks, {"checkpoint": "x"})
    assert store.prepare() == ([0, 1, 2], "")
    store.write(blocks[2], VIDEO[3:, :1])
    store.write(blocks[0], VIDEO[:2])
    assert store.prepare()[0] == [1]
    with pytest.raises(DataError, match=r"block-00001\.safetensors is missing or damaged"):
        list(BlockRows(store))
    store.write(blocks[1], VIDEO[2:3])
    rows = BlockRows(store)
    assert rows.shape == (5, 3, 8)
    whole = [block.whole for block in blocks for _ in block.videos]
    write_features(tmp_path / "out", ["a", "b", "c", "b", "d"], rows, {}, 1.0, whole)
    features = read_features(tmp_path / "out")
    assert (features.video[:3] == VIDEO[:3]).all()
    assert (features.video[3:] == VIDEO[3:, :1]).all()  # in every view
    assert features.rows(["b", "d"])[1].tolist() == [1, 4]
    assert features.rows(["b", "d"], True)[1].tolist() == [3, 4]
    assert features.rows(["b", "d"], False)[1].tolist() == [1]
    with pytest.raises(ValueError, match="2 features of 1 videos"):
        store.write(blocks[1], VIDEO[:2])


def test_a_block_of_other_videos_or_another_checkpoint_is_not_used(tmp_path: Path) -> None:
    blocks = plan_blocks(["a", "b", "c"], [], 2)
    store = BlockStore(tmp_path / "scratch", blocks, {"checkpoint": "x", "views": {"clips": 1}})
    store.prepare()
    store.write(blocks[0], VIDEO[:2])
    same = BlockStore(tmp_path / "scratch", blocks, {"checkpoint": "x", "views": {"clips": 1}})
    assert same.prepare() == ([1], f"{same.folder}: 1 of 2 blocks of an interrupted run are kept")
    others = {
        "videos": BlockStore(same.folder, plan_blocks(["a", "d", "c"], [], 2), store.identity),
        "checkpoint": BlockStore(same.folder, blocks, store.identity | {"checkpoint": "y"}),
    }
    for what, other in others.items():
        store.prepare()
        store.write(blocks[0], VIDEO[:2])
        pending, said = other.prepare()
        assert pending == [0, 1]
        assert said.endswith(f"1 blocks of an interrupted run are deleted: {what} changed")
        assert not list(other.folder.glob("block-*"))
