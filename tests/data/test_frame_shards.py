from __future__ import annotations

import io
import json
import pickle
import random
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pytest
from make_videos import decode_in_order, write_video
from PIL import Image

from vidprompt.data.frames.cache import FrameCache
from vidprompt.data.frames.sampling import cached_frames
from vidprompt.data.shards.build import member_key
from vidprompt.data.shards.cache_build import build_frame_cache
from vidprompt.data.shards.plan import FrameRow, FrameSettings
from vidprompt.files.hashes import sha256
from vidprompt.system.errors import DataError, UserError

SMALL = FrameSettings(short_side=48, frames=6, quality=80, shard_mb=1)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[FrameRow]:
    folder = tmp_path_factory.mktemp("videos")
    made = []
    for number, kind in enumerate(["h264.mp4", "mpeg4.avi", "vp9.webm", "h264.mp4"]):
        n = 5 if number == 3 else 20 + number
        path = write_video(folder / f"{number}-{kind}", n=n, kind=kind, seed=number)
        made.append(
            FrameRow(f"actions/{path.name}", path, "video", n, kind != "mpeg4.avi", "actions")
        )
    person = folder / "person"
    person.mkdir()
    for number in range(9):
        Image.new("RGB", (32, 64), (25 * number, 10, 200)).save(person / f"{number:03d}.jpg")
    made.append(FrameRow("people/0001", person, "frames", 9, True, "people"))
    return made[::-1]  # the order must not matter


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def damaged_shards(folder: Path) -> list[str]:
    """Shards whose SHA-256 is not the one in frames.json, and missing ones."""
    shards = json.loads((folder / "frames.json").read_text("utf-8"))["shards"]
    paths = {shard["name"]: folder / shard["name"] for shard in shards}
    sums = {shard["name"]: shard["sha256"] for shard in shards}
    return [n for n, path in paths.items() if not path.is_file() or sha256(path) != sums[n]]


