"""How many requests are worked on at once; the next ones are refused with a time to try again."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

from vidprompt.serving.errors import RequestError

_NEWEST = 0.1  # weight of the newest request in the mean of durations
_MAX_RETRY_S = 60


class Capacity:
    """Counts requests, up to `limit`. For one event loop."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.running = 0
        self.stopping = False
        self._seconds = 0.0  # mean duration of a request

    @contextmanager
    def admit(self) -> Iterator[None]:
        """Count a request while it is worked on. Raises RequestError (429, or 503 when stopping)."""
        if self.stopping:
            raise RequestError(
                503,
                "The server is stopping.",
                "stopping",
                {"Retry-After": "5", "Connection": "close"},
            )
        if self.running >= self.limit:
            retry = self.retry_after()
            raise RequestError(
                429,
                f"The server works on {self.running} requests, as many as it takes at once: try again in "
                f"{retry} s.",
                headers={"Retry-After": str(retry)},
            )
        self.running += 1
        began = time.monotonic()
        try:
            yield
        finally:
            self.running -= 1
            seconds = time.monotonic() - began
            self._seconds += (seconds - self._seconds) * (_NEWEST if self._seconds else 1)

    def retry_after(self) -> int:
        """Whole seconds after which about half of what runs is done."""
        return min(_MAX_RETRY_S, max(1, math.ceil(self._seconds / 2)))
