"""What clusters of a thousand hosts would ask of etcd: endpoints are placed by chance."""

from __future__ import annotations

import random
from collections.abc import Sequence
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


class Costs(NamedTuple):
    """Of the members' processors in all, microseconds."""

    change: float
    delivery: float


def fitted(measured: Sequence[tuple[int, int, float]]) -> Costs:
    """From (changes, deliveries, seconds): least squares."""
    cc, cd, dd, ct, dt = (
        sum(one * other for one, other in pairs)
        for pairs in (
            [(c, c) for c, _, _ in measured],
            [(c, d) for c, d, _ in measured],
            [(d, d) for _, d, _ in measured],
            [(c, t) for c, _, t in measured],
            [(d, t) for _, d, t in measured],
        )
    )
    determinant = cc * dd - cd * cd
    return Costs(1e6 * (dd * ct - cd * dt) / determinant, 1e6 * (cc * dt - cd * ct) / determinant)


def simulated(cluster: Placement, costs: Costs) -> tuple[str, ...]:
    """A row: how it is spread, and what the members' processors take."""
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
        f"{(CHANGES * costs.change + deliveries * costs.delivery) / 1e6:.2f}",
    )


def _hosts(cluster: Placement, chance: random.Random) -> set[int]:
    """Those that take part in one network."""
    home = chance.sample(range(HOSTS), _HOME)
    return {
        chance.choice(home) if chance.random() < cluster.near else chance.randrange(HOSTS)
        for _ in range(ENDPOINTS // cluster.networks)
    }
