"""Loading models of every kind, each of which then predicts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tests.data.make_videos import write_video
from tests.models.small import small_backbone
from tests.pipeline.stages.encoding_project import BACKBONE
from tests.prediction.small_checkpoint import CLASSES, WEIGHTS, T, write_model
from tests.published.test_checkpoints import trained

import vidprompt
from vidprompt.prediction.results import Prediction
from vidprompt.published.checkpoints import export_published
from vidprompt.published.conversion import import_to_folder
from vidprompt.system.errors import UserError

PIXELS = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("video") / "h264.mp4", 12)


def open_clip_folder(folder: Path) -> Path:
    """A model in open_clip's layout on the Hub."""
    folder.mkdir(parents=True)
    config = {"model_cfg": BACKBONE, "preprocess_cfg": PIXELS}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    save_file(small_backbone().clip.state_dict(), folder / "open_clip_model.safetensors")
    return folder


def check(prediction: Prediction, classes: list[str]) -> None:
    assert list(prediction.classes) == classes
    assert prediction.probabilities.sum() == pytest.approx(1, abs=1e-5)
    assert prediction.duration == pytest.approx(12 / 25)


@pytest.mark.parametrize("method", ["ez_clip", "vita_clip", "frozen_clip"])
def test_a_checkpoint_predicts_far_from_its_project(
    method: str, tmp_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model(tmp_path / "project", method)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    model = vidprompt.load(tmp_path / "project/models/demo/ez_clip/supervised_split1", "cpu")
    assert (model.method, model.input.num_frames, model.class_names) == (method, T, tuple(CLASSES))
    assert model.device == torch.device("cpu")
    assert f"{method} on tiny, 4 frames, 3 classes" in repr(model)
    check(model.predict(video), CLASSES)
    check(model.predict(video, ["a dog", "a cat"]), ["a dog", "a cat"])
    assert not list(Path().iterdir())  # nothing is written where it is used


def test_the_same_model_has_the_same_identity_from_everywhere(tmp_path: Path) -> None:
    first = write_model(tmp_path / "one")
    copied = tmp_path / "two"
    copied.mkdir()
    shutil.copy(first, copied / "mine.safetensors")
    shutil.copy(tmp_path / "one" / WEIGHTS, copied)
    other = write_model(tmp_path / "three", input={"views": {"crops": 3}})
    identities = [
        vidprompt.load(file, "cpu").identity for file in (first, copied / "mine.safetensors", other)
    ]
    assert identities[0] == identities[1] != identities[2]


def test_a_backbone_that_is_given_must_be_the_trainings(tmp_path: Path) -> None:
    checkpoint = write_model(tmp_path)
    state = small_backbone().clip.state_dict()
    state["logit_scale"] += 1
    save_file(state, tmp_path / "other.safetensors")
    with pytest.raises(
        UserError, match=r"was trained on backbone tiny \(sha256 \w+\), and this is"
    ):
        vidprompt.load(checkpoint, "cpu", weights=tmp_path / "other.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"\0" * 64)
    with pytest.raises(UserError, match="broken.safetensors does not fit tiny"):
        vidprompt.load(checkpoint, "cpu", weights=tmp_path / "broken.safetensors")


def test_what_cannot_be_is_a_sentence(tmp_path: Path) -> None:
    checkpoint = write_model(tmp_path)
    with pytest.raises(UserError, match="takes 4 frames, as it was trained with, not 8"):
        vidprompt.load(checkpoint, "cpu", num_frames=8)
    for device in ("cuda:99", "gpu", "tpu:0"):
        with pytest.raises(UserError, match=f"device '{device}' cannot be used"):
            vidprompt.load(checkpoint, device)
    model = vidprompt.load(checkpoint, "cpu", num_frames=T)
    with pytest.raises(UserError, match="has no threshold for unknown classes"):
        model.predict(tmp_path / "any.mp4", unknown=True)
    newer = write_model(tmp_path / "newer", input={"views": {"tilt": 3}})
    with pytest.raises(UserError, match="input is of another version of VidPrompt"):
        vidprompt.load(newer, "cpu")


def test_a_checkpoint_without_its_input_says_what_is_assumed(tmp_path: Path, video: Path) -> None:
    older = write_model(tmp_path, input={}, prompts={})
    with pytest.warns(UserWarning, match="one clip of 4 frames, the centre crop"):
        model = vidprompt.load(older, "cpu")
    assert model.read(video).clips.shape == (1, T, 3, 32, 32)
    assert model.texts().source == "class names"


@pytest.mark.parametrize("method", ["ez_clip", "vita_clip"])
def test_an_imported_published_checkpoint_predicts(
    method: str, tmp_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`vidprompt import-checkpoint FILE OUT`; OUT is moved, and used from another folder."""
    published = trained(method)
    export_published(published, tmp_path / "released.pt")
    import_to_folder(tmp_path / "released.pt", tmp_path / "first", "", None)
    (tmp_path / "first").rename(tmp_path / "ours")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.warns(UserWarning, match="does not say how its tests read videos"):
        model = vidprompt.load("../ours", "cpu")
    names = list(model.class_names) or ["riding a bike", "yoga"]
    check(model.predict(video, names), names)
    clips = torch.randint(256, (2, 3, 3, 32, 32), dtype=torch.uint8)
    from vidprompt.data.clips.reading import normalise

    backbone = published.backbone
    with torch.no_grad():
        pixels = normalise(clips, backbone.mean, backbone.std, model.device)
        expected = published.encode_video(pixels)[1]
    torch.testing.assert_close(
        torch.from_numpy(model.encode(clips)), expected, rtol=1e-5, atol=1e-5
    )


def test_a_folder_of_open_clip_is_frozen_clip(tmp_path: Path, video: Path) -> None:
    folder = open_clip_folder(tmp_path / "clip")
    model = vidprompt.load(folder, "cpu", num_frames=3)
    assert (model.method, model.class_names, model.input.num_frames) == ("frozen_clip", (), 3)
    assert (model.encoder.backbone.mean, model.encoder.backbone.std) == (
        tuple(PIXELS["mean"]),
        tuple(PIXELS["std"]),
    )
    check(model.predict(video, ["a dog", "a cat"]), ["a dog", "a cat"])
    assert model.texts(["run"]).features.shape[1] > 1  # CLIP's sentences
    with pytest.raises(UserError, match=r"has no classes of its own: give classes=\[…\]"):
        model.predict(video)
    named = vidprompt.load(f"open_clip:local-dir:{folder}", "cpu", num_frames=3)
    assert named.identity == model.identity
    assert vidprompt.load(folder, "cpu").input.num_frames == 8


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the Hugging Face Hub with one model, offline."""
    import huggingface_hub.constants as constants

    commit = "0123456789abcdef0123456789abcdef01234567"
    model = tmp_path / "hub/models--org--clip"
    open_clip_folder(model / "snapshots" / commit)
    (model / "refs").mkdir()
    (model / "refs/main").write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return model / "snapshots" / commit


def test_a_model_in_the_hubs_cache_needs_no_internet(hub: Path, video: Path) -> None:
    model = vidprompt.load("open_clip:hf-hub:org/clip", "cpu", num_frames=3)
    check(model.predict(video, ["a dog", "a cat"]), ["a dog", "a cat"])
    assert model.encoder.backbone.mean == tuple(PIXELS["mean"])
    with pytest.raises(
        UserError, match="hf-hub:org/other cannot be fetched .*huggingface-cli download"
    ):
        vidprompt.load("open_clip:hf-hub:org/other", "cpu")


def test_a_checkpoint_on_a_model_of_the_hub_finds_it_on_another_machine(
    hub: Path, tmp_path: Path, video: Path
) -> None:
    """Its record names the file in the cache of the machine that trained it."""
    spec = {
        "name": "hf-hub:org/clip",
        "pretrained": None,
        "config": BACKBONE,
        "weights": "/home/somebody/.cache/hub/open_clip_model.safetensors",
        **PIXELS,
    }
    checkpoint = write_model(tmp_path / "project", backbone_spec=spec)
    shutil.move(checkpoint, tmp_path / "copied.safetensors")
    shutil.rmtree(tmp_path / "project")
    model = vidprompt.load(tmp_path / "copied.safetensors", "cpu")
    check(model.predict(video), CLASSES)
    shutil.rmtree(hub)
    with pytest.raises(UserError, match="hf-hub:org/clip cannot be fetched"):
        vidprompt.load(tmp_path / "copied.safetensors", "cpu")
