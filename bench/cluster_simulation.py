"""What clusters of a thousand hosts would ask of etcd: endpoints are placed by chance."""

from __future__ import annotations

import random
from typing import NamedTuple

HOSTS, ENDPOINTS, CHANGES = 1000, 100_000, 100
"""The last one is a second."""


class Placement(NamedTuple):
    """`near`: the share of a network's endpoints that are on its four hosts; the others are anywhere."""

    networks: int
    near: float


CLUSTERS = tuple(
    Placement(networks, near)
    for networks, near in ((1, 0.0), (100, 0.0), (1000, 0.0), (1000, 0.7), (5000, 0.7), (5000, 1.0))
)
_HOME = 4


def simulated(cluster: Placement, microseconds: float) -> tuple[str, ...]:
    """A row: how it is spread, and what the members' processors take when a delivery costs so much."""
    chance = random.Random(1)
    hosts = [_hosts(cluster, chance) for _ in range(cluster.networks)]
    each = ENDPOINTS // cluster.networks
    watchers = sum(map(len, hosts)) / cluster.networks
    known = sum(len(taking_part) * each for taking_part in hosts) / HOSTS
    deliveries = CHANGES * watchers
    return (
        f"{cluster.networks:,}",
        f"{cluster.near:.0%}",
        f"{watchers:,.0f}",
        f"{known:,.0f}",
        f"{deliveries:,.0f}",
        f"{deliveries * microseconds / 1e6:.2f}",
    )


def _hosts(cluster: Placement, chance: random.Random) -> set[int]:
    """Those that take part in one network."""
    home = chance.sample(range(HOSTS), _HOME)
    return {
        chance.choice(home) if chance.random() < cluster.near else chance.randrange(HOSTS)
        for _ in range(ENDPOINTS // cluster.networks)
    }
