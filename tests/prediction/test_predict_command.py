"""`vidprompt predict` and `calibrate` from arguments to output, on files as people have them."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tests.data.make_videos import ffmpeg, make
from tests.models.small import metadata_of
from tests.prediction.small_model import CLASSES, small_model

from vidprompt.cli.prediction_tables import TerminalTables
from vidprompt.models.checkpoint import load_checkpoint, save_checkpoint
from vidprompt.models.checkpoint_metadata import read_metadata
from vidprompt.prediction.calibration import run_calibration
from vidprompt.prediction.command import Request, chosen_format, run
from vidprompt.prediction.model import Model
from vidprompt.prediction.sources import ModelSource
from vidprompt.system.errors import UserError

NAMES = ",".join(CLASSES)
GOOD = (
    "rotated_90.mp4",
    "variable_rate.mp4",
    "hevc.mp4",
    "ten_bit.mp4",
    "one_frame.mp4",
    "vp9.webm",
)
BAD = {
    "sound.mp4": "no video stream",
    "cut.mp4": "cannot be read",
    "text.mp4": "cannot be read",
    "empty.mp4": "0 bytes",
    "gone.mp4": "no such file",
}


@pytest.fixture(scope="module")
def model() -> Model:
    return small_model()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos that can be used, and some that cannot."""
    folder = tmp_path_factory.mktemp("odd")
    for name in GOOD:
        make(folder, name)
    pictures = [Image.new("RGB", (40, 30), (30 * n, 0, 0)) for n in range(8)]
    pictures[0].save(folder / "moving.gif", save_all=True, append_images=pictures[1:], duration=120)
    ffmpeg("-f", "lavfi", "-i", "sine=duration=1", "-c:a", "aac", folder / "sound.mp4")
    (folder / "cut.mp4").write_bytes((folder / "hevc.mp4").read_bytes()[:2000])
    (folder / "text.mp4").write_text("not a video\n" * 100)
    (folder / "empty.mp4").touch()
    return folder


def ran(model: Any, *videos: Path, **options: Any) -> bool:
    request = Request(videos=tuple(map(str, videos)), **{"classes": NAMES, "workers": 0, **options})
    return run(request, lambda: model, TerminalTables())


def test_broken_files_are_rows_and_the_others_are_done(
    model: Model, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [folder / name for name in (*GOOD, "moving.gif", *BAD)]
    assert not ran(model, *paths, format="json", top=2)
    rows = {Path(row["video"]).name: row for row in json.loads(capsys.readouterr().out)}
    assert list(rows) == [path.name for path in paths]
    for name in (*GOOD, "moving.gif"):
        assert len(rows[name]["classes"]) == 2
        assert rows[name]["duration_s"] > 0
    for name, reason in BAD.items():
        assert reason in rows[name]["error"]
        assert str(folder) not in rows[name]["error"]
    assert rows["moving.gif"]["duration_s"] == pytest.approx(0.96)


def test_a_turned_video_is_seen_upright(model: Model, folder: Path) -> None:
    turned = model.input.decode(folder / "rotated_90.mp4").frames
    assert turned.shape[1] > turned.shape[2]


@pytest.mark.parametrize("kind", ["table", "json", "csv", "vtt", "srt"])
def test_spans_of_odd_files_in_every_format(
    model: Model, folder: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    video = folder / "variable_rate.mp4"
    assert ran(model, video, format=kind, window=0.5)
    text = capsys.readouterr().out
    if kind == "json":
        (value,) = json.loads(text)
        assert value["duration_s"] > 1
        assert isinstance(value["spans"], list)
    elif kind == "csv":
        assert next(csv.reader(io.StringIO(text)))[:4] == ["video", "start", "end", "label"]
    elif kind == "vtt":
        assert text.startswith("WEBVTT\n")
    assert not ran(model, folder / "sound.mp4", video, format="csv", window=0.5)
    assert "no video stream" in capsys.readouterr().out


def test_a_long_list_goes_on_where_it_stopped(
    model: Model, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "results.csv"
    options = {"format": "csv", "file": out, "resume": True}
    assert not ran(model, folder / "hevc.mp4", folder / "cut.mp4", **options)
    seen: list[str] = []
    features = model.features
    monkeypatch.setattr(
        model, "features", lambda videos, **more: seen.extend(videos) or features(videos, **more)
    )
    assert ran(model, folder / "hevc.mp4", folder / "cut.mp4", folder / "ten_bit.mp4", **options)
    assert [Path(name).name for name in seen] == ["ten_bit.mp4"]
    rows = list(csv.DictReader(out.open(encoding="utf-8")))
    assert [Path(row["video"]).name for row in rows] == ["hevc.mp4", "cut.mp4", "ten_bit.mp4"]
    assert ran(model, folder / "hevc.mp4", **options)  # nothing is left to do


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": "a,a"}, "twice"),
        ({"classes": ","}, "no class"),
        ({"classes": "names.txt"}, "no file names.txt"),
        ({"prompts": ("a video",)}, "one {}"),
        ({"stride": 1.0}, "--window"),
        ({"resume": True}, "--csv"),
        ({"unknown": True}, "calibrate"),
        ({"file": Path("x.txt")}, "--out needs a format"),
        ({"videos": ("rtsp://a/1", "rtsp://a/2")}, "by itself"),
        ({"videos": ("out.json",)}, "--out out.json"),
        ({"window": 0.0}, "window=0"),
    ],
)
def test_mistakes_are_one_sentence(
    model: Model, folder: Path, options: dict[str, Any], message: str
) -> None:
    values = {"videos": (str(folder / "hevc.mp4"),), "classes": NAMES, "workers": 0, **options}
    with pytest.raises(UserError, match=message):
        run(Request(**values), lambda: model, TerminalTables())


def test_one_format_at_a_time() -> None:
    assert chosen_format(False, False, None, False, False, None) == "table"
    with pytest.raises(UserError, match="--json and --html"):
        chosen_format(True, False, None, False, False, Path("a.html"))


def test_calibration_is_written_into_a_copy(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = small_model("ez_clip")
    checkpoint = tmp_path / "model.safetensors"
    save_checkpoint(checkpoint, model.encoder, metadata_of(model.encoder), torch.float32)
    source = ModelSource("small", {}, checkpoint, read_metadata(checkpoint))
    model = Model(source, model.encoder, model.input, model.text, model.device)
    for place, name in enumerate(("growing", "shrinking")):
        (tmp_path / "videos" / name).mkdir(parents=True)
        for number in range(5):
            video = (folder / GOOD[(place + 2 * number) % 6]).read_bytes()
            (tmp_path / f"videos/{name}/{number}.mp4").write_bytes(video)
    (tmp_path / "videos/growing/notes.txt").touch()
    lines = list(run_calibration(lambda: model, tmp_path / "videos", tmp_path / "out", workers=0))
    copy = tmp_path / "out/model.safetensors"
    assert lines[-1] == str(copy)
    assert read_metadata(copy).unknown["videos"] == 10
    assert read_metadata(checkpoint).unknown == {}
    load_checkpoint(copy, model.encoder.backbone)
    model.source = ModelSource("copy", {}, copy, read_metadata(copy))
    assert ran(model, folder / "hevc.mp4", unknown=True)
    assert "of these classes" in capsys.readouterr().out
    with pytest.raises(UserError, match="itself"):
        list(run_calibration(lambda: model, tmp_path / "videos", copy, workers=0))
    with pytest.raises(UserError, match="no class's folder"):
        list(run_calibration(lambda: model, tmp_path / "videos/growing", tmp_path / "o", workers=0))
