"""What one request and all of them together may take of the server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from vidprompt.system.cores import available_cores
from vidprompt.system.errors import UserError

MB = 2**20


@dataclass(frozen=True)
class ServiceLimits:
    """Limits of a service.

    Of a video: `upload_mb` (megabytes), `seconds` (its length), `pixels` (width times height of a picture).
    Of a request: `classes`, `texts` (classes times prompts, or sentences), `timeout_s` (seconds from its
    start to its answer), `upload_idle_s` (seconds without a byte of the upload), `decode_s` (seconds of
    decoding), `memory_mb` (megabytes of the decoding process beyond what it has when it starts).
    Of all: `requests` at once, the next ones get 429; `decoders` (processes); `batch`: videos that are
    encoded together, on a CPU at most two a core; `batch_wait_ms`: how long the first waits for others.
    """

    upload_mb: float = 256
    seconds: float = 600
    pixels: int = 4096 * 2304
    classes: int = 1000
    texts: int = 2000
    timeout_s: float = 120
    upload_idle_s: float = 15
    decode_s: float = 60
    memory_mb: int = 2048
    requests: int = 32
    decoders: int = 0  # 0: one a core, at most 8
    batch: int = 16
    batch_wait_ms: float = 3

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            least = 0 if one.name in ("decoders", "batch_wait_ms") else 1
            if not value >= least:
                raise UserError(f"{one.name}={value}: it has to be {least} or more")

    @property
    def upload_bytes(self) -> int:
        return int(self.upload_mb * MB)

    @property
    def decoding_processes(self) -> int:
        return self.decoders or max(1, min(8, available_cores()))

    def changed(self, values: Mapping[str, Any]) -> ServiceLimits:
        """These limits with others in their place; None keeps one."""
        return replace(self, **{name: value for name, value in values.items() if value is not None})

    @classmethod
    def of_one_person(cls) -> ServiceLimits:
        """For a page on the user's own machine: long videos, and the time that they take."""
        return replace(cls(), upload_mb=4096, seconds=4 * 3600, timeout_s=3600, decode_s=3600)
