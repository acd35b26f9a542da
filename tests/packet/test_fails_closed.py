"""Without any one of its elements the firewall opens nothing: the elements are those that cnmd wrote."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from cnm.firewall import sets
from cnm.kernel.nft import Nft
from cnm.kernel.state import ElementSet, FirewallElement
from netns_fixtures import Topology
from tests.packet.lab import (
    FAR,
    HOST,
    HOST_AT_FAR,
    NETWORKS,
    OPEN,
    OUTSIDE,
    UNOPENED,
    Lab,
    Probe,
    answered,
    networks,
    reaches,
    running_lab,
    world,
)

MADE = (
    *("nat", "nat-no-icc", "internal-no-icc", "internal", "isolated"),
    *("routed-no-icc", "unprotected-no-icc", "given"),
)
SECONDS = 0.15
ROUNDS = 3
OF_CLUSTERS = (
    *(sets.OVERLAY_VNIS, sets.ENCRYPTED_VNIS, sets.CLEAR_VNIS),
    *(sets.NODES4, sets.NODES6),
)
"""Empty on a host that is in no cluster; tests/kernel/test_firewall_ruleset_overlay.py leaves out elements of these."""
REPRESENTATIVES = 3
"""Of each set, beside all of its elements at once."""


class StoppedLab:
    """The lab after its daemon's end: nobody mends the firewall, and we have both hands in it."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        with lab.host.enter():
            self.nft = Nft()
        self.elements = sorted(self.nft.observe(sets.ELEMENT_SETS), key=str)
        self.closed = self._closed()

    @contextmanager
    def without(self, elements: list[FirewallElement]) -> Iterator[None]:
        self.nft.apply((), elements)
        try:
            yield
        finally:
            self.nft.apply(elements, ())

    def opened(self) -> list[str]:
        """Which of the probes that the whole firewall drops are answered now."""
        return answered(self.closed)

    def of(self, element_set: ElementSet) -> list[FirewallElement]:
        return [element for element in self.elements if element.set == element_set]

    def _closed(self) -> dict[str, Probe]:
        """What is dropped each time: a datagram that a busy machine lost once would seem to be let in later."""
        closed = dict(self._probes())
        for _ in range(ROUNDS):
            passing = set(answered(closed))
            closed = {name: probe for name, probe in closed.items() if name not in passing}
        return closed

    def _probes(self) -> Iterator[tuple[str, Probe]]:
        """By TCP, by UDP and by ping, from everybody to everything."""
        for version in (4, 6):
            for source in ("outside", "far", *(f"{name}-b" for name in MADE)):
                host = self.lab.topology.hosts[source]
                for protocol, target, address, port in self._targets(version):
                    probe = partial(reaches, host, protocol, address, port, SECONDS)
                    yield f"{source} to {target} by IPv{version} {protocol} {port}", probe

    def _targets(self, version: int) -> Iterator[tuple[str, str, str, int]]:
        for name in networks(version=version):
            if name in MADE:
                address = self.lab.address(name, "a", version)
                yield "tcp", f"{name}-a", address, OPEN
                yield "udp", f"{name}-a", address, UNOPENED
        yield "icmp", "nat-a", self.lab.address("nat", "a", version), 0
        yield "tcp", "host", HOST[version], NETWORKS["nat"].any_port
        yield "udp", "host", HOST_AT_FAR[version], NETWORKS["nat"].one_port
        yield "tcp", "host", HOST[version], NETWORKS["nat"].loopback_port
        yield "tcp", "outside", OUTSIDE[version], OPEN
        yield "udp", "far", FAR[version], OPEN


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory, br_netfilter: bool) -> Iterator[StoppedLab]:
    description = world()
    description["hosts"]["host"]["sysctls"] = {"net.ipv4.ip_forward": 1}  # for an element of `routing`
    with (
        Topology(description) as topology,
        running_lab(
            topology, tmp_path_factory.mktemp("cnmd"), br_netfilter=br_netfilter, networks=MADE
        ) as lab,
    ):
        lab.daemon.stop()
        stopped = StoppedLab(lab)
        yield stopped
        stopped.nft.close()
        lab.daemon.start()


@pytest.mark.parametrize(
    "element_set",
    [each for each in sets.ELEMENT_SETS if each not in OF_CLUSTERS],
    ids=lambda each: each.name,
)
def test_nothing_opens_without_an_element_of(stopped: StoppedLab, element_set: ElementSet) -> None:
    everything = stopped.of(element_set)
    if element_set == sets.LOOPBACK_NAT and stopped.lab.br_netfilter:
        assert everything == []
        return
    assert everything
    step = max(1, len(everything) // REPRESENTATIVES)
    found: dict[str, list[str]] = {}
    for going in ([element] for element in everything[::step]):
        with stopped.without(going):
            if ways := stopped.opened():
                found[str(going[0].key)] = ways
    with stopped.without(everything):
        if ways := stopped.opened():
            found["all of them"] = ways

    assert found == {}


@pytest.mark.parametrize("family", ["inet", "bridge"])
def test_nothing_opens_without_any_element_of_a_table(stopped: StoppedLab, family: str) -> None:
    with stopped.without([element for element in stopped.elements if element.set.family == family]):
        assert stopped.opened() == []


def test_the_probes_notice_an_element_too_many(stopped: StoppedLab) -> None:
    bridge = stopped.lab.bridges["nat-no-icc"]
    added = FirewallElement(sets.TRUSTED, ("up1", bridge))

    stopped.nft.apply([added], ())
    ways = stopped.opened()
    stopped.nft.apply((), [added])

    assert "outside to nat-no-icc-a by IPv4 tcp 80" in ways
    assert "outside to nat-no-icc-a by IPv6 udp 81" in ways
    assert stopped.opened() == []
