"""One small service for all fast tests of this folder, and a video for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from tests.data.make_videos import write_video
from tests.prediction.small_model import small_model
from tests.serving.small_service import client_of

from vidprompt.prediction.model import Model


@pytest.fixture(scope="package")
def model() -> Model:
    return small_model()


@pytest.fixture(scope="package")
def client(model: Model) -> Iterator[TestClient]:
    with client_of(model, page=True) as client:
        yield client


@pytest.fixture(scope="package")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("videos") / "h264.mp4")
