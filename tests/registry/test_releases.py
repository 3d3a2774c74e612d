"""Registered versions as models to predict with, and as releases in the folder of a service."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tests.models.small_tokenizer import write_tokenizer
from tests.pipeline.project import edit
from tests.pipeline.stages.encoding_project import BACKBONE
from tests.registry.project import CLASSES, NAME, commit

import vidprompt
from vidprompt.files.hashes import sha256
from vidprompt.models.backbones.loading import load_backbone
from vidprompt.models.backbones.local_files import PACKAGED
from vidprompt.prediction.sources import PROJECT_VARIABLE
from vidprompt.provenance.dvc_project import DvcProject
from vidprompt.provenance.revision import Revision
from vidprompt.registry import versions
from vidprompt.registry.model_files import (
    VersionFiles,
    backbone_files,
    fetch_version,
    find_backbone,
)
from vidprompt.registry.registration import rollback
from vidprompt.registry.releases import (
    Release,
    current_release,
    read_release,
    remove_old,
    switch_to,
    write_release,
)
from vidprompt.registry.versions import resolve
from vidprompt.system.errors import UserError


def release_of(project: Path, selector: str, folder: Path) -> Release:
    return write_release(fetch_version(resolve(project, selector), project), folder)


@pytest.mark.filterwarnings("ignore:.*does not say how its tests read videos")
def test_a_version_and_a_stage_are_models(
    two_versions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the project, and with its name in a variable from anywhere."""
    served = vidprompt.load(f"{NAME}@production", "cpu")
    assert served.class_names == tuple(CLASSES)
    assert served.source.about["version"] == f"{NAME}@v0.2.0"
    first = vidprompt.load(f"{NAME}@v0.1.0", "cpu")
    clips = served.encoder.backbone  # one backbone, two trainings
    assert clips.identity() == first.encoder.backbone.identity()
    assert first.identity != served.identity
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(
        UserError, match="is a registered version, and versions are found in a project"
    ):
        vidprompt.load(f"{NAME}@production", "cpu")
    monkeypatch.setenv(PROJECT_VARIABLE, str(two_versions))
    assert vidprompt.load(f"{NAME}@production", "cpu").identity == served.identity
    rollback(NAME, "production", project=two_versions)
    assert vidprompt.load(f"{NAME}@production", "cpu").identity == first.identity
    with pytest.raises(UserError, match="has no version 'staging'"):
        vidprompt.load(f"{NAME}@staging", "cpu")
    with pytest.raises(UserError, match="did you mean small-demo"):
        vidprompt.load("smal-demo@production", "cpu")


@pytest.mark.filterwarnings("ignore:.*does not say how its tests read videos")
def test_a_release_is_complete_and_replaced_in_one_step(two_versions: Path, tmp_path: Path) -> None:
    home = tmp_path / "service"
    assert current_release(home) is None
    old = release_of(two_versions, f"{NAME}@v0.1.0", home)
    switch_to(old, home)
    new = release_of(two_versions, f"{NAME}@production", home)
    assert current_release(home) == old
    switch_to(new, home)
    found = current_release(home)
    assert found is not None
    assert (found.selector, found.class_names) == (f"{NAME}@v0.2.0", CLASSES)
    assert found.is_of(resolve(two_versions, f"{NAME}@latest"))
    registered = vidprompt.load(f"{NAME}@production", "cpu")
    shutil.copytree(home, tmp_path / "other machine", symlinks=True)
    shutil.rmtree(two_versions / "data")
    served = vidprompt.load(tmp_path / "other machine/current", "cpu")
    np.testing.assert_array_equal(
        served.texts(["a", "b"]).features, registered.texts(["a", "b"]).features
    )
    assert served.identity == registered.identity
    switch_to(None, home)
    assert current_release(home) is None


