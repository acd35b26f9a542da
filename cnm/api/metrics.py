"""Every metric of the daemon, declared in one place, in Prometheus' text format at GET /metrics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import accumulate
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, exposition
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from cnm.api.backend import Backend
from cnm.api.cluster_metrics import ClusterMetrics
from cnm.resolver.stats import BUCKETS

CONTENT_TYPE = exposition.CONTENT_TYPE_PLAIN_0_0_4

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Metrics:
    """Counts requests, and tells the number of objects when it is asked."""

    def __init__(self, backend: Backend) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(namespace="cnm", registry=self._registry)
        self._registry.register(_Objects(backend))
        self._registry.register(_Names(backend))
        self._registry.register(ClusterMetrics(backend))
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


_CODES = {0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}
"""What the name server answers (RFC 1035)."""


class _Names(Collector):
    """Since each of its processes began; nothing while no sandbox is served."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterable[Metric]:
        stats = self._backend.name_stats()
        if not stats:
            return
        queries = CounterMetricFamily("cnm_dns_queries", "Queries of sandboxes.", labels=("protocol",))
        for protocol in ("udp", "tcp"):
            queries.add_metric((protocol,), stats[protocol])
        answers = CounterMetricFamily("cnm_dns_answers", "Answers to sandboxes.", labels=("code",))
        for number, count in enumerate(stats["codes"]):
            if number in _CODES or count:
                answers.add_metric((_CODES.get(number, str(number)),), count)
        yield queries
        yield answers
        for name, key, text in (
            ("cnm_dns_forwarded", "forwarded", "Questions that other servers were asked."),
            ("cnm_dns_cache_hits", "cached", "Answers of other servers that were kept."),
            ("cnm_dns_ignored", "silent", "Datagrams that were no queries."),
        ):
            yield CounterMetricFamily(name, text, value=stats[key])
        yield _times(stats)


def _times(stats: Mapping[str, Any]) -> HistogramMetricFamily:
    bounds = (*map(str, BUCKETS), "+Inf")
    reached = list(zip(bounds, accumulate(stats["times"]), strict=True))
    return HistogramMetricFamily(
        "cnm_dns_seconds", "Time from a query to its answer, in seconds.", reached, stats["seconds"]
    )
