"""Files as the world has them: each costs itself only, and has a reason."""

from __future__ import annotations

import os
import shutil
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from make_videos import claim_samples, claim_size, decode_in_order, ffmpeg, ffmpeg_errors, make
from PIL import Image

from vidprompt.config import paths
from vidprompt.config.compose import compose
from vidprompt.data.decode.reader import read_frames
from vidprompt.data.manifest.health import Health
from vidprompt.data.manifest.table import read_manifest
from vidprompt.data.probe.result import Limits, ProbeResult
from vidprompt.data.probe.videos import probe_many, probe_progressively
from vidprompt.pipeline.stages import manifest
from vidprompt.system.errors import DataError

ROOT = Path(__file__).parents[2]
LIMITS = Limits(timeout_s=60, memory_mb=200)
CUT = ("b_frames.mp4", "index_in_front.mp4", "xvid_packed.avi", "vp9.webm")
FLIPPED = ("b_frames.mp4", "xvid_packed.avi", "vp9.webm", "hevc.mp4", "mpeg2.ts")
NAMES = (
    "with space.mp4",
    "ünïcødé 视频.mp4",
    "new\nline.mp4",
    "-y.mp4",
    "a:b.mp4",
    "%03d.mp4",
    "'q\".mp4",
)


def probe_all(paths: list[Path], limits: Limits = LIMITS) -> dict[str, ProbeResult]:
    items = [(path, "frames" if path.suffix == ".frames" else "video") for path in paths]
    probes = probe_many(items, 8, 2, limits)
    return {path.name: probe for path, probe in zip(paths, probes, strict=True)}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Intact videos by name."""
    folder = tmp_path_factory.mktemp("whole")

    def get(name: str) -> Path:
        if name == "index_in_front.mp4" and not (folder / name).exists():
            source = make(folder, "b_frames.mp4")
            ffmpeg("-i", source, "-c", "copy", "-movflags", "faststart", folder / name)
        return folder / name if (folder / name).exists() else make(folder, name)

    return get


def claim_10_gb(start: bytes) -> bytes:
    """1 KB of MP4 whose picture data claims to be 10 GB long."""
    box = struct.pack(">I4sQ", 1, b"mdat", 10_000_000_000)
    return (start + box).ljust(1024, b"\0")


@pytest.fixture(scope="module")
def probes(
    whole: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, ProbeResult]:
    """Of every kind of bad file, in one run of isolated workers, with good ones among them."""
    folder = tmp_path_factory.mktemp("bad")
    video = whole("b_frames.mp4").read_bytes()
    contents = {
        "good.mp4": video,
        "zero.mp4": b"",
        "text.mp4": b"not a video at all\n" * 40,
        "playlist.mp4": b"#EXTM3U\n#EXTINF:10,\nhttp://192.0.2.1/a.ts\n#EXT-X-ENDLIST\n",
        "20000.webm": claim_size(whole("vp9.webm").read_bytes(), 20_000),
        "12000.webm": claim_size(whole("vp9.webm").read_bytes(), 12_000),
        "many_samples.mp4": claim_samples(video, 60_000_000),
        "10_gb.mp4": claim_10_gb(video[:32]),
        "10_gb.webm": b"\x1a\x45\xdf\xa3\x01" + (10**10).to_bytes(7, "big") + bytes(1000),
        "endless.webm": b"\x1a\x45\xdf\xa3\x01" + (2**55).to_bytes(7, "big") + bytes(1000),
        **dict.fromkeys(NAMES, video),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    ffmpeg("-f", "lavfi", "-i", "sine=duration=1", "-c:a", "aac", folder / "sound.mp4")
    (folder / "folder.mp4").mkdir()
    os.mkfifo(folder / "pipe.mp4")
    (folder / "device.mp4").symlink_to("/dev/zero")
    (folder / "dangling.mp4").symlink_to(folder / "gone")
    (folder / "loop.mp4").symlink_to(folder / "loop.mp4")
    (folder / "outside.mp4").symlink_to(whole("b_frames.mp4"))
    for name in CUT:
        data = whole(name).read_bytes()
        for share in (10, 50, 90):
            (folder / f"{share}_{name}").write_bytes(data[: len(data) * share // 100])
    names = [*sorted(path.name for path in folder.iterdir()), "good.mp4"]
    return probe_all([folder / name for name in names])


@pytest.mark.parametrize(
    ("name", "health", "says"),
    [
        ("good.mp4", Health.OK, ""),
        ("zero.mp4", Health.EMPTY, "0 bytes"),
        ("text.mp4", Health.NOT_A_VIDEO, "Invalid data"),
        ("playlist.mp4", Health.NOT_A_VIDEO, ""),
        ("sound.mp4", Health.NO_VIDEO_STREAM, "no video stream"),
        ("folder.mp4", Health.NOT_A_REGULAR_FILE, "folder.mp4 is a folder"),
        ("pipe.mp4", Health.NOT_A_REGULAR_FILE, "pipe.mp4 is a pipe"),
        ("device.mp4", Health.NOT_A_REGULAR_FILE, "device.mp4 is a device"),
        ("dangling.mp4", Health.MISSING, "a link that leads nowhere"),
        ("loop.mp4", Health.MISSING, "a link that leads nowhere"),
        ("outside.mp4", Health.OK, ""),  # who linked it there meant it
        ("20000.webm", Health.TOO_LARGE, "20,000 × 20,000 pixels"),
        ("12000.webm", Health.TOO_LARGE, "12,000 × 12,000 pixels; at most 35,389,440"),
        (
            "many_samples.mp4",
            Health.OUT_OF_MEMORY,
            "more memory than it could have (the limit is 200 MB)",
        ),
        ("10_gb.mp4", Health.TRUNCATED, "9,999,999,008 bytes are missing"),
        ("10_gb.webm", Health.TRUNCATED, "9,999,999,000 bytes are missing"),
        ("endless.webm", Health.TRUNCATED, "bytes are missing"),
    ],
)
def test_bad_file_has_its_reason(
    probes: dict[str, ProbeResult], name: str, health: Health, says: str
) -> None:
    probe = probes[name]
    assert probe.health is health
    assert says in probe.detail
    assert bool(probe.detail) == (health is not Health.OK)
    if health is not Health.OK:
        assert (probe.n_frames, probe.exact) == (0, False)


@pytest.mark.parametrize("name", CUT)
def test_file_that_was_cut_is_truncated(probes: dict[str, ProbeResult], name: str) -> None:
    results = [probes[f"{share}_{name}"] for share in (10, 50, 90)]
    assert [probe.health for probe in results] == [Health.TRUNCATED] * 3
    assert all("missing" in probe.detail for probe in results)
    assert len({probe.hash for probe in results}) == 3


@pytest.mark.parametrize("name", NAMES)
def test_odd_names_are_files_like_others(
    probes: dict[str, ProbeResult], whole: Callable[[str], Path], name: str
) -> None:
    assert probes[name] == probes["good.mp4"]


@pytest.mark.parametrize("exact", [True, False])
def test_a_name_is_no_protocol_and_no_option(
    whole: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exact: bool
) -> None:
    """Relative to the current folder these would be a list of files, and an option."""
    monkeypatch.chdir(tmp_path)
    reference = decode_in_order(whole("b_frames.mp4"))
    for name in ("concat:a.mp4", "-i.mp4"):
        shutil.copy(whole("b_frames.mp4"), tmp_path / name)
        np.testing.assert_array_equal(read_frames(name, [7], exact=exact), reference[[7]])


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    began = time.monotonic()
    assert probe_all([tmp_path / "pipe.mp4"], Limits(timeout_s=60))["pipe.mp4"].detail
    with pytest.raises(DataError, match=r"pipe\.mp4: it is a folder, a pipe or a device"):
        read_frames(tmp_path / "pipe.mp4", [0])
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("name", FLIPPED)
def test_flipped_bits_never_pass_unseen_where_ffmpeg_sees_them(
    whole: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    """Whatever the ffmpeg program complains of, the probe has a reason or a detail for."""
    data = whole(name).read_bytes()
    paths = []
    for flips in (1, 8, 60):
        for seed in range(3):
            rng = np.random.default_rng([flips, seed])
            flipped = bytearray(data)
            for at in rng.integers(0, len(data), flips):
                flipped[at] ^= 1 << int(rng.integers(8))
            paths.append(tmp_path / f"{flips}_{seed}_{name}")
            paths[-1].write_bytes(flipped)
    results = probe_all(paths)
    unexplained = {Health.CRASHED, Health.TIMED_OUT, Health.MISSING, Health.EMPTY}
    assert not unexplained & {probe.health for probe in results.values()}
    for path in paths:
        probe = results[path.name]
        assert probe.detail or probe.health is Health.OK
        assert probe.detail or not ffmpeg_errors(path)
        if probe.health is Health.UNDECODABLE:
            assert "at frame " in probe.detail
    assert len({probe.hash for probe in results.values()}) == len(paths)


def as_nobody(path: Path, kind: str, max_pixels: int) -> Iterator[ProbeResult]:
    import av  # noqa: F401  while it may still be read

    if os.geteuid() == 0:
        os.seteuid(65534)
    yield from probe_progressively(path, kind, max_pixels)


def test_a_file_without_permission_is_unreadable(whole: Callable[[str], Path]) -> None:
    folder = Path(tempfile.mkdtemp())  # pytest's own folders are closed to others
    try:
        folder.chmod(0o755)
        for name in ("open.mp4", "locked.mp4", "locked/inside.mp4", "images/0.png", "images/1.png"):
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copy(whole("b_frames.mp4"), folder / name)
        (folder / "locked.mp4").chmod(0)
        (folder / "images/0.png").chmod(0)
        (folder / "locked").chmod(0)
        names = [("open.mp4", "video"), ("locked.mp4", "video"), ("locked/inside.mp4", "video")]
        items = [(folder / name, kind) for name, kind in [*names, ("images", "frames")]]
        results = probe_many(items, 8, 1, LIMITS, function=as_nobody)
    finally:
        (folder / "locked").chmod(0o700)
        shutil.rmtree(folder)
    assert [probe.health for probe in results] == [Health.OK, *[Health.UNREADABLE] * 3]
    assert all("Permission denied" in probe.detail for probe in results[1:])


def test_bad_images_in_a_folder_of_frames(tmp_path: Path) -> None:
    def folder(name: str, count: int = 9) -> Path:
        path = tmp_path / f"{name}.frames"
        path.mkdir()
        for number in range(count):
            noise = np.random.default_rng(number).integers(0, 255, (48, 32, 3), dtype=np.uint8)
            Image.fromarray(noise).save(path / f"{number}.jpg")
        return path

    cut = folder("cut")
    (cut / "5.jpg").write_bytes((cut / "5.jpg").read_bytes()[:700])
    text = folder("text")
    (text / "3.jpg").write_text("no image")
    piped = folder("piped")
    (piped / "2.jpg").unlink()
    os.mkfifo(piped / "2.jpg")
    renamed = folder("renamed")
    (renamed / "8.jpg").rename(renamed / "9.jpg")
    file = tmp_path / "file.frames"
    file.write_text("no folder")
    paths = [folder("good"), cut, text, piped, renamed, file]
    results = probe_all(paths)
    assert {name: probe.health for name, probe in results.items()} == {
        "good.frames": Health.OK,
        "cut.frames": Health.UNDECODABLE,
        "text.frames": Health.UNDECODABLE,
        "piped.frames": Health.NOT_A_REGULAR_FILE,
        "renamed.frames": Health.OK,
        "file.frames": Health.MISSING,
    }
    assert "Undecodable at frame 5 (5.jpg): image file is truncated" in results["cut.frames"].detail
    assert "frame 3 (3.jpg): no image" in results["text.frames"].detail
    assert results["good.frames"].hash != results["renamed.frames"].hash  # names count, too
    small = probe_all(paths[:1], Limits(max_pixels=48 * 32 - 1))["good.frames"]
    assert (small.health, "32 × 48 pixels" in small.detail) == (Health.TOO_LARGE, True)


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose dataset `own` is read from the list data/own/all.txt."""
    shutil.copytree(ROOT / "params", tmp_path / "params")
    file = tmp_path / "params/dataset/own.yaml"
    settings = yaml.safe_load(file.read_text("utf-8"))
    settings["sources"]["own"]["list"] = "all.txt"
    file.write_text(yaml.safe_dump(settings, sort_keys=False))
    (tmp_path / "data/own").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "data/own"