def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of the little videos fill a shard, so that five fill three."""
    monkeypatch.setattr("vidprompt.data.shards.plan.BYTES_A_PIXEL", 30)


def ids_of(cache: FrameCache) -> list[str]:
    return [cache.video_id(row) for row in range(len(cache))]


def test_cached_frames_are_the_segment_centres(rows: list[FrameRow], tmp_path: Path) -> None:
    settings = FrameSettings(short_side=1000, frames=6, quality=95)
    summary = build_frame_cache(rows, settings, {}, tmp_path, workers=2)
    assert (summary["videos"], summary["frames"], summary["failed"]) == (5, 6 * 4 + 5, [])
    cache = FrameCache(tmp_path)
    assert ids_of(cache) == sorted(row.video_id for row in rows)
    index = pa.ipc.open_file(pa.memory_map(str(tmp_path / "index.arrow"))).read_all()
    source_frames = dict(
        zip(*(index[k].to_pylist() for k in ("video_id", "source_frames")), strict=True)
    )
    assert len(cache) == 5
    for row in rows:
        numbers = list(cached_frames(row.n_frames, 6))
        assert source_frames[row.video_id] == numbers
        assert cache.num_source_frames(row.video_id) == row.n_frames
        if row.kind == "video":
            source = decode_in_order(row.path)[numbers].astype(int)
            cached = cache.read(row.video_id, range(len(numbers)))
            assert cached.shape == source.shape  # never enlarged
            distance = np.abs(cached[:, None] - source[None]).mean(axis=(2, 3, 4))
            assert distance.argmin(axis=1).tolist() == list(range(len(numbers)))
            assert distance.diagonal().max() < 6


def test_positions_repeat_and_come_in_any_order(rows: list[FrameRow], tmp_path: Path) -> None:
    build_frame_cache(rows, SMALL, {}, tmp_path)
    cache = FrameCache(tmp_path)
    video_id = "actions/0-h264.mp4"
    everything = cache.read(video_id, range(6))
    assert everything.shape == (6, 48, 64, 3)
    assert cache.size(video_id) == (48, 64)
    for positions in ([5, 0, 5], [2], [0, 5], [3, 2, 1]):  # spans read whole and one by one
        np.testing.assert_array_equal(cache.read(video_id, positions), everything[positions])
    copy = pickle.loads(pickle.dumps(cache))
    np.testing.assert_array_equal(copy.read(video_id, [4]), everything[[4]])
    assert video_id in cache
    assert "actions/0" not in cache
    assert None not in cache
    for bad in ([6], [-1], []):
        with pytest.raises(DataError, match="actions/0-h264"):
            cache.read(video_id, bad)
    with pytest.raises(DataError, match="no video 'nothing'"):
        cache.read("nothing", [0])


def test_a_source_can_have_settings_of_its_own(rows: list[FrameRow], tmp_path: Path) -> None:
    own = {"people": {"frames": None, "stretch": [40, 20]}}
    build_frame_cache(rows, SMALL, own, tmp_path)
    cache = FrameCache(tmp_path)
    assert cache.num_frames("people/0001") == 9
    frames = cache.read("people/0001", range(9))
    assert frames.shape == (9, 40, 20, 3)
    np.testing.assert_allclose(frames.mean(axis=(1, 2))[:, 0], 25 * np.arange(9), atol=4)
    assert cache.num_frames("actions/0-h264.mp4") == 6
    with pytest.raises(UserError, match=r"source 'people': 'shortside' cannot be set.*short_side"):
        build_frame_cache(rows, SMALL, {"people": {"shortside": 3}}, tmp_path)


def test_webp(rows: list[FrameRow], tmp_path: Path) -> None:
    build_frame_cache(rows[-1:], FrameSettings(48, 3, format="webp"), {}, tmp_path)
    cache = FrameCache(tmp_path)
    with tarfile.open(tmp_path / "shard-00000.tar") as tar:
        member = tar.getmembers()[0]
        data = tar.extractfile(member)
        assert data is not None
        assert data.read()[8:12] == b"WEBP"
    assert cache.read(cache.video_id(0), [0]).shape == (1, 48, 64, 3)


def test_a_shard_is_a_plain_tar_of_playable_members(rows: list[FrameRow], tmp_path: Path) -> None:
    build_frame_cache(rows, SMALL, {}, tmp_path)
    cache = FrameCache(tmp_path)
    with tarfile.open(tmp_path / "shard-00000.tar") as tar:
        members = tar.getmembers()
        names = [member.name for member in members]
        assert names == [f"{member_key(video_id)}.mjpeg" for video_id in ids_of(cache)]
        assert all(name.count(".") == 1 and "/" not in name for name in names)
        assert {(m.mtime, m.uid, m.gid, m.mode, m.uname) for m in members} == {(0, 0, 0, 0o644, "")}
        data = tar.extractfile(members[0])
        assert data is not None
        with av.open(io.BytesIO(data.read()), "r", format="mjpeg") as container:
            played = np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])
    cached = cache.read(cache.video_id(0), range(6))
    assert len(played) == 6
    distance = np.abs(played[:, None].astype(int) - cached[None]).mean(axis=(2, 3, 4))
    assert distance.argmin(axis=1).tolist() == list(range(6))  # decoders differ in chroma


def test_keys_are_safe_and_distinct() -> None:
    ids = ["a/b.avi", "a_b_avi", "a%2Fb%2Eavi", "a/b/avi", "a.b.avi", "é/ü.mp4", "a\\b"]
    keys = [member_key(video_id) for video_id in ids]
    assert len(set(keys)) == len(ids)
    assert not any(set(key) & set("/.\\") for key in keys)


def test_equal_inputs_give_equal_bytes(
    rows: list[FrameRow], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_shards(monkeypatch)
    one = build_frame_cache(rows, SMALL, {}, tmp_path / "one", workers=1)
    build_frame_cache(sorted(rows), SMALL, {}, tmp_path / "two", workers=2)
    assert one["shards"] > 1
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_interrupted_build_resumes_to_the_same_bytes(
    rows: list[FrameRow], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_shards(monkeypatch)
    whole = build_frame_cache(rows, SMALL, {}, tmp_path / "whole")

    def stop(done: int, total: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_frame_cache(rows, SMALL, {}, tmp_path / "again", progress=stop)
    with pytest.raises(DataError, match="no finished frame cache"):
        FrameCache(tmp_path / "again")
    (tmp_path / "again" / ".shard-00001.tar.x.part").write_bytes(b"of a killed build")
    summary = build_frame_cache(rows, SMALL, {}, tmp_path / "again")
    assert 0 < summary["kept"] < whole["shards"]
    assert contents(tmp_path / "again") == contents(tmp_path / "whole")
    again = build_frame_cache(rows, SMALL, {}, tmp_path / "again")
    assert again["kept"] == whole["shards"]
    assert contents(tmp_path / "again") == contents(tmp_path / "whole")


def test_damaged_shard_is_named_and_it_alone_rebuilt(
    rows: list[FrameRow], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_shards(monkeypatch)
    built = build_frame_cache(rows, SMALL, {}, tmp_path)
    before = contents(tmp_path)
    assert damaged_shards(tmp_path) == []
    shard = tmp_path / "shard-00001.tar"
    data = bytearray(shard.read_bytes())
    data[700] ^= 1
    shard.write_bytes(bytes(data))
    assert damaged_shards(tmp_path) == ["shard-00001.tar"]
    summary = build_frame_cache(rows, SMALL, {}, tmp_path)
    assert summary["kept"] == built["shards"] - 1
    assert contents(tmp_path) == before
    shard.unlink()
    assert build_frame_cache(rows, SMALL, {}, tmp_path)["kept"] == built["shards"] - 1
    assert contents(tmp_path) == before


def test_a_flipped_bit_is_found_when_its_frame_is_read(
    rows: list[FrameRow], tmp_path: Path
) -> None:
    build_frame_cache(rows, SMALL, {}, tmp_path)
    shard = tmp_path / "shard-00000.tar"
    whole = shard.read_bytes()
    cache = FrameCache(tmp_path)
    before = cache.read("people/0001", range(6))
    last = bytearray(whole)
    with tarfile.open(shard) as tar:
        member = tar.getmembers()[-1]
        last[member.offset_data + member.size - 10] ^= 4  # in the last frame of the last video
    shard.write_bytes(bytes(last))
    cache = FrameCache(tmp_path)
    np.testing.assert_array_equal(cache.read("people/0001", range(5)), before[:5])
    with pytest.raises(DataError, match=r"shard-00000\.tar is damaged at people/0001, frame 5:"):
        cache.read("people/0001", [5])
    shard.write_bytes(whole[:2000])
    with pytest.raises(DataError, match=r"shard-00000\.tar is damaged at people/0001"):
        FrameCache(tmp_path).read("people/0001", [5])


def test_rows_stand_for_videos(rows: list[FrameRow], tmp_path: Path) -> None:
    build_frame_cache(rows, SMALL, {}, tmp_path)
    cache = FrameCache(tmp_path)
    ids = ["people/0001", "gone", cache.video_id(0), "", "zzz"]
    rows_of = cache.rows(ids)
    assert rows_of.tolist() == [4, -1, 0, -1, -1]
    assert [cache.video_id(row) for row in (0, 4)] == [cache.video_id(0), "people/0001"]
    np.testing.assert_array_equal(cache.read(4, [2]), cache.read("people/0001", [2]))
    for row in (-1, 5):
        with pytest.raises(DataError, match=f"no video {row}"):
            cache.num_frames(row)


BUILD = """
import pickle, resource, sys
import vidprompt.data.shards.plan as plan
from vidprompt.data.shards.cache_build import build_frame_cache
from vidprompt.files.hashes import sha256
from vidprompt.system.errors import UserError
plan.BYTES_A_PIXEL = 30
if __name__ == "__main__":
    limit, rows, settings, per_source, out = pickle.loads(sys.stdin.buffer.read())
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        build_frame_cache(rows, settings, per_source, out, 2, lambda *_: print("one", flush=True))
    except UserError as error:
        sys.exit(str(error))
