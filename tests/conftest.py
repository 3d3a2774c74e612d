"""The order of the test files: those that take longest come first, so that both workers end together."""

from __future__ import annotations

from pathlib import Path

import pytest

LONGEST = (  # minutes to half a minute
    "pipeline/test_pipeline.py",
    "flows/test_deployments.py",
    "flows/test_flows.py",
    "pipeline/test_own_videos.py",
    "flows/services/test_services.py",
    "flows/test_ucf101_deployment.py",
    "data/test_shard_runners.py",
    "data/test_clips.py",
    "registry/test_cross_dataset.py",
    "training/test_processes.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    rank = {Path(__file__).parent / name: i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path, len(LONGEST)))
