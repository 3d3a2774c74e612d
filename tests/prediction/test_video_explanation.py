"""`Model.explain`: from a file to relevance on its frames, and to the files that show it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tests.data.make_videos import decode_in_order, make, write_video
from tests.prediction.small_checkpoint import write_model
from tests.prediction.small_model import small_model
from typer.testing import CliRunner

from vidprompt.data.frames.sampling import Views
from vidprompt.prediction import explaining
from vidprompt.prediction.explained_frames import SHOWN_SIDE
from vidprompt.prediction.loading import load
from vidprompt.reporting.explanations.relevance import mean_text
from vidprompt.system.errors import DataError, UserError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("videos")


@pytest.mark.parametrize("method", ["frozen_clip", "ez_clip", "vita_clip"])
def test_shares_add_up_over_all_views(method: str, folder: Path) -> None:
    model = small_model(method, Views(clips=2, crops=3, resize=256))
    found = model.explain(make(folder, "b_frames.mp4"), "a red square")
    numbers = model.input.clips(36)
    assert found.numbers.tolist() == np.unique(numbers).tolist()
    assert np.allclose(found.times, found.numbers / 25, atol=1e-3)
    assert found.temporal.sum() == pytest.approx(1)
    assert np.allclose(found.spatial.sum((1, 2)), found.temporal)
    assert found.pictures.shape == (len(found.numbers), 96, 128, 3)
    assert (found.crop[0], found.crop[2]) == (0, 128)  # three crops reach from side to side
    feature = model.embed(folder / "b_frames.mp4").features[0]
    assert found.similarity == pytest.approx(
        feature @ model.embed_text("a red square")[0], abs=1e-5
    )


def test_it_is_the_roll_out_of_the_models_own_clip(folder: Path) -> None:
    from vidprompt.data.clips.reading import normalise

    model = small_model("ez_clip")
    video = make(folder, "b_frames.mp4")
    clip = model.read(video)
    backbone = model.encoder.backbone
    frames = normalise(clip.clips, backbone.mean, backbone.std, model.device)
    expected = model.encoder.explain(frames, "a red square")
    found = model.explain(video, "a red square")
    assert np.allclose(found.spatial, expected.spatial[0], atol=1e-6)
    assert np.allclose(model.explain(video).spatial, model.encoder.explain(frames).spatial[0])


def test_pictures_are_upright_frames_of_the_video(folder: Path) -> None:
    found = small_model().explain(make(folder, "rotated_90.mp4"))
    assert found.size == (96, 128)
    assert found.pictures.shape[1:] == (128, 96, 3)
    assert found.crop == (0, 15, 96, 113)  # 5 of 42 rows are cut off on each side
    heat = found.heat_map(0)
    assert heat.shape == (128, 96)
    assert np.isnan(heat[:15]).all()
    assert np.isfinite(heat[15:113]).all()
    plain = small_model().explain(make(folder, "b_frames.mp4"))
    frames = decode_in_order(folder / "b_frames.mp4")[plain.numbers]
    assert np.abs(plain.pictures.astype(int) - frames).mean() < 3


def test_large_frames_are_reduced_and_their_size_is_kept(tmp_path: Path) -> None:
    video = make(tmp_path, "short.mp4", size="1280x720")
    found = small_model().explain(video)
    assert found.size == (1280, 720)
    assert min(found.pictures.shape[1:3]) == SHOWN_SIDE
    assert found.crop == (274, 0, 1006, 720)  # 12 of 56 columns are cut off on each side


def test_a_class_stands_for_its_texts_as_in_predicting(folder: Path, tmp_path: Path) -> None:
    model = load(write_model(tmp_path), "cpu")
    video = make(folder, "b_frames.mp4")
    found = model.explain(video, ["open_door", "close door", "something else"])
    texts = model.texts()
    feature = model.embed(video).features[0]
    expected = [float(feature @ mean_text(texts.features[k])) for k in (0, 1)]
    assert [one.similarity for one in found[:2]] == pytest.approx(expected, abs=1e-5)
    assert [one.source for one in found] == ["prompts", "prompts", "sentence"]
    assert found.probabilities is not None
    assert sum(found.probabilities) == pytest.approx(1)
    assert (found[0].numbers == found[2].numbers).all()
    assert model.explain(video).similarity is None


def test_a_short_video_shows_each_of_its_frames_once(folder: Path) -> None:
    found = small_model().explain(make(folder, "one_frame.mp4"), "a square")
    assert found.numbers.tolist() == [0]
    assert found.temporal.tolist() == [pytest.approx(1)]


def test_of_a_long_video_the_window_is_explained_that_fits_best(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small_model("ez_clip")
    video = write_video(folder / "h264.mp4", 250)  # 10 s
    text = model.embed_text("a red square")[0]
    windows = list(model.windows(video, 2, 1))
    best = max(windows, key=lambda one: float(one.feature @ text))
    found = model.explain(video, "a red square", window=2)
    assert found.window == (best.start, best.end)
    assert found.numbers.tolist() == np.unique(best.numbers).tolist()
    assert (found.n_frames, found.duration) == (250, pytest.approx(10, abs=0.05))
    assert found.similarity == pytest.approx(float(best.feature @ text), abs=1e-5)
    assert ((found.times >= best.start - 0.01) & (found.times < best.end)).all()
    monkeypatch.setattr(explaining, "LONG_S", 5.0)
    assert model.explain(video, "a red square").window == found.window
    assert model.explain(video, "a red square", window=None).window is None
    assert model.explain(video).window is None  # no text chooses one
    monkeypatch.setattr(explaining, "header_seconds", lambda _: 0.0)  # a header without a duration
    assert model.explain(video, "a red square").window == found.window


def test_decoded_frames_can_be_explained(folder: Path) -> None:
    model = small_model("vita_clip")
    video = make(folder, "b_frames.mp4")
    (found,) = model.explain_decoded(model.input.decode(video), "a red square", video)
    assert np.allclose(found.spatial, model.explain(video, "a red square").spatial)
    assert found.pictures.shape[1:3] == (32, 42)  # as they were prepared


def test_mistakes_are_named(folder: Path, tmp_path: Path) -> None:
    model = small_model()
    video = make(folder, "short.mp4")
    with pytest.raises(UserError, match="the text is empty"):
        model.explain(video, " ")
    with pytest.raises(UserError, match="at least one text"):
        model.explain(video, [])
    with pytest.raises(UserError, match="the text chooses it"):
        model.explain(video, window=2)
    with pytest.raises(UserError, match="window='some'"):
        model.explain(video, "a", window="some")
    with pytest.raises(DataError, match="no such file"):
        model.explain(tmp_path / "absent.mp4")
    with pytest.raises(UserError, match=r"its ending says what is written: \.png"):
        model.explain(video).save(tmp_path / "a.jpg")


def test_the_command_writes_pictures_an_animation_a_page_and_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vidprompt.cli.main import app

    file = write_model(tmp_path)
    video = make(tmp_path, "short.mp4")
    monkeypatch.chdir(tmp_path)
    run = CliRunner().invoke
    words = ["explain", str(video), "--model", str(file)]
    done = run(app, [*words, "--text", "OpenDoor", "--text", "CloseDoor"])
    assert done.exit_code == 0, done.output
    names = [f"short-explanation{suffix}" for suffix in (".png", ".mp4", ".html")]
    assert all((tmp_path / name).stat().st_size > 1000 for name in names)
    assert done.output.splitlines()[-3:] == names
    assert "“OpenDoor”: similarity" in done.output
    done = run(app, [*words, "--out", "numbers.json", "--window", "all"])
    assert done.exit_code == 0, done.output
    values = json.loads((tmp_path / "numbers.json").read_text())
    assert (values["text"], values["frames_in_video"], values["frame_size"]["width"]) == (
        None,
        5,
        128,
    )
    assert sum(frame["share"] for frame in values["frames"]) == pytest.approx(1)
    (tmp_path / "several").mkdir()
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / "several" / name).write_bytes(video.read_bytes())
    refused = run(app, ["explain", "several", "--model", str(file)])
    assert "it has 2 videos; one is explained at a time" in str(refused.exception)
    refused = run(app, [*words, "--window", "some"])
    assert "--window some: seconds, all, or auto" in str(refused.exception)
