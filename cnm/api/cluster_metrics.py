"""Metrics of this host's part in a cluster; none where it is in none."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from cnm.api.backend import Backend
from cnm.cluster.etcd.contract import Following
from cnm.cluster.tally import BOUNDS, Counted


class ClusterMetrics(Collector):
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterable[Metric]:
        figures = self._backend.cluster_figures()
        if figures is None:
            return
        yield GaugeMetricFamily(
            "cnm_cluster_nodes", "Nodes of the cluster that are alive.", value=figures.nodes
        )
        peers = GaugeMetricFamily(
            "cnm_cluster_peers", "Endpoints on other hosts, of networks that are here.", labels=("network",)
        )
        for network, count in figures.peers.items():
            peers.add_metric((network,), count)
        yield peers
        state = GaugeMetricFamily(
            "cnm_cluster_watch_state",
            "1 for how it stands with what is heard of the cluster.",
            labels=("state",),
        )
        for each in Following:
            state.add_metric((each.value,), each is figures.stands)
        yield state
        yield GaugeMetricFamily(
            "cnm_cluster_lease_alive", "Whether the other hosts see this one.", value=figures.is_alive
        )
        yield from _counters(figures.counted)


def _counters(counted: Counted) -> Iterable[Metric]:
    yield CounterMetricFamily(
        "cnm_cluster_changes", "Changes of the cluster that were followed.", value=counted.changes
    )
    yield CounterMetricFamily(
        "cnm_cluster_audit_repairs", "What the audit found wrong and mended.", value=counted.repairs
    )
    bounds = (*map(str, BOUNDS), "+Inf")
    yield HistogramMetricFamily(
        "cnm_cluster_lag_seconds",
        "Time from a change's arrival until the kernel had it, of what was handed out at once, in seconds.",
        buckets=list(zip(bounds, accumulate(counted.lags), strict=True)),
        sum_value=counted.seconds,
    )