def test_the_stage_writes_a_row_for_every_bad_file(
    own: Path, whole: Callable[[str], Path], caplog: pytest.LogCaptureFixture
) -> None:
    expected = {
        "good.mp4": "ok",
        "two words.mp4": "ok",
        "linked.mp4": "ok",
        "scratched.mp4": "ok",
        "zero.mp4": "empty",
        "text.mp4": "not_a_video",
        "pipe.mp4": "not_a_regular_file",
        "dangling.mp4": "missing",
        "gone.mp4": "missing",
        "folder.mp4": "not_a_regular_file",
    }
    for name in ("good.mp4", "two words.mp4"):
        shutil.copy(whole("b_frames.mp4"), own / name)
    (own / "linked.mp4").symlink_to(whole("b_frames.mp4"))
    scratched = bytearray(whole("b_frames.mp4").read_bytes())
    scratched[len(scratched) // 2] ^= 0xFF
    (own / "scratched.mp4").write_bytes(scratched)
    (own / "zero.mp4").touch()
    (own / "text.mp4").write_text("no video")
    os.mkfifo(own / "pipe.mp4")
    (own / "dangling.mp4").symlink_to("nowhere.mp4")
    (own / "folder.mp4").mkdir()
    (own / "all.txt").write_text("".join(f'"{name}",walk\n' for name in expected))
    manifest.run(compose(["dataset=own"]))
    table = read_manifest(paths.manifest("own")).set_index("path")
    assert table["health"].to_dict() == expected
    good = table.loc["good.mp4"]
    assert (good["container"], good["codec"]) == ("mov,mp4,m4a,3gp,3g2,mj2", "h264")
    assert (good["header_frames"], good["n_frames"], good["rotation"]) == (36, 36, 0)
    assert len(good["hash"]) == 64
    assert table.loc["linked.mp4", "hash"] == good["hash"]
    messages = caplog.text
    assert "ok: 4" in messages
    assert "ok, though FFmpeg complained: 1 (see `detail` in the manifest)" in messages
    assert "first at frame" in table.loc["scratched.mp4", "detail"]
    assert "not_a_regular_file: 2" in messages


@pytest.mark.parametrize("path", ["../secret.mp4", "walk/../../secret.mp4", "/etc/passwd"])
def test_a_listed_path_that_leads_out_of_the_root_is_refused(
    own: Path, whole: Callable[[str], Path], path: str
) -> None:
    shutil.copy(whole("b_frames.mp4"), own.parent / "secret.mp4")
    (own / "all.txt").write_text(f"{path},walk\n")
    with pytest.raises(DataError, match=r"leads out of the dataset's folder|does not lie under"):
        manifest.run(compose(["dataset=own"]))
    assert not paths.manifest("own").exists()
