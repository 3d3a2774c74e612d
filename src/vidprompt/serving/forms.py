"""Read the body of a request: fields in memory, the video to a file as it comes, within limits.

FastAPI's own forms are read before any code of ours runs, without a limit on a file's size or on the time.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any
from urllib.parse import parse_qsl

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from vidprompt.serving.errors import RequestError
from vidprompt.serving.limits import ServiceLimits
from vidprompt.serving.upload_decoding import VIDEO_SUFFIXES

MAX_FIELD_BYTES = 2**20  # of all fields together
MAX_PARTS = 10_000
MIN_RATE = 4096  # bytes a second of an upload: a slower one keeps its place from others
VIDEO = "video"  # the name of the field with the file
_SHOWN_NAME = 80


@dataclass
class Form:
    """The fields of a request, each with its values in order, and the uploaded video if there is one.

    `values`: the fields of JSON as they are. `close` removes the video's file.
    """

    fields: dict[str, list[str]] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    video: Path | None = None
    video_name: str = ""
    video_bytes: int = 0

    def close(self) -> None:
        if self.video is not None:
            self.video.unlink(missing_ok=True)


async def read_form(request: Request, folder: Path, limits: ServiceLimits) -> Form:
    """Read multipart/form-data (with a video), a URL-encoded form or JSON.

    The video is written to a new file in `folder`; `Form.close` removes it, and so does every error. Raises
    RequestError: 400 for a broken body, 408 for a slow one, 413 for a large one, 415 for another type.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > limits.upload_bytes + MAX_FIELD_BYTES:
        raise _over_limit(limits)
    if kind == b"multipart/form-data":
        return await _read_multipart(request, options.get(b"boundary", b""), folder, limits)
    if kind == b"application/json":
        return _json_form(await _small_body(request, limits))
    if kind == b"application/x-www-form-urlencoded":
        body = await _small_body(request, limits)
        form = Form()
        for name, value in parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True):
            form.fields.setdefault(name, []).append(value)
        return form
    given = kind.decode("latin-1") or "no Content-Type"
    raise RequestError(
        415,
        f"The body is {given[:60]}: send multipart/form-data with the video in the field {VIDEO!r}.",
    )


def _over_limit(limits: ServiceLimits) -> RequestError:
    return RequestError(413, f"The upload is larger than the limit of {limits.upload_mb:g} MB.")


async def _chunks(request: Request, limits: ServiceLimits) -> AsyncIterator[bytes]:
    """The body as it comes. Raises RequestError where nothing comes for too long, or the client is gone."""
    stream = aiter(request.stream())
    began, received = time.monotonic(), 0
    while True:
        try:
            async with asyncio.timeout(limits.upload_idle_s):
                chunk = await anext(stream)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise RequestError(
                408,
                f"The upload stopped for {limits.upload_idle_s:g} s.",
                headers={"Connection": "close"},
            ) from None
        except ClientDisconnect:
            raise RequestError(400, "The client closed the connection.", "disconnected") from None
        received += len(chunk)
        seconds = time.monotonic() - began
        if seconds > limits.upload_idle_s and received < seconds * MIN_RATE:
            raise RequestError(
                408,
                f"The upload is slower than {MIN_RATE:,} bytes a second.",
                headers={"Connection": "close"},
            )
        yield chunk


async def _small_body(request: Request, limits: ServiceLimits) -> bytes:
    body = bytearray()
    async for chunk in _chunks(request, limits):
        body += chunk
        if len(body) > MAX_FIELD_BYTES:
            raise RequestError(
                413, f"The fields are larger than {MAX_FIELD_BYTES // 2**20} MB together."
            )
    return bytes(body)


def _json_form(body: bytes) -> Form:
    try:
        values = json.loads(body)
    except (ValueError, RecursionError):
        raise RequestError(400, "The body is no JSON.") from None
    if not isinstance(values, dict):
        raise RequestError(400, 'The body is no JSON object: {"text": "…"}.')
    if VIDEO in values:
        raise RequestError(
            422,
            f"JSON has no {VIDEO}: upload the file as multipart/form-data; paths and URLs are not read.",
        )
    return Form(values=values)


