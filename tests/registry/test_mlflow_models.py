"""A version is given to MLflow's registry once, with its commit, and its stage as an alias."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from vidprompt.models.checkpoint_metadata import CheckpointMetadata
from vidprompt.registry import mlflow_models
from vidprompt.registry.mlflow_models import register_in_mlflow
from vidprompt.registry.model_files import Weights
from vidprompt.registry.registration import Registered
from vidprompt.registry.versions import Version
from vidprompt.system.errors import UserError


class Client:
    """MLflow's client, of what is used."""

    def __init__(self) -> None:
        self.models: list[str] = []
        self.versions: list[Any] = []
        self.files: list[str] = []
        self.aliases: dict[str, str] = {}

    def search_model_versions(self, query: str) -> list[Any]:
        return self.versions

    def search_registered_models(self, query: str) -> list[str]:
        return [name for name in self.models if query == f"name='{name}'"]

    def create_registered_model(self, name: str) -> None:
        self.models.append(name)

    def get_experiment_by_name(self, name: str) -> None:
        return None

    def create_experiment(self, name: str) -> str:
        return "1"

    def create_run(self, experiment: str, run_name: str, tags: dict[str, str]) -> Any:
        return SimpleNamespace(info=SimpleNamespace(run_id="r", artifact_uri="store:/1/r"))

    def log_artifact(self, run: str, file: str, place: str) -> None:
        self.files.append(Path(file).name)

    def set_terminated(self, run: str) -> None: ...

    def create_model_version(self, name: str, **values: Any) -> Any:
        number = str(len(self.versions) + 1)
        self.versions.append(SimpleNamespace(version=number, tags=values["tags"]))
        assert values["source"] == "store:/1/r/model"
        return self.versions[-1]

    def set_registered_model_alias(self, name: str, alias: str, version: str) -> None:
        self.aliases[alias] = version


@pytest.fixture
def done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registered:
    class Project:
        def __init__(self, revision: object) -> None: ...
        def __enter__(self) -> object:
            return self

        def __exit__(self, *error: object) -> None: ...

    for name in ("model.safetensors", "card.md"):
        (tmp_path / name).write_text("content", "utf-8")
    weights = Weights(
        tmp_path / "model.safetensors", "a1", "b2", "c3", CheckpointMetadata("m", 8, "b", "c", [])
    )
    monkeypatch.setattr(mlflow_models, "DvcProject", Project)
    monkeypatch.setattr(mlflow_models, "find_model", lambda revision, name: name)
    monkeypatch.setattr(mlflow_models, "find_weights", lambda model, project: weights)
    return Registered(Version("ez-clip", "v0.1.0", "f" * 40, ""), (), tmp_path / "card.md")


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Client:
    one, module = Client(), ModuleType("mlflow")
    module.MlflowClient = lambda: one  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mlflow", module)
    return one


def test_a_version_is_uploaded_once_and_its_stages_are_aliases(
    done: Registered, client: Client
) -> None:
    assert register_in_mlflow(done, "candidate") == "ez-clip version 1"
    assert register_in_mlflow(done, "staging") == "ez-clip version 1"
    assert client.models == ["ez-clip"]
    assert client.aliases == {"candidate": "1", "staging": "1"}
    assert client.files == ["model.safetensors", "card.md"]
    (version,) = client.versions
    assert version.tags["mlflow.source.git.commit"] == "f" * 40
    assert version.tags["dvc.md5"] == "a1"


def test_without_the_package_and_without_an_answer_it_is_a_sentence(
    done: Registered, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any) -> None:
        raise ConnectionError("no answer\nmore")

    monkeypatch.setattr(client, "log_artifact", fail)
    with pytest.raises(UserError, match="but not in MLflow: no answer. Run the same again$"):
        register_in_mlflow(done, "candidate")
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(UserError, match=r"pip install 'vidprompt\[mlflow\]'"):
        register_in_mlflow(done, "candidate")
