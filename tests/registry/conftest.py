"""Each test has a project of its own, copied from one that is made once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.registry.project import NAME, evaluate, keep, make_project, train

from vidprompt.registry.registration import register


@pytest.fixture(scope="session")
def made_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("registry") / "project"
    root.mkdir()
    make_project(root)
    return root


@pytest.fixture(scope="session")
def made_versions(made_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("versions") / "project"
    shutil.copytree(made_project, root, symlinks=True)
    register(NAME, "production", project=root)
    train(root, seed=2)
    evaluate(root, wrong=())
    keep(root, "second")
    register(NAME, "production", project=root)
    return root


@pytest.fixture
def project(made_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With a model that may be registered; it is stood in."""
    return _copy(made_project, tmp_path, monkeypatch)


@pytest.fixture
def two_versions(made_versions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """v0.1.0 and, better and checked out, v0.2.0; both were in production."""
    return _copy(made_versions, tmp_path, monkeypatch)


def _copy(made: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = folder / "project"
    shutil.copytree(made, root, symlinks=True)
    monkeypatch.chdir(root)
    return root
