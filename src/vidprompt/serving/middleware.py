"""What holds for every request: who may ask, the headers of answers, and errors before a body is read."""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import Collection
from contextlib import suppress
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vidprompt.serving.errors import error_body
from vidprompt.serving.metrics import ServiceMetrics

logger = logging.getLogger(__name__)

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
API_POLICY = "default-src 'none'; frame-ancestors 'none'"
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
_DRAIN_S = 2.0  # how long the rest of a refused body is read, so that the client gets the answer


class SecurityHeaders:
    """Adds the headers that keep browsers from using answers in other ways."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Content-Security-Policy", API_POLICY)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await self._app(scope, receive, send_with_headers)


class Guard:
    """Refuses requests without the token, for other hosts, and from pages of other sites.

    `hosts`: names that requests may be for, whatever the port; None for all. A server on 127.0.0.1 takes no
    others: a page on the internet may let its own name point there (DNS rebinding). `open_paths` need no
    token.
    """

    def __init__(
        self,
        app: ASGIApp,
        token: str | None,
        hosts: Collection[str] | None,
        open_paths: Collection[str],
    ) -> None:
        self._app, self._hosts, self._open = app, hosts, frozenset(open_paths)
        self._expected = token.encode() if token is not None else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = self._refusal(Headers(scope=scope), scope["path"])
        await (answer or self._app)(scope, receive, send)

    def _refusal(self, headers: Headers, path: str) -> JSONResponse | None:
        host = headers.get("host", "")
        if self._hosts is not None and _hostname(f"//{host}") not in self._hosts:
            return _error(
                403,
                f"This server does not answer for the host {host[:80]!r}: --allow-host adds a name.",
            )
        origin = headers.get("origin", "")
        if origin and urlsplit(origin).netloc.lower() != host.lower():
            return _error(403, "Pages of other sites may not use this server.")
        if self._expected is None or path in self._open:
            return None
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and hmac.compare_digest(
            given.strip().encode(), self._expected
        ):
            return None
        text = "The token is wrong." if given else "Send the token: Authorization: Bearer TOKEN."
        return _error(401, text, {"WWW-Authenticate": "Bearer"})


def _hostname(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse(error_body(status, message), status, headers)


class EarlyAnswers:
    """Lets an answer that comes before the body was read arrive: the rest is read for a moment.

    Closing a connection with unread bytes resets it, and clients would lose the answer.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        length = headers.get("content-length")
        ended = "transfer-encoding" not in headers and length in (None, "0")
        begun = False
        early = False

        async def counted_receive() -> Message:
            nonlocal ended, begun
            begun = True
            message = await receive()
            if message["type"] != "http.request" or not message.get("more_body", False):
                ended = True
            return message

        async def send_and_drain(message: Message) -> None:
            nonlocal early
            if message["type"] == "http.response.start":
                early = not ended
                if early:
                    MutableHeaders(scope=message)["Connection"] = "close"
                await send(message)
                return
            last = not message.get("more_body", False)
            if not (early and last):
                await send(message)
                return
            await send({**message, "more_body": True})
            # a client that waits for "100 Continue" sends no body when it gets an answer instead
            if begun or "expect" not in headers:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_DRAIN_S):
                        while not ended:
                            await counted_receive()
            await send({"type": "http.response.body", "body": b"", "more_body": False})

        await self._app(scope, counted_receive, send_and_drain)


class Measured:
    """Counts and times the answers, by path; paths that do not exist are one."""

    def __init__(self, app: ASGIApp, metrics: ServiceMetrics, paths: Collection[str]) -> None:
        self._app, self._metrics, self._paths = app, metrics, frozenset(paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"] if scope["path"] in self._paths else "other"
        began = time.perf_counter()

        async def counted_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                seconds = time.perf_counter() - began
                self._metrics.requests.labels(path, str(message["status"])).inc()
                self._metrics.seconds.labels(path).observe(seconds)
                logger.debug(f"{scope['method']} {path}: {message['status']} in {seconds:.3f} s")
            await send(message)

        await self._app(scope, receive, counted_send)
