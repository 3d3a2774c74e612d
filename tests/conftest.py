"""The order of the test files: those that take longest come first, so that both workers end together."""

from __future__ import annotations

from pathlib import Path

import pytest

import vidprompt  # noqa: F401  how long OpenMP's threads spin: before a test imports torch

# Minutes to ten seconds. With two workers the files of Prefect's flows come after one another in one of them,
# the files of whole pipelines in the other: each pair shares a server.
LONGEST = (
    "pipeline/test_pipeline.py",
    "flows/test_deployments.py",
    "flows/test_flows.py",
    "flows/services/test_services.py",
    "pipeline/test_own_videos.py",
    "reproduce/test_reproduce.py",
    "field/test_hangs.py",
    "registry/test_lifecycle.py",
    "pipeline/stages/test_features_stage.py",
    "pipeline/test_remotes.py",
    "field/test_full_disk.py",
    "data/test_clips.py",
    "training/test_processes.py",
    "registry/test_cross_dataset.py",
    "data/test_probe_cache.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    rank = {Path(__file__).parent / name: i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path, len(LONGEST)))


@pytest.fixture
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings run on the CPU of a GPU machine too."""
    import torch
    from accelerate import Accelerator

    monkeypatch.setattr(Accelerator, "device", property(lambda _: torch.device("cpu")))
