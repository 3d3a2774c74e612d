"""Decoding that begins before the model is there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.data.make_videos import make
from tests.prediction.small_model import small_model

from vidprompt.data.probe.result import Limits
from vidprompt.prediction.decode_ahead import DecodeAhead
from vidprompt.prediction.results import Failure


def test_videos_are_decoded_as_the_model_takes_them(tmp_path: Path) -> None:
    video, missing = make(tmp_path, "short.mp4"), tmp_path / "missing.mp4"
    ahead = DecodeAhead([video, missing], 1, Limits())
    settings = small_model().input
    (_, decoded), (_, failure) = ahead.results(settings)
    assert not isinstance(decoded, Failure)
    assert np.array_equal(decoded.frames, settings.decode(video).frames)
    assert isinstance(failure, Failure)
    assert "no such file" in failure.reason


@pytest.mark.slow
def test_a_model_that_does_not_load_ends_the_processes(tmp_path: Path) -> None:
    ahead = DecodeAhead([make(tmp_path, "short.mp4")], 1, Limits())
    ahead.close()
    assert not ahead._thread.is_alive()
