"""Uploads that want to harm: each gets an error in one sentence, and the service goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.serving.hostile import BROKEN, hostile_files
from tests.serving.test_requests import post, refusal, service


@pytest.fixture(scope="module")
def uploads(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    files = hostile_files(tmp_path_factory.mktemp("hostile"))
    return files | {"over": bytes(2**20 + 1), "far over": bytes(4 * 2**20)}


@pytest.mark.parametrize(
    ("name", "status", "says"),
    [
        ("empty", 422, "it is empty"),
        ("text", 422, "cannot be read as a video"),
        ("cut", 422, ""),
        ("noise", 422, "cannot be read as a video"),
        ("huge pictures", (413, 422), ""),
        ("many packets", 422, ""),
        ("large pictures", 413, "1,280 × 720, and the limit is 307,200 pixels"),
        ("long", 413, "longer than 5 s"),
        ("long gif", 413, "longer than 5 s"),
        ("zip bomb", 422, "cannot be read as a video"),
        ("gzip bomb", 422, "cannot be read as a video"),
        ("10 GB of MP4", 422, ""),
        ("endless WebM", 422, ""),
        ("m3u8", 422, "playlist"),
        ("bom m3u8", 422, "playlist"),
        ("ffconcat", 422, "playlist"),
        ("mpd", 422, "playlist"),
        ("sdp", 422, "playlist"),
        ("over", 413, "larger than the limit of 1 MB"),
        ("far over", 413, "larger than the limit of 1 MB"),
    ],
)
def test_a_bad_upload_is_refused_in_one_sentence(
    client: TestClient, uploads: dict[str, bytes], name: str, status: Any, says: str
) -> None:
    answer = post(client, "/predict", uploads[name], classes="a,b")
    given, _, message = refusal(answer)
    assert given in (status if isinstance(status, tuple) else (status,))
    assert says in message
    assert "\n" not in message
    assert str(service(client).folder) not in message
    assert list(service(client).folder.iterdir()) == []


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_body_is_a_400(client: TestClient, name: str) -> None:
    kind, body = BROKEN[name]
    answer = client.post("/embed", content=body, headers={"Content-Type": kind})
    assert refusal(answer)[:2] == (400, "bad_request")


@pytest.mark.parametrize("kind", ["video/mp4", "text/html", ""])
def test_another_type_of_body_is_a_415(client: TestClient, video: Path, kind: str) -> None:
    headers = {"Content-Type": kind} if kind else {}
    answer = client.post("/predict", content=video.read_bytes(), headers=headers)
    assert refusal(answer)[0] == 415


def test_fields_have_a_limit_too(client: TestClient) -> None:
    data = {"text": "a" * 600_000, "top": "b" * 600_000}
    assert refusal(client.post("/embed", files={"a": (None, "a" * 1_100_000)}))[0] == 413
    assert refusal(client.post("/embed", data=data))[0] == 413


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\videos\\mine.mp4", "mine.mp4"),
        ("new\nline\x00.mp4", "newline.mp4"),
        ("ünïcødé 视频.mp4", "ünïcødé 视频.mp4"),
        ("a" * 300 + ".mp4", "a" * 40 + "…" + "a" * 35 + ".mp4"),
    ],
)
def test_the_name_of_a_file_is_shown_and_names_none(
    client: TestClient, video: Path, given: str, shown: str
) -> None:
    from vidprompt.serving.forms import shown_name

    assert shown_name(given) == shown
    files = {"video": (given.replace("\n", "").replace("\x00", ""), video.read_bytes())}
    answer = client.post("/predict", files=files, data={"classes": "a,b"})
    assert answer.json()["video"] == shown
