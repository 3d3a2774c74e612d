"""Who may ask: addresses, tokens, hosts, other sites' pages; and the headers of every answer."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.testclient import TestClient
from tests.serving.small_service import LIMITS
from tests.serving.test_requests import refusal

from vidprompt.prediction.model import Model
from vidprompt.serving.app import create_app
from vidprompt.serving.limits import ServiceLimits
from vidprompt.serving.server import (
    LOCAL_NAMES,
    answered,
    check_open,
    is_local,
    listen,
    read_token,
)
from vidprompt.serving.service import Service
from vidprompt.system.errors import UserError

TOKEN = "0123456789abcdef-token"


@pytest.fixture(scope="module")
def guarded(model: Model) -> TestClient:
    """A client of a service that is not started: its paths for information answer."""
    service = Service(model, ServiceLimits(**LIMITS))
    app = create_app(service, token=TOKEN, hosts=LOCAL_NAMES, page=True)
    return TestClient(app, base_url="http://127.0.0.1:8000")


def test_without_the_token_only_the_page_and_the_health_are_open(guarded: TestClient) -> None:
    assert guarded.get("/healthz").json() == {"status": "ok"}
    assert guarded.get("/").status_code == guarded.get("/page.js").status_code == 200
    for method, path in (
        ("GET", "/metrics"),
        ("GET", "/model"),
        ("GET", "/openapi.json"),
        ("POST", "/predict"),
        ("POST", "/embed"),
        ("GET", "/nothing"),
        ("GET", "/healthz/"),
    ):
        answer = guarded.request(method, path, follow_redirects=False)
        assert refusal(answer)[:2] == (401, "unauthorized")
        assert answer.headers["www-authenticate"] == "Bearer"
    for given in ("Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer", "Bearer ü"):
        answer = guarded.get("/metrics", headers={b"Authorization": given.encode()})
        assert answer.status_code == 401
    answer = guarded.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({"Host": "127.0.0.1:8000"}, True),
        ({"Host": "localhost"}, True),
        ({"Host": "[::1]:8000"}, True),
        ({"Host": "evil.example"}, False),
        ({"Host": "127.0.0.1.evil.example:8000"}, False),
        ({"Host": "[::1"}, False),
        ({"Origin": "http://127.0.0.1:8000"}, True),
        ({"Origin": "http://evil.example"}, False),
        ({"Origin": "http://127.0.0.1:9999"}, False),
        ({"Origin": "null"}, False),
    ],
)
def test_only_for_its_names_and_its_own_pages(
    guarded: TestClient, headers: dict[str, str], allowed: bool
) -> None:
    answer = guarded.get("/healthz", headers=headers)
    assert answer.status_code == (200 if allowed else 403)
    if not allowed:
        assert refusal(answer)[1] == "forbidden"


def test_every_answer_has_the_headers_and_none_allows_other_sites(guarded: TestClient) -> None:
    for path in ("/", "/healthz", "/nothing", "/page.js"):
        answer = guarded.get(path, headers={"Origin": "http://127.0.0.1:8000"})
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert not [name for name in answer.headers if name.startswith("access-control")]
        assert "server" not in answer.headers
    policy = guarded.get("/").headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "http" not in policy
    tag = guarded.get("/page.js").headers["etag"]
    assert guarded.get("/page.js", headers={"If-None-Match": tag}).status_code == 304


def test_another_address_needs_a_token() -> None:
    for host in ("0.0.0.0", "::", "192.168.1.7", "example.org"):
        with pytest.raises(UserError, match="--token-file FILE"):
            check_open(host, None, False)
        check_open(host, TOKEN, False)
        check_open(host, None, True)
        assert answered(host, ()) is None
        assert answered(host, ("A.example",)) == {"a.example"}
    for host in ("127.0.0.1", "localhost", "::1", "127.1.2.3"):
        assert is_local(host)
        check_open(host, None, False)
        assert answered(host, ("a.example",)) == LOCAL_NAMES | {host, "a.example"}


@pytest.mark.parametrize(
    "text", ["", "short", "two words of a token", "ünïcødé-tøken-øf-a-file", "a\nb"]
)
def test_a_token_that_is_none(tmp_path: Path, text: str) -> None:
    file = tmp_path / "token"
    file.write_text(text, "utf-8")
    with pytest.raises(UserError, match="openssl rand -hex 32"):
        read_token(file)
    with pytest.raises(UserError, match="cannot be read: No such file"):
        read_token(tmp_path / "gone")
    file.write_text(f"{TOKEN}\n")
    assert read_token(file) == TOKEN


def test_a_taken_port_and_a_foreign_address() -> None:
    with listen("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port} is taken"):
            listen("127.0.0.1", port)
    with pytest.raises(UserError, match="192.0.2.1:0 cannot be used"):
        listen("192.0.2.1", 0)
    with pytest.raises(UserError, match="it is no address of this machine"):
        listen("no such host", 80)
