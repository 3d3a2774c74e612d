"""Fetching videos from addresses: limits, and where redirects may lead."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tests.data.make_videos import make
from tests.prediction.small_model import CLASSES, small_model

from vidprompt.prediction import download
from vidprompt.prediction.download import downloaded
from vidprompt.prediction.inputs import InputKind, VideoInput
from vidprompt.prediction.many import predict_inputs
from vidprompt.prediction.results import Failure, Prediction
from vidprompt.system.errors import DataError

CONTENT = bytes(range(256)) * 8192  # 2 MB
VIDEO = [b""]


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to/"))
            self.end_headers()
            return
        if self.path.startswith("/video/"):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(VIDEO[0])
            return
        if self.path != "/a%20b.mp4?x=1" and self.path != "/endless":
            self.send_error(404)
            return
        self.send_response(200)
        if self.path != "/endless":
            self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT)

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_address[1]}"
        http.shutdown()


@pytest.fixture(autouse=True)
def _without_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
    ):
        monkeypatch.delenv(name, raising=False)


def test_a_file_is_fetched_and_removed(server: str) -> None:
    with downloaded(f"{server}/a%20b.mp4?x=1", quiet=True) as path:
        assert path.read_bytes() == CONTENT
        assert path.suffix == ".mp4"
    assert not path.parent.exists()


@pytest.mark.parametrize("name", ["a%20b.mp4?x=1", "endless"])
def test_a_file_that_is_too_large_is_refused(server: str, name: str) -> None:
    with (
        pytest.raises(DataError, match="larger than 1 MB"),
        downloaded(f"{server}/{name}", max_mb=1),
    ):
        pass


def test_what_is_not_there_says_so(server: str) -> None:
    with pytest.raises(DataError, match="no such file"), downloaded(f"{server}/nothing.mp4"):
        pass
    with (
        pytest.raises(DataError, match="cannot be fetched"),
        downloaded("http://127.0.0.1:1/a.mp4"),
    ):
        pass


def test_redirects_into_private_networks_are_not_followed(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = server.rpartition(":")[2]
    # as if the server that was named were a public one
    monkeypatch.setattr(download, "_addresses", lambda host: {"127.0.0.1"})
    for host in ("127.0.0.2", "0.0.0.0"):
        address = f"{server}/to/http://{host}:{port}/a%20b.mp4?x=1"
        with pytest.raises(DataError, match="private network"), downloaded(address):
            pass
    with downloaded(f"{server}/to/http://127.0.0.2:{port}/a%20b.mp4?x=1", private=True) as path:
        assert path.stat().st_size == len(CONTENT)
    with downloaded(f"{server}/to/{server}/a%20b.mp4?x=1") as path:
        assert path.stat().st_size == len(CONTENT)


def test_addresses_are_predicted_by_their_names(server: str, tmp_path: Path) -> None:
    VIDEO[0] = make(tmp_path, "short.mp4").read_bytes()
    names = [f"{server}/video/clip?token=1", f"{server}/nothing.mp4", f"{server}/a%20b.mp4?x=1"]
    videos = [VideoInput(name, InputKind.REMOTE) for name in names]
    model = small_model()
    good, missing, broken = predict_inputs(model, videos, model.texts(CLASSES))
    assert [one.video for one in (good, missing, broken)] == names
    assert isinstance(good, Prediction)
    assert isinstance(missing, Failure)
    assert isinstance(broken, Failure)
    assert missing.reason == "there is no such file"
    assert broken.reason.startswith("it cannot be read as a video")


@pytest.mark.slow
def test_s3_is_read_with_the_users_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    try:
        client = boto3.client("s3")
        client.create_bucket(Bucket="bucket")
        client.put_object(Bucket="bucket", Key="day 1/clip.mp4", Body=CONTENT)
        with downloaded("s3://bucket/day 1/clip.mp4") as path:
            assert path.read_bytes() == CONTENT
        with pytest.raises(DataError, match="no such file"), downloaded("s3://bucket/other.mp4"):
            pass
        with (
            pytest.raises(DataError, match="larger"),
            downloaded("s3://bucket/day 1/clip.mp4", max_mb=1),
        ):
            pass
    finally:
        server.stop()