async def _read_multipart(
    request: Request, boundary: bytes, folder: Path, limits: ServiceLimits
) -> Form:
    if not boundary:
        raise RequestError(400, "The Content-Type names no boundary of the parts.")
    reader: _PartReader | None = None
    try:
        reader = _PartReader(boundary, folder, limits)
        async for chunk in _chunks(request, limits):
            # file systems block
            await asyncio.get_running_loop().run_in_executor(None, reader.write, chunk)
        reader.finish()
    except BaseException as error:
        if reader is not None:
            reader.abort()
        if isinstance(error, FormParserError):
            raise RequestError(400, "The parts of the body are broken.") from None
        if isinstance(error, OSError) and not isinstance(error, TimeoutError):
            raise RequestError(
                503, f"The server cannot store the upload: {error.strerror}.", "no_space"
            ) from error
        raise
    return reader.form


class _PartReader:
    """Takes the bytes of multipart/form-data: fields into memory, the part `video` into a file."""

    def __init__(self, boundary: bytes, folder: Path, limits: ServiceLimits) -> None:
        self.form = Form()
        self._folder, self._limits = folder, limits
        self._ended = False
        self._file: IO[bytes] | None = None
        self._in_file = False
        self._name = ""
        self._data = bytearray()
        self._field_bytes = self._parts = 0
        self._header: list[bytes] = [b"", b""]
        self._disposition = b""
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": lambda data, start, end: self._add_header(0, data[start:end]),
                "on_header_value": lambda data, start, end: self._add_header(1, data[start:end]),
                "on_header_end": self._end_header,
                "on_headers_finished": self._start_content,
                "on_part_data": lambda data, start, end: self._add(data[start:end]),
                "on_part_end": self._end_part,
                "on_end": self._end,
            },
        )

    def write(self, chunk: bytes) -> None:
        if chunk:
            self._parser.write(chunk)

    def finish(self) -> None:
        """Raises RequestError where the body ends before its last part does."""
        self._parser.finalize()
        if not self._ended:
            raise RequestError(400, "The body ends before its last part does.")
        if self._file is not None:
            self._file.close()

    def abort(self) -> None:
        if self._file is not None:
            self._file.close()
        self.form.close()

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise RequestError(413, f"The body has more than {MAX_PARTS:,} parts.")
        self._disposition = b""
        self._data.clear()

    def _add_header(self, which: int, data: bytes) -> None:
        self._header[which] += data

    def _end_header(self) -> None:
        name, value = self._header
        if name.lower() == b"content-disposition":
            self._disposition = value
        self._header = [b"", b""]

    def _start_content(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        if not self._name:
            raise RequestError(400, "A part of the body has no name.")
        self._in_file = self._name == VIDEO
        if not self._in_file:
            if b"filename" in options:
                raise RequestError(
                    422, f"The file is in the field {self._name[:40]!r}: send it as {VIDEO!r}."
                )
            return
        if b"filename" not in options:
            raise RequestError(
                422,
                f"The field {VIDEO!r} has text: upload the file itself (curl -F {VIDEO}=@FILE); paths and "
                "URLs are not read.",
            )
        if self._file is not None:
            raise RequestError(422, f"The body has several files in {VIDEO!r}: send one a request.")
        self.form.video_name = shown_name(options[b"filename"].decode("utf-8", "replace"))
        suffix = PurePosixPath(self.form.video_name).suffix.lower()
        suffix = suffix if suffix in VIDEO_SUFFIXES else ""
        self.form.video = self._folder / f"{secrets.token_hex(16)}{suffix}"
        self._file = self.form.video.open("xb")

    def _add(self, data: bytes) -> None:
        if self._in_file and self._file is not None:
            self.form.video_bytes += len(data)
            if self.form.video_bytes > self._limits.upload_bytes:
                raise _over_limit(self._limits)
            self._file.write(data)
            return
        self._field_bytes += len(data)
        if self._field_bytes > MAX_FIELD_BYTES:
            raise RequestError(
                413, f"The fields are larger than {MAX_FIELD_BYTES // 2**20} MB together."
            )
        self._data += data

    def _end_part(self) -> None:
        if not self._in_file:
            value = self._data.decode("utf-8", "replace")
            self.form.fields.setdefault(self._name, []).append(value)

    def _end(self) -> None:
        self._ended = True


def shown_name(given: str) -> str:
    """The last part of a client's file name, printable and short; it names no file of the server."""
    name = PureWindowsPath(PurePosixPath(given).name).name
    name = "".join(one for one in name if one.isprintable()).strip()
    if len(name) > _SHOWN_NAME:
        name = name[: _SHOWN_NAME // 2] + "…" + name[-_SHOWN_NAME // 2 + 1 :]
    return name or "the video"
