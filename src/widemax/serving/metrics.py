"""What Prometheus asks: requests by route and code, their times, the queue, the batches, the models."""

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from widemax.serving.batches import Batches
from widemax.serving.models import Models


class Metrics:
    """The counters of one server, its queue and its batches."""

    def __init__(self, batches: Batches, models: Models) -> None:
        self.registry = CollectorRegistry()
        self._models = models
        registry = self.registry
        self.requests = Counter(
            "widemax_requests", "Requests by route and status.", ["route", "code"], registry=registry
        )
        self.seconds = Histogram(
            "widemax_request_seconds", "From the first byte to the answer.", ["route"], registry=registry
        )
        depth = Gauge("widemax_queue_depth", "Requests that wait to be computed.", registry=registry)
        depth.set_function(lambda: batches.depth)
        sizes = Histogram(
            "widemax_batch_size",
            "Rows computed together.",
            buckets=[1, 2, 4, 8, 16, 32, 64, 128, 256, 1024],
            registry=registry,
        )
        batches.observed = sizes.observe
        self._info = Gauge(
            "widemax_model_info", "1 for a model that answers, 0 for one that cannot.", ["model", "sha256"],
            registry=registry,
        )  # fmt: skip

    def text(self) -> bytes:
        """All numbers in Prometheus's text format."""
        self._info.clear()
        for name in self._models:
            served = self._models.served.get(name)
            self._info.labels(name, served.sha256 if served else "").set(served is not None)
        return generate_latest(self.registry)


class Meter:
    """Counts the requests that an application answers."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and note its route, its status and its time."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun = time.perf_counter()

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", "") or "other"
                self.metrics.requests.labels(route, message["status"]).inc()
                self.metrics.seconds.labels(route).observe(time.perf_counter() - begun)
            await send(message)

        await self.app(scope, receive, noting)
