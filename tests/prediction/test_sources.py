"""What a MODEL string names, from any folder; and the sentences where it names nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from tests.pipeline.stages.encoding_project import BACKBONE
from tests.prediction.small_checkpoint import CLASSES, WEIGHTS, write_backbone, write_model

from vidprompt.models.backbones.local_files import PACKAGED, tokenizer_digest
from vidprompt.models.checkpoint_metadata import read_metadata
from vidprompt.prediction.sources import PROJECT_VARIABLE, ModelSource, find_model_source
from vidprompt.system.errors import UserError

RUN = "demo/ez_clip/supervised_split1"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with one run; the current folder is elsewhere."""
    root = tmp_path / "project"
    write_model(root)
    (root / "params").mkdir()
    (root / "dvc.yaml").write_text("stages: {}\n")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.delenv(PROJECT_VARIABLE, raising=False)
    return root


def weights_of(source: ModelSource) -> Path:
    return Path(str(source.backbone["weights"])).resolve()


def test_a_file_or_its_folder_is_found_from_anywhere(project: Path) -> None:
    folder = project / "models" / RUN
    for name in (folder, folder / "model.safetensors", str(folder)):
        source = find_model_source(name)
        assert source.checkpoint == folder / "model.safetensors"
        assert source.metadata is not None
        assert source.metadata.class_names == CLASSES
        assert weights_of(source) == (project / WEIGHTS).resolve()