def test_a_damaged_release_is_written_again_and_old_ones_go(
    two_versions: Path, tmp_path: Path
) -> None:
    release = release_of(two_versions, f"{NAME}@production", tmp_path)
    weights = release.folder / "model.safetensors"
    written = weights.stat().st_mtime_ns
    assert release_of(two_versions, f"{NAME}@production", tmp_path) == release
    assert weights.stat().st_mtime_ns == written
    weights.write_bytes(b"half")
    assert release.damaged() == ["model.safetensors"]
    assert not release_of(two_versions, f"{NAME}@production", tmp_path).damaged()
    (release.folder / "release.json").unlink()  # as when it was killed
    assert read_release(release.folder) is None
    switch_to(release_of(two_versions, f"{NAME}@production", tmp_path), tmp_path)
    for number in range(4):
        shutil.copytree(release.folder, release.folder.with_name(f"older{number}"))
    remove_old(tmp_path)
    left = {path.name for path in (tmp_path / "releases").iterdir()}
    assert len(left) == 3
    assert release.folder.name in left


@pytest.mark.filterwarnings("ignore:.*does not say how its tests read videos")
def test_a_version_holds_its_tokenizer(
    two_versions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the project's git or DVC, and loaded without internet."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    write_tokenizer(two_versions / "data/words")
    edit(two_versions / "params/backbone/tiny.yaml", tokenizer="data/words")
    (two_versions / ".gitignore").write_text("/cache/\n/models/\n/data/words/\n")
    with pytest.raises(UserError, match="has no file of a tokenizer in data/words"):
        version(two_versions, "v0.3.0")
    (two_versions / ".gitignore").write_text("/cache/\n/models/\n")
    files = version(two_versions, "v0.4.0")
    release = write_release(files, tmp_path / "service")
    names = {path.name for path in (release.folder / PACKAGED).iterdir()}
    assert names >= {"tokenizer.json", "tokenizer_config.json"}
    shutil.copytree(release.folder, tmp_path / "copy")
    shutil.rmtree(two_versions)
    shutil.rmtree(tmp_path / "service")
    monkeypatch.chdir(tmp_path)
    tokenizer = vidprompt.load(tmp_path / "copy", "cpu").encoder.backbone.tokenizer
    assert tokenizer(["a bike rides"])[0, :5].tolist() == [3, 4, 5, 1, 0]


@pytest.mark.filterwarnings("ignore:.*does not say how its tests read videos")
def test_a_version_holds_the_files_of_a_backbone_named_by_its_folder(
    two_versions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`name: local-dir:FOLDER` names no file, and all of them are in the folder."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder, params = two_versions / "data/words", two_versions / "params/backbone/tiny.yaml"
    params.write_text("name: local-dir:data/words\n")
    write_tokenizer(folder)
    pixels = {"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.5, 0.5]}
    described = {"model_cfg": BACKBONE, "preprocess_cfg": pixels}
    (folder / "open_clip_config.json").write_text(json.dumps(described))
    with pytest.raises(
        UserError, match=r"data/words/open_clip_model\.safetensors .* tracked neither"
    ):
        version(two_versions, "v0.3.0")
    shutil.copy(two_versions / "data/backbone/tiny.safetensors", folder / "model.safetensors")
    files = version(two_versions, "v0.4.0")
    release = write_release(files, tmp_path / "service")
    with DvcProject(Revision(two_versions, files.version.commit)) as project:
        checked = backbone_files(find_backbone(files.model, project), project)
    assert {"data/words/open_clip_config.json", "data/words/tokenizer.json"} < set(checked)
    shutil.rmtree(folder)
    backbone = load_backbone(files.backbone)
    assert backbone.mean == (0.1, 0.2, 0.3)
    assert backbone.checksum == sha256(two_versions / "data/backbone/tiny.safetensors")
    shutil.copytree(release.folder, tmp_path / "copy")
    shutil.rmtree(two_versions)
    monkeypatch.chdir(tmp_path)
    tokenizer = vidprompt.load(tmp_path / "copy", "cpu").encoder.backbone.tokenizer
    assert tokenizer(["a bike rides"])[0, :5].tolist() == [3, 4, 5, 1, 0]


def version(project: Path, name: str) -> VersionFiles:
    """The project as it is as a registered version, without gates."""
    revision = Revision(project, commit(project, name))
    versions.register(revision, NAME, name, name)
    return fetch_version(resolve(project, f"{NAME}@{name}"), project)