"""


def _started(*what: Any) -> subprocess.Popen[bytes]:
    """A build in a process of its own, which prints a line a video."""
    pipe = subprocess.PIPE
    child = subprocess.Popen([sys.executable, "-c", BUILD], stdin=pipe, stdout=pipe, stderr=pipe)
    assert child.stdin is not None
    with child.stdin as pipe_in:
        pipe_in.write(pickle.dumps(what))
    child.stdin = None  # `communicate` would flush it
    return child


def test_a_build_killed_at_any_moment_ends_in_the_same_bytes(
    rows: list[FrameRow], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_shards(monkeypatch)
    many = [row._replace(video_id=f"{row.video_id}-{n:02d}") for row in rows for n in range(8)]
    build_frame_cache(many, SMALL, {}, tmp_path / "whole", workers=2)
    rng = random.Random(5)
    kills = 0
    early = iter([2, 5, 9])  # videos; then at any moment, the end included
    for _ in range(60):
        child = _started(0, many, SMALL, {}, tmp_path / "killed")
        assert child.stdout is not None
        count = next(early, None)
        for _ in range(rng.randint(0, 16) if count is None else count):
            if not child.stdout.readline():
                break
        time.sleep(rng.choice([0, 0.01, 0.1, 0.6]) if count is None else 0)
        child.kill()
        child.communicate()
        if child.returncode == 0 or (tmp_path / "killed/frames.json").is_file():
            break  # the last thing that is written: it was done
        kills += 1
        with pytest.raises(DataError, match="no finished frame cache"):
            FrameCache(tmp_path / "killed")
    else:
        pytest.fail("it never came to an end")
    assert kills >= 3
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    assert damaged_shards(tmp_path / "killed") == []


def test_a_full_disk_is_one_sentence_and_leaves_no_half_shard(
    rows: list[FrameRow], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_shards(monkeypatch)
    large = {"people": {"stretch": [960, 480], "quality": 100}}  # the last in order of ids
    build_frame_cache(rows, SMALL, large, tmp_path / "whole")
    sizes = [path.stat().st_size for path in sorted((tmp_path / "whole").glob("*.tar"))]
    assert max(sizes[:-1]) < sizes[-1]
    child = _started(sizes[-1] - 1, rows, SMALL, large, tmp_path / "full")
    _, errors = child.communicate(timeout=60)
    assert child.returncode == 1
    [messages] = errors.decode().strip().splitlines()
    assert "shard-" in messages
    assert "File too large" in messages
    assert "What is finished is kept: free some space and run the same again" in messages
    left = {path.name for path in (tmp_path / "full").iterdir()}
    assert left == {
        f"shard-{n:05d}.{end}" for n in range(len(sizes) - 1) for end in ("tar", "json")
    }
    assert build_frame_cache(rows, SMALL, large, tmp_path / "full")["kept"] == len(sizes) - 1
    assert contents(tmp_path / "full") == contents(tmp_path / "whole")


def test_other_settings_or_inputs_rebuild(
    rows: list[FrameRow], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_shards(monkeypatch)
    build_frame_cache(rows, SMALL, {}, tmp_path / "cache")
    coarse = FrameSettings(short_side=48, frames=3, quality=80, shard_mb=1)
    assert build_frame_cache(rows, coarse, {}, tmp_path / "cache")["kept"] == 0
    build_frame_cache(rows, coarse, {}, tmp_path / "fresh")
    assert contents(tmp_path / "cache") == contents(tmp_path / "fresh")
    fewer = build_frame_cache(rows[2:], coarse, {}, tmp_path / "cache")
    assert fewer["videos"] == 3
    build_frame_cache(rows[2:], coarse, {}, tmp_path / "fewer")
    assert contents(tmp_path / "cache") == contents(tmp_path / "fewer")


def test_a_cache_of_an_older_format_is_refused_and_built_anew(
    rows: list[FrameRow], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as older:
        older.setattr("vidprompt.data.shards.plan.FORMAT_VERSION", 2)
        older.setattr("vidprompt.data.shards.cache_build.FORMAT_VERSION", 2)
        build_frame_cache(rows, SMALL, {}, tmp_path)
    with pytest.raises(DataError, match="cache of format 2, .* run the frames stage again"):
        FrameCache(tmp_path)
    assert build_frame_cache(rows, SMALL, {}, tmp_path)["kept"] == 0
    assert len(FrameCache(tmp_path)) == len(rows)


def test_a_video_that_fails_is_left_out_and_tried_again(
    rows: list[FrameRow], tmp_path: Path
) -> None:
    late = tmp_path / "late.mp4"
    short = rows[-1]._replace(video_id="actions/1b-overstated", n_frames=500)
    broken = FrameRow("actions/1a-late", late, "video", 20, True, "actions")
    listed = [*rows, broken, short]
    summary = build_frame_cache(listed, SMALL, {}, tmp_path / "cache", workers=2)
    failed = {failure["video_id"]: failure["reason"] for failure in summary["failed"]}
    assert set(failed) == {"actions/1a-late", "actions/1b-overstated"}
    assert "late.mp4" in failed["actions/1a-late"]
    assert "out of range" in failed["actions/1b-overstated"]
    cache = FrameCache(tmp_path / "cache")
    assert len(cache) == 5
    assert "actions/1a-late" not in cache
    recorded = json.loads((tmp_path / "cache" / "frames.json").read_text("utf-8"))
    assert recorded["failed"] == ["actions/1a-late", "actions/1b-overstated"]
    write_video(late, n=20, kind="h264.mp4")
    summary = build_frame_cache([*rows, broken], SMALL, {}, tmp_path / "cache", workers=2)
    assert (summary["failed"], summary["videos"]) == ([], 6)


def test_nothing_to_cache(tmp_path: Path) -> None:
    assert build_frame_cache([], SMALL, {}, tmp_path)["videos"] == 0
    assert len(FrameCache(tmp_path)) == 0
    assert "x" not in FrameCache(tmp_path)


def test_an_id_that_occurs_twice_is_an_error(rows: list[FrameRow], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="occurs twice"):
        build_frame_cache([rows[0], rows[0]], SMALL, {}, tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [{"quality": 101}, {"short_side": 0}, {"frames": 0}, {"format": "png"}, {"stretch": (1,)}],
)
def test_settings_that_make_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        FrameSettings(**wrong)
