"""Streams: windows as they come, until the connection ends."""

from __future__ import annotations

import csv
import io
import socket
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tests.data.make_videos import make
from tests.prediction.small_model import CLASSES, small_model

from vidprompt.cli.prediction_tables import TerminalTables
from vidprompt.prediction import window_features
from vidprompt.prediction.command import Request, run
from vidprompt.prediction.hysteresis import SpanSettings
from vidprompt.prediction.live import without_password
from vidprompt.system.errors import DataError


def serve_once(content: bytes) -> str:
    """The address of a server that sends these bytes to the first who asks."""
    server = socket.create_server(("127.0.0.1", 0))

    def send() -> None:
        with server, server.accept()[0] as connection:
            connection.sendall(content)

    threading.Thread(target=send, daemon=True).start()
    return f"tcp://127.0.0.1:{server.getsockname()[1]}"


def test_a_stream_has_the_windows_of_its_video(tmp_path: Path) -> None:
    video = make(tmp_path, "mpeg2.ts")
    model = small_model()
    expected = list(model.windows(video, 0.5, 0.5))
    found = list(model.windows(serve_once(video.read_bytes()), 0.5, 0.5))
    assert len(found) == len(expected) == 3
    assert all(np.allclose(a.views, b.views) for a, b in zip(found, expected, strict=True))


def test_a_model_that_is_too_slow_leaves_windows_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    video = make(tmp_path, "mpeg2.ts")
    model = small_model("ez_clip")
    expected = [one.views for one in model.windows(video, 0.2, 0.2)]
    clock = iter([0.0, 1.0, 9.0, 9.1, 4.0, 5.0, 6.0, 7.0, 8.0])
    monkeypatch.setattr(window_features, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    found = list(model.windows(serve_once(video.read_bytes()), 0.2, 0.2))
    assert [round(one.start, 1) for one in found] == [0.0, 0.2, 0.8, 1.0, 1.2][: len(found)]
    assert all(np.allclose(one.views, expected[round(one.start / 0.2)]) for one in found)
    assert caplog.text.count("slower than the stream") == 1


@pytest.mark.parametrize("kind", ["table", "csv"])
def test_spans_of_a_stream_are_shown_as_they_come(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    address = serve_once(make(tmp_path, "mpeg2.ts").read_bytes())
    request = Request(
        videos=(address,),
        classes=",".join(CLASSES),
        format=kind,
        window=0.5,
        spans=SpanSettings(enter=0.34, leave=0.01),
    )
    assert run(request, small_model, TerminalTables())
    text = capsys.readouterr().out
    if kind == "csv":
        rows = list(csv.DictReader(io.StringIO(text)))
        assert [row["video"] for row in rows] == [address] * len(rows)
        assert len(rows) >= 1
    else:
        assert text.count(CLASSES[0]) >= 5  # windows, then spans
        assert "0:00.0  0:00.5" in text


def test_what_does_not_answer_is_a_sentence_without_passwords() -> None:
    assert without_password("rtsp://me:secret@cam/1") == "rtsp://cam/1"
    with pytest.raises(DataError, match=r"tcp://127\.0\.0\.1:1: it cannot be opened") as error:
        list(small_model().windows("tcp://me:secret@127.0.0.1:1"))
    assert "secret" not in str(error.value)
    with pytest.raises(DataError, match=r"/dev/video63: it cannot be opened: No such file"):
        list(small_model().windows("/dev/video63"))
    with pytest.raises(DataError, match="cannot be opened"):
        list(small_model().windows(serve_once(b"no video" * 1000)))
