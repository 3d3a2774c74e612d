"""Read a request, do its work within the limits, and answer: at once, or in lines as the work goes on."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import Response, StreamingResponse
from starlette.exceptions import HTTPException

from vidprompt.serving import forms
from vidprompt.serving.errors import RequestError, error_body
from vidprompt.serving.forms import Form
from vidprompt.serving.service import Service

logger = logging.getLogger(__name__)
Value = TypeVar("Value")
Event = dict[str, Any]
LINES = "application/x-ndjson"


async def answer(
    service: Service, request: Request, work: Callable[[Form], Awaitable[Value]]
) -> Value:
    """Read a request's form and wait for the work on it, within the limits; its upload is removed.

    Where the client goes away, the work is cancelled.
    """

    async def whole() -> Value:
        form = await forms.read_form(request, service.folder, service.limits)
        try:
            service.metrics.upload_bytes.inc(form.video_bytes)
            task = asyncio.ensure_future(work(form))
            gone = asyncio.ensure_future(_disconnected(request))
            try:
                await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
                if not task.done():
                    raise RequestError(400, "The client closed the connection.", "disconnected")
                return await task
            finally:
                for one in (task, gone):
                    one.cancel()
                    with suppress(asyncio.CancelledError, Exception):
                        await one
        finally:
            form.close()

    with service.capacity.admit():
        try:
            return await within(service.limits.timeout_s, whole())
        except (RequestError, HTTPException):
            raise
        except Exception as error:
            logger.error(f"{request.url.path} failed", exc_info=error)
            raise RequestError(500, "The server failed; its log says how.") from error


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def within(seconds: float, work: Awaitable[Value]) -> Value:
    """Wait for the work of a request. Raises RequestError (504) after `seconds`."""
    try:
        async with asyncio.timeout(seconds):
            return await work
    except TimeoutError:
        raise RequestError(504, f"The request was not done within {seconds:g} s.") from None


async def answer_in_lines(
    service: Service,
    request: Request,
    work: Callable[[Form, Callable[[Event], None]], Awaitable[Any]],
) -> Response:
    """An answer of JSON lines: what `work` reports, as it does, then {"result": …} or {"error": …}.

    `work` gets the form and a function to report with, from any thread. What is wrong before its first report
    is raised, and answered as usual.
    """
    events: asyncio.Queue[Event | None] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def report(event: Event) -> None:
        loop.call_soon_threadsafe(events.put_nowait, event)

    task = asyncio.ensure_future(answer(service, request, lambda form: work(form, report)))
    task.add_done_callback(lambda _task: events.put_nowait(None))
    try:
        first = await events.get()
    except asyncio.CancelledError:
        task.cancel()
        raise
    if first is None:
        task.result()

    async def lines() -> AsyncIterator[str]:
        try:
            event = first
            while event is not None:
                yield json.dumps(event) + "\n"
                event = await events.get()
            try:
                last = {"result": task.result()}
            except RequestError as error:
                last = error_body(error.status, error.message, error.code)
            yield json.dumps(last) + "\n"
        finally:
            task.cancel()

    return StreamingResponse(lines(), media_type=LINES)
