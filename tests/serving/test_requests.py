"""What the paths answer: the numbers of the model in Python, and one sentence for what is wrong."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient
from tests.data.make_videos import write_video

from vidprompt.prediction.model import Model
from vidprompt.serving.service import Service

CLASSES = ["open door", "close door", "somebody, running"]


def post(client: TestClient, path: str, video: Path | bytes | None, **data: Any) -> Any:
    content = video.read_bytes() if isinstance(video, Path) else video
    files = {"video": ("clip.mp4", content)} if content is not None else None
    return client.post(path, files=files, data=data)


def refusal(answer: Any) -> tuple[int, str, str]:
    error = answer.json()["error"]
    assert error["status"] == answer.status_code
    assert set(answer.json()) == {"error"}
    assert set(error) == {"status", "code", "message"}
    return error["status"], error["code"], error["message"]


def service(client: TestClient) -> Service:
    found = client.app_state["service"]
    assert isinstance(found, Service)
    return found


@pytest.mark.parametrize(
    "classes",
    [CLASSES, json.dumps(CLASSES), "\n".join(CLASSES)],
    ids=["repeated", "JSON", "lines"],
)
def test_predict_gives_the_probabilities_of_python(
    client: TestClient, model: Model, video: Path, classes: Any
) -> None:
    expected = model.predict(video, CLASSES).to_dict(2)
    answer = post(client, "/predict", video, classes=classes, top="2")
    assert answer.status_code == 200
    assert answer.json() == expected | {"video": "clip.mp4"}


def test_classes_with_descriptions_and_prompts(
    client: TestClient, model: Model, video: Path
) -> None:
    described = {"open": ["a door opens", "somebody opens it"], "close": ["it", "closes"]}
    answer = post(client, "/predict", video, classes=json.dumps(described)).json()
    assert answer["text"] == "descriptions"
    assert answer["score"] == model.predict(video, described).score
    templates = ["a video of {}.", "{}"]
    answer = post(client, "/predict", video, classes="open,close", prompts=templates).json()
    expected = model.predict(video, ["open", "close"], prompts=templates)
    assert (answer["text"], answer["score"]) == ("prompts", expected.score)


def test_embed_gives_the_features_of_python(client: TestClient, model: Model, video: Path) -> None:
    answer = post(client, "/embed", video, text=["somebody walks", "a door"]).json()
    assert answer["identity"] == model.identity
    np.testing.assert_array_equal(np.float32(answer["feature"]), model.embed([video]).features[0])
    texts = model.embed_text(["somebody walks", "a door"])
    np.testing.assert_array_equal(np.float32(answer["features"]), texts)
    single = client.post("/embed", json={"text": "a door"}).json()["features"]
    np.testing.assert_array_equal(np.float32(single), model.embed_text("a door"))


def test_segments_are_the_spans_of_python(
    client: TestClient, model: Model, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = [span.to_dict() for span in model.segments(video, ["a", "b"], 0.5, 0.25)]
    answer = post(client, "/segments", video, classes="a,b", window="0.5", stride="0.25").json()
    assert answer == {"video": "clip.mp4", "duration_s": 1.92, "spans": expected}
    assert refusal(post(client, "/segments", b"no video", classes="a,b"))[0] == 422
    files = {"video": ("clip.mp4", video.read_bytes())}
    data = {"classes": "a,b", "window": "0.5", "stride": "0.25"}
    accept = {"Accept": "application/x-ndjson"}
    monkeypatch.setattr("vidprompt.serving.service._REPORT_S", 0)
    lines = client.post("/segments", files=files, data=data, headers=accept).text.splitlines()
    *reports, last = map(json.loads, lines)
    assert [report["seconds"] for report in reports] == [0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 1.92]
    assert last == {"result": answer}
    files = {"video": ("clip.mp4", b"no video")}
    assert refusal(client.post("/segments", files=files, data=data, headers=accept))[0] == 422
    assert refusal(post(client, "/segments", video, classes="a,b", stride="0"))[0] == 422
    assert refusal(post(client, "/segments", video))[2].startswith("small has no classes")


def test_explain_gives_the_shares_of_python(client: TestClient, model: Model, video: Path) -> None:
    answer = post(client, "/explain", video, text="a door", pictures="no").json()
    expected = model.explain(video, "a door").to_dict()
    assert answer["text"] == "a door"
    assert answer["frames"] == expected["frames"]
    answer = post(client, "/explain", video).json()
    assert "text" not in answer
    assert sum(frame["share"] for frame in answer["frames"]) == pytest.approx(1)
    assert all(frame["picture"].startswith("data:image/jpeg;base64,") for frame in answer["frames"])
    assert refusal(post(client, "/explain", b"no video"))[0] == 422


def test_requests_at_once_share_batches_and_get_what_single_ones_get(
    client: TestClient, model: Model, tmp_path: Path
) -> None:
    def measured(name: str) -> float:
        metrics = client.get("/metrics").text
        lines = dict(line.rsplit(" ", 1) for line in metrics.splitlines() if line[:1] != "#")
        return float(lines[f"vidprompt_batch_videos_{name}"])

    videos = [write_video(tmp_path / f"{k}.mp4", 24 + k, seed=k, kind="h264.mp4") for k in range(4)]
    single = model.embed(videos).features
    before = measured("sum"), measured("count")
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda one: post(client, "/embed", one).json(), videos * 2))
    features = np.array([one["feature"] for one in answers], np.float32)
    np.testing.assert_array_equal(features, np.concatenate([single, single]))
    assert measured("sum") - before[0] == 8
    assert measured("count") - before[1] < 8


def test_a_pass_of_several_videos_gives_each_its_features(
    client: TestClient, model: Model, tmp_path: Path
) -> None:
    """As on a GPU, where videos of a batch, with all their views, are encoded in passes."""
    videos = [write_video(tmp_path / f"{k}.mp4", 24, seed=k, kind="h264.mp4") for k in range(3)]
    clips = [model.read(video) for video in videos]
    clips[1] = replace(clips[1], clips=clips[1].clips.repeat(20, 1, 1, 1, 1))  # more than one pass
    features = service(client)._encode_together(clips)
    assert [len(one) for one in features] == [1, 20, 1]
    for one, alone in zip(features, clips, strict=True):
        np.testing.assert_allclose(one, model.encode(alone.clips), rtol=1e-4, atol=1e-5)


def test_search_by_text_and_video(
    client: TestClient, model: Model, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert refusal(client.post("/search", json={"text": "a"}))[:2] == (501, "not_available")
    asked: list[Any] = []

    class FoundIndex:
        info = SimpleNamespace(window=2.0)

        def __len__(self) -> int:
            return 7

        def search_feature(self, feature: Any, *, top: int, overlapping: bool) -> Any:
            asked.append(feature)
            hit = SimpleNamespace(rank=1, video="a/b.mp4", start=0.0, end=2.0, score=0.5)
            return SimpleNamespace(hits=(hit,) * min(top, 3))

    monkeypatch.setattr(service(client), "index", FoundIndex())
    answer = client.post("/search", json={"text": ["a", "b"], "top": 2}).json()
    assert [hit["video"] for hit in answer["hits"]] == ["a/b.mp4"] * 2
    assert answer["rows"] == client.get("/model").json()["index_rows"] == 7
    assert post(client, "/search", video).status_code == 200
    np.testing.assert_array_equal(asked[0], model.embed_text(["a", "b"]).mean(0))
    np.testing.assert_array_equal(asked[1], model.embed([video]).features[0])
    assert refusal(client.post("/search", json={}))[0] == 422


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"clases": "a,b"}, "There is no field 'clases': did you mean classes?"),
        ({"classes": "a,a"}, "class 'a' is given twice"),
        ({"classes": '["a", 3]'}, "classes: it is no list of names"),
        ({"classes": '{"a": []}'}, "classes: the descriptions of 'a' are no text"),
        ({"classes": "[[["}, "classes: it begins as JSON and is none"),
        ({"classes": "x" * 1001}, "the limit is 1,000"),
        ({"classes": ",".join(map(str, range(1001)))}, "they are 1,001, and the limit is 1,000"),
        ({"classes": "a,b", "top": "many"}, "top=many: it is no number from 1 to 1000"),
        ({"classes": "a,b", "top": "1.5"}, "top=1.5: it is no whole number"),
        ({"classes": "a,b", "top": ["1", "2"]}, "top: it is given 2 times"),
        ({"classes": "a,b", "unknown": "perhaps"}, "unknown=perhaps: it is neither true nor false"),
        ({"classes": "a,b", "unknown": "true"}, "no threshold for unknown classes"),
        ({"classes": "a,b", "prompts": "no place"}, "needs exactly one {}"),
        (
            {"classes": ",".join(map(str, range(900))), "prompts": ["{}", "a {}", "b {}"]},
            "2,700 texts",
        ),
        ({}, "has no classes of its own"),
    ],
)
def test_a_wrong_field_is_one_sentence(
    client: TestClient, video: Path, fields: dict[str, Any], says: str
) -> None:
    status, code, message = refusal(post(client, "/predict", video, **fields))
    assert (status, code) == (422, "invalid")
    assert says in message
    assert "\n" not in message


def test_texts_that_json_can_hold(client: TestClient, model: Model) -> None:
    for text in ("\x00", "👩‍🚀 ünïcødé 视频", "<script>", "{}" * 9):
        answer = client.post("/embed", json={"text": text})
        np.testing.assert_array_equal(np.float32(answer.json()["features"]), model.embed_text(text))
    half = client.post(
        "/embed", content=b'{"text": "\\ud800"}', headers={"Content-Type": "application/json"}
    )
    assert refusal(half)[2] == "text: a text is no Unicode."


def test_the_classes_are_no_file_of_the_server(
    client: TestClient, video: Path, tmp_path: Path
) -> None:
    (tmp_path / "names.txt").write_text("secret\nother\n")
    answer = post(client, "/predict", video, classes=str(tmp_path / "names.txt")).json()
    assert answer["classes"] == [{"class": str(tmp_path / "names.txt"), "probability": 1.0}]


def test_paths_and_urls_are_not_read(client: TestClient, video: Path) -> None:
    sent = client.post("/predict", data={"video": str(video), "classes": "a,b"})
    assert "There is no field 'video'" in refusal(sent)[2] or refusal(sent)[0] == 422
    parts = {"video": (None, str(video)), "classes": (None, "a,b")}
    assert "paths and URLs are not read" in refusal(client.post("/predict", files=parts))[2]
    sent = client.post("/embed", json={"video": str(video)})
    assert "paths and URLs are not read" in refusal(sent)[2]


def test_openapi_describes_each_path_with_its_errors(client: TestClient) -> None:
    described = client.get("/openapi.json").json()
    paths = {
        "/predict",
        "/segments",
        "/embed",
        "/search",
        "/explain",
        "/healthz",
        "/metrics",
        "/model",
    }
    assert paths <= set(described["paths"])
    predict = described["paths"]["/predict"]["post"]
    form = predict["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert set(form["properties"]) == {"video", "classes", "prompts", "top", "unknown"}
    assert form["properties"]["classes"]["example"]
    assert {"200", "401", "413", "422", "429"} <= set(predict["responses"])
    assert client.get("/").status_code == 200


def test_a_missing_path_and_a_wrong_method_are_errors_of_the_same_shape(client: TestClient) -> None:
    assert refusal(client.get("/nothing"))[:2] == (404, "not_found")
    assert refusal(client.get("/predict"))[:2] == (405, "method_not_allowed")


def test_nothing_of_an_upload_is_left(client: TestClient, video: Path) -> None:
    folder = service(client).folder
    post(client, "/predict", video, classes="a,b")
    post(client, "/predict", b"no video", classes="a,b")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert list(folder.iterdir()) == []
