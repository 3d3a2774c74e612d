"""What the service counts and times, as Prometheus reads it."""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class ServiceMetrics:
    """The metrics of one service, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self.model = Gauge(
            "vidprompt_model_info",
            "The model that is served; always 1",
            ["model", "method", "backbone", "identity", "device", "version"],
            registry=registry,
        )
        self.requests = Counter(
            "vidprompt_requests",
            "Requests that were answered",
            ["path", "status"],
            registry=registry,
        )
        self.seconds = Histogram(
            "vidprompt_request_seconds",
            "Seconds from a request's first byte to its answer",
            ["path"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.stage_seconds = Histogram(
            "vidprompt_stage_seconds",
            "Seconds of a part of a request, with its wait: upload, decode, encode, text",
            ["stage"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.batch_size = Histogram(
            "vidprompt_batch_videos",
            "Videos that were encoded together",
            buckets=(1, 2, 4, 8, 16, 32, 64),
            registry=registry,
        )
        self.upload_bytes = Counter(
            "vidprompt_upload_bytes", "Bytes of uploaded videos", registry=registry
        )
        self.running = Gauge(
            "vidprompt_requests_running", "Requests that are worked on", registry=registry
        )
        self.waiting = Gauge(
            "vidprompt_videos_waiting", "Decoded videos that wait to be encoded", registry=registry
        )
        self.decoders_lost = Counter(
            "vidprompt_decoders_lost",
            "Decoding processes that were replaced",
            ["reason"],
            registry=registry,
        )

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)
