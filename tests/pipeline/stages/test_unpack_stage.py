"""The stage that unpacks a dataset kept as tar files."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tools.demo.pack import pack

from vidprompt.config.schema import SourceConfig
from vidprompt.pipeline.stages import unpack
from vidprompt.system.errors import DataError, UserError

FILES = {f"actions/videos/wave/v{i:02d}.mp4": bytes([i]) * i for i in range(25)} | {
    "actions/annotations/trainlist01.txt": b"wave/v01.mp4 1\n"
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A packed dataset in `packed`, what was packed in `plain`."""
    for name, content in FILES.items():
        (tmp_path / "plain" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "plain" / name).write_bytes(content)
    pack(tmp_path / "plain", tmp_path / "packed")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def config(archives: str | None = "packed", sources: str = "actions") -> Any:
    options = {name: SourceConfig("ucf101", name) for name in sources.split()}
    return SimpleNamespace(
        dataset=SimpleNamespace(name="demo", root="out/demo", archives=archives, sources=options)
    )


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_what_was_packed_is_there_again(folder: Path) -> None:
    packed = contents(folder / "packed")
    assert set(packed) == {"actions/videos.tar.gz", "actions/annotations/trainlist01.txt"}
    unpack.run(config())
    assert contents(folder / "out/demo") == FILES
    assert {path.name for path in (folder / "out").iterdir()} == {"demo"}
    pack(folder / "plain", folder / "again")
    assert contents(folder / "again") == packed


def test_folders_of_no_source_are_left_out(folder: Path) -> None:
    (folder / "packed/backbone").mkdir()
    (folder / "packed/backbone/weights").write_bytes(b"w")
    unpack.run(config())
    assert contents(folder / "out/demo") == FILES


def test_a_second_run_replaces_the_root(folder: Path) -> None:
    unpack.run(config())
    (folder / "out/demo/actions/stray.mp4").write_bytes(b"stray")
    unpack.run(config())
    assert contents(folder / "out/demo") == FILES


def test_an_interrupted_run_resumes_and_shows_no_half_of_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(unpack, "_unpack", fail)
        with pytest.raises(KeyboardInterrupt):
            unpack.run(config())
    assert not (folder / "out/demo").exists()
    copied = folder / "out/demo.part/actions/annotations/trainlist01.txt"
    before = copied.stat().st_ino
    unpack.run(config())
    assert contents(folder / "out/demo") == FILES
    assert (folder / "out/demo/actions/annotations/trainlist01.txt").stat().st_ino == before


def add(archive: Path, name: str, **fields: Any) -> None:
    with tarfile.open(archive, "w") as tar:
        member = tarfile.TarInfo(name)
        for field, value in fields.items():
            setattr(member, field, value)
        tar.addfile(member, io.BytesIO(b"x" * member.size))


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("../../outside.mp4", {"size": 1}),
        ("videos/link", {"type": tarfile.SYMTYPE, "linkname": "../../../outside"}),
        ("videos/device", {"type": tarfile.CHRTYPE}),
    ],
)
def test_an_archive_cannot_leave_its_folder(folder: Path, name: str, fields: Any) -> None:
    add(folder / "packed/actions/bad.tar", name, **fields)
    with pytest.raises(DataError, match=r"packed/actions/bad\.tar cannot be unpacked"):
        unpack.run(config())
    assert not (folder / "out/demo").exists()
    assert not list(folder.rglob("outside*"))


def test_a_truncated_archive_is_named(folder: Path) -> None:
    archive = folder / "packed/actions/videos.tar.gz"
    archive.write_bytes(archive.read_bytes()[:-40])
    with pytest.raises(DataError, match=r"videos\.tar\.gz cannot be unpacked: .*fetch it again"):
        unpack.run(config())


def test_unpacked_files_have_the_time_of_unpacking(folder: Path) -> None:
    """Else a video that changed and kept its size would look known to the cache of probes."""
    unpack.run(config())
    started = (folder / "packed/actions/videos.tar.gz").stat().st_mtime
    assert (folder / "out/demo/actions/videos/wave/v01.mp4").stat().st_mtime >= started - 1


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        (config(archives=None), UserError, "demo is read as it lies in out/demo"),
        (config(archives="gone"), DataError, "gone is missing: `dvc pull data.dvc`"),
        (config(sources="transfer"), DataError, "packed holds no files in transfer"),
    ],
)
def test_what_cannot_be_unpacked_is_one_sentence(
    folder: Path, asked: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        unpack.run(asked)
