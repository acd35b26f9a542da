"""Sandboxes answer from their first packet on, time and again, with br_netfilter on and hairpin ports.

An earlier prototype of these rules saw whole networks lose IPv4 at random there, and so did these rounds on a busy
machine, until an attach waited for its links. The firewall had no part in it. The kernel turns a bridge port on some
time after it has got its carrier (`cnm.kernel.carrier` says why). An ARP request sent before is lost and repeated only
after a second, while every packet to that neighbour waits: IPv4 of a whole network is gone for longer than a probe
waits, and IPv6 with it only if its request was as early. Worse still where both ends of a pair had the same interface
index: then the kernel is in no hurry and takes up to a second itself; our host ends have indexes from 65536 on.

Each round attaches everything anew, on new bridges, and asks at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

from netns_fixtures import Topology
from tests.packet.lab import (
    HOST,
    NETWORKS,
    Lab,
    Probe,
    assert_all_dropped,
    assert_all_pass,
    reaches,
    running_lab,
    switch_br_netfilter,
    to_containers,
    world,
)
from tests.support.thorough import THOROUGH

ROUNDS = 20 if THOROUGH else 4
FIRST_PACKET_SECONDS = 0.9
"""Less than the second after which TCP and ARP try again."""
MADE = ("nat", "nat-no-icc", "internal", "internal-no-icc")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with (
        Topology(world()) as topology,
        running_lab(topology, tmp_path_factory.mktemp("cnmd"), br_netfilter=True, networks=MADE) as running,
    ):
        yield running


def must_pass(lab: Lab) -> dict[str, Probe]:
    probes: dict[str, Probe] = {}
    for version in (4, 6):
        for protocol in ("tcp", "udp", "icmp"):
            for name in ("nat", "internal"):
                found = to_containers(
                    lab, lab.box(name, "b"), [name], protocol, version, FIRST_PACKET_SECONDS
                )
                probes |= {f"{what} {protocol} IPv{version}": probe for what, probe in found.items()}
        for protocol in ("tcp", "udp"):
            for name in ("nat", "nat-no-icc"):
                port = NETWORKS[name].any_port
                for source in ("outside", "nat-a", "nat-b", "nat-no-icc-a", "nat-no-icc-b"):
                    host = lab.topology.hosts[source]
                    probes[f"{source} to published {name} {protocol} IPv{version}"] = partial(
                        reaches, host, protocol, HOST[version], port, FIRST_PACKET_SECONDS
                    )
    return probes


def must_drop(lab: Lab) -> dict[str, Probe]:
    pairs = [("nat-no-icc", "nat-no-icc"), ("internal-no-icc", "internal-no-icc")]
    pairs += [("nat", "nat-no-icc"), ("nat-no-icc", "nat"), ("internal", "nat"), ("nat", "internal")]
    probes: dict[str, Probe] = {}
    for version in (4, 6):
        for protocol in ("tcp", "udp", "icmp"):
            for source, target in pairs:
                found = to_containers(lab, lab.box(source, "b"), [target], protocol, version, seconds=0.15)
                probes |= {f"{what} {protocol} IPv{version}": probe for what, probe in found.items()}
    return probes


def attach_anew(lab: Lab) -> None:
    """Other bridges, other pairs, other MACs; the sandboxes and their servers stay."""
    for name in MADE:
        for letter in "ab":
            body = {"Container": f"{name}-{letter}"}
            lab.daemon.ask("POST", f"/networks/{name}/disconnect", body)
        lab.daemon.ask("DELETE", f"/networks/{name}")
    for name in MADE:
        lab.connect(name)


def test_the_matrix_of_icc_and_hairpin_holds_in_every_round(lab: Lab) -> None:
    for _ in range(ROUNDS):
        assert_all_pass(must_pass(lab))
        assert_all_dropped(lab, must_drop(lab))
        attach_anew(lab)


@pytest.mark.parametrize("on", [False, True], ids=["switched off", "switched on"])
def test_the_matrix_holds_after_br_netfilter_was_switched(lab: Lab, on: bool) -> None:
    switch_br_netfilter(lab.host, on)
    lab.daemon.ask("POST", "/cnm/v1/repair")

    assert_all_pass(must_pass(lab))
    assert_all_dropped(lab, must_drop(lab))
    assert lab.daemon.ask("GET", "/cnm/v1/status")["BridgeNetfilter"] == {"ipv4": on, "ipv6": on}
    assert lab.daemon.findings() == []
