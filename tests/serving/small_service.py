"""A service of a small model in this process."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import uvicorn
from starlette.testclient import TestClient

from vidprompt.prediction.model import Model
from vidprompt.serving.app import create_app
from vidprompt.serving.limits import ServiceLimits
from vidprompt.serving.server import configuration, listen
from vidprompt.serving.service import Service

LIMITS: Mapping[str, Any] = {
    "upload_mb": 1,
    "seconds": 5,
    "pixels": 640 * 480,
    "decoders": 2,
    "decode_s": 20,
    "requests": 16,
    "batch_wait_ms": 30,
}


@contextmanager
def client_of(
    model: Model, limits: Mapping[str, Any] | None = None, index: Any = None, **options: Any
) -> Iterator[TestClient]:
    """A client of a service that runs in this process; `options`: of `create_app`."""
    service = Service(model, ServiceLimits(**{**LIMITS, **(limits or {})}), index)
    with TestClient(create_app(service, **options), base_url="http://127.0.0.1:8000") as client:
        client.app_state["service"] = service
        yield client


@contextmanager
def running(service: Service, **options: Any) -> Iterator[int]:
    """The service on a port of this machine, in a thread; `options`: of `create_app`."""
    with listen("127.0.0.1", 0) as listener:
        server = uvicorn.Server(configuration(create_app(service, **options)))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            while not server.started and thread.is_alive():
                time.sleep(0.02)
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()