def test_a_run_is_found_in_its_project(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"this folder is in none, and VIDPROMPT_PROJECT can name"):
        find_model_source(RUN)
    assert find_model_source(RUN, project=project).name == RUN
    monkeypatch.setenv(PROJECT_VARIABLE, str(project))
    assert weights_of(find_model_source(RUN)) == (project / WEIGHTS).resolve()
    monkeypatch.delenv(PROJECT_VARIABLE)
    (project / "results/deep").mkdir(parents=True)
    monkeypatch.chdir(project / "results/deep")
    assert find_model_source(RUN).checkpoint == project / "models" / RUN / "model.safetensors"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "no model is named: name a checkpoint file"),
        ("demo/ez_clip/supervised_split2", "did you mean demo/ez_clip/supervised_split1"),
        ("open_clip:ViT-B-32", r"says no weights, which would be random: one of .*openai"),
        ("open_clip:ViT-X", "says no weights, which would be random: open_clip:NAME:TAG"),
    ],
)
def test_a_name_of_nothing_says_what_there_is(project: Path, name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        find_model_source(name, project=project)


def test_a_folder_that_is_no_project_is_refused(project: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"elsewhere is no project of VidPrompt: it has no params/"):
        find_model_source(RUN, project=tmp_path / "elsewhere")
    shutil.rmtree(project / "models")
    with pytest.raises(UserError, match=r"has no run yet: `dvc repro` trains them"):
        find_model_source(RUN, project=project)


def test_files_of_others_are_told_apart(project: Path) -> None:
    torch.save({"state_dict": {}}, "epoch_10.pth")
    with pytest.raises(UserError, match=r"`vidprompt import-checkpoint epoch_10.pth OUT` converts"):
        find_model_source("epoch_10.pth")
    with pytest.raises(UserError, match="not one of VidPrompt's checkpoints"):
        find_model_source(project / WEIGHTS)  # CLIP's own weights
    Path("video.mp4").write_bytes(b"\0" * 100)
    with pytest.raises(UserError, match="is not a safetensors checkpoint"):
        find_model_source("video.mp4")


@pytest.mark.parametrize("place", ["tiny.safetensors", "backbone/tiny.safetensors", WEIGHTS])
def test_a_copied_checkpoint_finds_its_backbone_beside_it(project: Path, place: str) -> None:
    shutil.copy(project / "models" / RUN / "model.safetensors", "copied.safetensors")
    Path(place).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(project / WEIGHTS, place)
    shutil.rmtree(project)
    source = find_model_source("copied.safetensors")
    assert weights_of(source) == Path(place).resolve()


def test_a_missing_or_another_backbone_is_one_sentence_with_what_to_do(project: Path) -> None:
    shutil.copy(project / "models" / RUN / "model.safetensors", "copied.safetensors")
    wanted = read_metadata("copied.safetensors").backbone_checksum[:12]
    with pytest.raises(UserError) as missing:
        find_model_source("copied.safetensors")
    assert str(missing.value) == (
        f"copied.safetensors needs its backbone tiny (sha256 {wanted}), and {WEIGHTS} is not on this "
        "machine: `dvc pull data.dvc` in the project fetches it; or name the file with --weights "
        "(weights=… in Python)"
    )
    Path("tiny.safetensors").write_bytes((project / WEIGHTS).read_bytes()[:-1] + b"\0")
    with pytest.raises(
        UserError, match=r"tiny\.safetensors has other content .* --weights"
    ) as other:
        find_model_source("copied.safetensors")
    assert "\n" not in str(other.value)
    given = find_model_source("copied.safetensors", weights=project / WEIGHTS)
    assert weights_of(given) == (project / WEIGHTS).resolve()
    with pytest.raises(UserError, match="there is no file nowhere of weights"):
        find_model_source("copied.safetensors", weights="nowhere")


def test_a_checkpoint_of_another_version_is_no_traceback(project: Path) -> None:
    from safetensors.numpy import save_file

    for text, message in (
        ('{"method": "ez_clip", "shape": 3}', "its metadata is of another version of VidPrompt"),
        ("{", "its metadata is of another version of VidPrompt"),
    ):
        save_file({}, "other.safetensors", {"vidprompt": text})
        with pytest.raises(UserError, match=message):
            find_model_source("other.safetensors")


def test_a_bare_backbone_is_named_by_tag_folder_or_hub(project: Path) -> None:
    source = find_model_source("open_clip:ViT-B-32:openai")
    assert (source.checkpoint, dict(source.backbone)) == (
        None,
        {"name": "ViT-B-32", "pretrained": "openai"},
    )
    assert find_model_source("open_clip:hf-hub:org/clip").backbone == {"name": "hf-hub:org/clip"}
    Path("clip").mkdir()
    Path("clip/open_clip_config.json").write_text("{}", encoding="utf-8")
    for name in ("clip", "open_clip:local-dir:clip"):
        assert find_model_source(name).backbone == {"name": "local-dir:clip"}
    spec = write_backbone(Path())
    own = find_model_source("open_clip:ViT-B-32", weights=spec["weights"])
    assert own.backbone == {"name": "ViT-B-32", "pretrained": None, "weights": WEIGHTS}


def test_the_tokenizer_is_found_beside_the_checkpoint_or_as_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = {"name": "tiny", "config": BACKBONE, "weights": WEIGHTS}
    root = tmp_path / "project"
    own = root / "data/tokenizer"
    own.mkdir(parents=True)
    (own / "tokenizer.json").write_text("{}")
    spec |= {"tokenizer": "data/tokenizer", "tokenizer_digest": tokenizer_digest(own)}
    file = write_model(root, backbone_spec=spec)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    found = find_model_source(file).backbone
    assert Path(str(found["tokenizer"])).resolve() == own
    copied = tmp_path / "copied"
    (copied / "backbone").mkdir(parents=True)
    shutil.copy(file, copied)
    shutil.copy(root / WEIGHTS, copied / "backbone")
    assert find_model_source(copied).backbone["tokenizer"] == "data/tokenizer"  # texts will ask
    shutil.copytree(own, copied / PACKAGED)
    assert find_model_source(copied).backbone["tokenizer"] == str(copied / PACKAGED)
    (copied / PACKAGED / "tokenizer.json").write_text('{"other": 1}')
    with pytest.raises(UserError, match="was trained with another tokenizer than that in"):
        find_model_source(copied)
