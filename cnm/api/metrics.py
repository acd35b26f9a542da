"""Every metric of the daemon, declared in one place, in Prometheus' text format at GET /metrics."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, exposition
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from cnm.api.backend import Backend

CONTENT_TYPE = exposition.CONTENT_TYPE_PLAIN_0_0_4

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Metrics:
    """Counts requests, and tells the number of objects when it is asked."""

    def __init__(self, backend: Backend) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(namespace="cnm", registry=self._registry)
        self._registry.register(_Objects(backend))
        self._requests = Counter(
            "cnm_api_requests_total",
            "Requests of the control API that were answered.",
            ("route", "status"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "cnm_api_request_seconds",
            "Time from a request's headers to its answer, in seconds.",
            ("route",),
            buckets=_SECONDS,
            registry=self._registry,
        )

    def count(self, route: str, status: int, seconds: float) -> None:
        """One answered request; `route` is a method and path template, so that labels stay few."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """All metrics in Prometheus' text format 0.0.4."""
        return exposition.generate_latest(self._registry)


class _Objects(Collector):
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def describe(self) -> Iterable[GaugeMetricFamily]:
        return [
            GaugeMetricFamily(
                "cnm_objects", "Networks, endpoints and sandboxes that exist.", labels=("kind",)
            )
        ]

    def collect(self) -> Iterable[GaugeMetricFamily]:
        for family in self.describe():
            family.add_metric(("network",), len(self._backend.networks()))
            family.add_metric(("endpoint",), len(self._backend.endpoints()))
            family.add_metric(("sandbox",), len(self._backend.sandboxes()))
            yield family
