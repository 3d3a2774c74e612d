"""The server on a real socket: refused and slow uploads, broken HTTP, too many requests, clients that go."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.prediction.small_model import small_model
from tests.serving.small_service import LIMITS, running

from vidprompt.serving import connections
from vidprompt.serving.limits import ServiceLimits
from vidprompt.serving.service import Service


@pytest.fixture(scope="module")
def service() -> Service:
    limits = {**LIMITS, "decoders": 1, "requests": 3, "upload_idle_s": 1, "timeout_s": 10}
    return Service(small_model(), ServiceLimits(**limits))


@pytest.fixture(scope="module")
def port(service: Service) -> Iterator[int]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connections, "HEAD_S", 0.5)
        with running(service) as port:
            yield port


def upload(video: bytes, end: bytes = b"\r\n--x--\r\n") -> bytes:
    head = b'--x\r\nContent-Disposition: form-data; name="classes"\r\n\r\na,b\r\n'
    file = b'--x\r\nContent-Disposition: form-data; name="video"; filename="a.mp4"\r\n\r\n'
    return head + file + video + end


def request(body: bytes, length: int | None = None, extra: str = "") -> bytes:
    size = len(body) if length is None else length
    kind = "multipart/form-data; boundary=x"
    head = f"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: {kind}\r\n"
    head += f"Content-Length: {size}\r\n{extra}\r\n"
    return head.encode() + body


def read(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of an answer; status 0 where the connection ends without one."""
    connection.settimeout(20)
    data = b""
    while b"\r\n\r\n" not in data:
        part = connection.recv(65536)
        if not part:
            return 0, {}, data
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    while len(body) < int(headers["content-length"]):
        body += connection.recv(65536)
    return int(first.split()[1]), headers, body


def exchange(port: int, data: bytes) -> tuple[int, dict[str, str], bytes]:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(data)
        return read(connection)


def test_an_upload_over_the_limit_gets_its_answer_while_it_is_sent(port: int) -> None:
    """By its Content-Length at once, in chunks when the limit is passed; the answer is not lost."""
    status, headers, body = exchange(port, request(b"a" * 100_000, 10**9))
    assert (status, headers["connection"]) == (413, "close")
    assert json.loads(body)["error"]["code"] == "too_large"
    status, _, body = exchange(port, request(b"", 10**9, "Expect: 100-continue\r\n"))
    assert status == 413  # instead of "100 Continue"
    body = upload(bytes(1_200_000))
    head = request(b"").decode().replace("Content-Length: 0", "Transfer-Encoding: chunked")
    chunks = b"".join(
        b"%x\r\n%b\r\n" % (len(body[at : at + 50_000]), body[at : at + 50_000])
        for at in range(0, len(body), 50_000)
    )
    assert exchange(port, head.encode() + chunks)[0] == 413


def test_an_upload_that_stops_is_ended(port: int, service: Service) -> None:
    began = time.monotonic()
    status, headers, body = exchange(port, request(upload(b"abc", b""), 1000))
    assert (status, headers["connection"]) == (408, "close")
    assert "stopped for 1 s" in json.loads(body)["error"]["message"]
    assert time.monotonic() - began < 6
    assert list(service.folder.iterdir()) == []


def test_a_connection_without_a_request_is_closed(port: int) -> None:
    starts = (b"", b"GET /healthz HTTP/1.1\r\nHost: ")
    connections = [socket.create_connection(("127.0.0.1", port)) for _ in starts]
    for connection, start in zip(connections, starts, strict=True):
        connection.sendall(start)
        connection.settimeout(10)
    for connection in connections:
        assert connection.recv(1000) == b""
        connection.close()


@pytest.mark.parametrize(
    "data",
    [
        b"no HTTP\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20,
        b"GET / HTTP/1.1\r\n\r\n",
    ],
    ids=["text", "TLS", "no host"],
)
def test_what_is_no_http_gets_the_usual_error(port: int, data: bytes) -> None:
    status, headers, body = exchange(port, data)
    assert (status, headers["content-type"]) == (400, "application/json")
    assert json.loads(body)["error"]["code"] == "bad_request"


def test_one_request_too_many_is_refused_at_once(port: int, service: Service, video: Path) -> None:
    open_ones = [socket.create_connection(("127.0.0.1", port)) for _ in range(3)]
    good = upload(video.read_bytes())
    try:
        for connection in open_ones:
            connection.sendall(request(good[:500], len(good)))
        while service.capacity.running < 3:
            time.sleep(0.01)
        status, headers, body = exchange(port, request(good))
        assert (status, json.loads(body)["error"]["code"]) == (429, "busy")
        assert int(headers["retry-after"]) >= 1
        for connection in open_ones:
            connection.sendall(good[500:])
        assert [read(connection)[0] for connection in open_ones] == [200] * 3
    finally:
        for connection in open_ones:
            connection.close()
    assert service.capacity.running == 0


def answers(service: Service) -> float:
    """How many requests have their answer, also those whose client has gone."""
    (metric,) = service.metrics.requests.collect()
    return sum(one.value for one in metric.samples if one.name.endswith("_total"))


def test_a_client_that_goes_leaves_nothing(port: int, service: Service, video: Path) -> None:
    good = upload(video.read_bytes())
    before = answers(service)
    for sent in (good[:2000], good):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(request(sent, len(good)))
    end = time.monotonic() + 20
    while answers(service) < before + 2 and time.monotonic() < end:
        time.sleep(0.02)
    assert answers(service) == before + 2
    assert end - time.monotonic() > 10  # both were ended, not worked on to the time limit
    assert service.capacity.running == 0
    assert list(service.folder.iterdir()) == []
    assert exchange(port, request(good))[0] == 200
