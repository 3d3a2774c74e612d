"""Registered versions as models to predict with, and as releases in the folder of a service."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from tests.registry.project import CLASSES, NAME

import vidprompt
from vidprompt.prediction.sources import PROJECT_VARIABLE
from vidprompt.registry.model_files import fetch_version
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
