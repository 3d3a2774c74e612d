"""Errors of the service: a status, a code for programs and a sentence for people, in one JSON shape."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from vidprompt.system.errors import UserError

CODES = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "upload_too_slow",
    413: "too_large",
    415: "unsupported_media_type",
    422: "invalid",
    429: "busy",
    500: "internal",
    501: "not_available",
    503: "unavailable",
    504: "timeout",
}


class RequestError(UserError):
    """A request that is refused or fails: HTTP `status`, a `code` of one word, and a sentence."""

    def __init__(
        self, status: int, message: str, code: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message = status, message
        self.code = code or CODES.get(status, "error")
        self.headers = dict(headers or {})


def error_body(status: int, message: str = "", code: str = "") -> dict[str, Any]:
    """The JSON of every error."""
    message = message or f"{HTTPStatus(status).phrase}."
    return {
        "error": {"status": status, "code": code or CODES.get(status, "error"), "message": message}
    }
