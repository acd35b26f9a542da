"""The ruleset as the kernel takes it: loaded, loaded again, constant, and the administrator's chain left alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from cnm.firewall import ruleset, sets
from cnm.firewall.elements import attach_elements, host_elements, network_elements, overlay_elements
from cnm.firewall.modes import GatewayMode
from cnm.kernel.nft import Nft
from cnm.kernel.state import FirewallElement
from netns_fixtures import Host, Topology

pytestmark = pytest.mark.topology({"hosts": {"host": {}}})


@pytest.fixture
def nft(topology: Topology) -> Iterator[Nft]:
    with topology.hosts["host"].enter():
        made = Nft()
    yield made
    made.close()


def networks(count: int) -> tuple[FirewallElement, ...]:
    """Elements of as many networks, the modes in turn, with an endpoint each, of the host, and of a cluster."""
    modes = list(GatewayMode)
    found = list(host_elements(routing_ipv4=True, routing_ipv6=True, bridge_nf_ipv6=False))
    for index in range(count):
        mode = modes[index % len(modes)]
        found += network_elements(
            f"cnm-{index}",
            mode_ipv4=mode,
            mode_ipv6=mode,
            icc=index % 2 == 0,
            masquerade=True,
            host_ipv4="192.0.2.7" if index % 3 == 0 else "",
            host_ipv6="2001:db8::7" if index % 3 == 0 else "",
            trusted=("eth0",),
        )
        found += attach_elements(
            f"cv{index}",
            mac=f"02:42:0a:00:{index:02x}:02",
            ipv4=f"10.0.{index}.2",
            ipv6=f"fd00:{index + 1:x}::2",
            guard=True,
            mode_ipv4=mode,
            mode_ipv6=mode,
        )
    nodes = [f"192.0.2.{index}" for index in range(count)] + [
        f"2001:db8::{index:x}" for index in range(count)
    ]
    found += overlay_elements(range(100, 100 + count), range(100, 100 + count, 3), nodes, 4789)
    return tuple(found)


def listed(host: Host, kind: str) -> list[dict[str, Any]]:
    items = json.loads(host.run(["nft", "-j", "list", "ruleset"]).stdout)["nftables"]
    return [item[kind] for item in items if kind in item]


def test_it_loads_into_an_empty_namespace_with_exactly_its_elements(nft: Nft) -> None:
    wanted = networks(10)

    nft.start(ruleset.start_text(wanted))

    assert nft.observe(sets.ELEMENT_SETS) == frozenset(wanted)


def test_loading_again_leaves_nothing_of_before(nft: Nft, topology: Topology) -> None:
    host = topology.hosts["host"]
    nft.start(ruleset.start_text(networks(10)))
    before = len(listed(host, "rule"))

    nft.start(ruleset.start_text(networks(3)))

    assert nft.observe(sets.ELEMENT_SETS) == frozenset(networks(3))
    assert len(listed(host, "rule")) == before


def test_rules_and_chains_are_as_many_with_a_hundred_networks_as_with_none(
    nft: Nft, topology: Topology
) -> None:
    host = topology.hosts["host"]
    nft.start(ruleset.start_text(()))
    before = len(listed(host, "rule")), len(listed(host, "chain"))

    nft.start(ruleset.start_text(networks(100)))

    assert (len(listed(host, "rule")), len(listed(host, "chain"))) == before


def test_the_admin_chain_keeps_its_rules_and_what_they_use(nft: Nft, topology: Topology) -> None:
    host = topology.hosts["host"]
    nft.start(ruleset.start_text(networks(2)))
    host.run(["nft", "add chain inet cnm mine; add rule inet cnm mine tcp dport 22 drop"])
    host.run(["nft", "add rule inet cnm admin ip saddr 203.0.113.9 jump mine"])

    nft.start(ruleset.start_text(networks(2)))

    kept = host.run(["nft", "list", "chain", "inet", "cnm", "admin"]).stdout
    assert "ip saddr 203.0.113.9 jump mine" in kept
    assert "tcp dport 22 drop" in host.run(["nft", "list", "chain", "inet", "cnm", "mine"]).stdout
    assert nft.broken_tables() == ()


def test_a_refused_script_changes_nothing(nft: Nft) -> None:
    nft.start(ruleset.start_text(networks(3)))
    faulty = ruleset.start_text(networks(1)) + "add element inet cnm to { ipv4 . cnm-9 : goto nowhere }\n"

    with pytest.raises(Exception, match="nftables refused a change: could not process rule: no such file"):
        nft.start(faulty)

    assert nft.observe(sets.ELEMENT_SETS) == frozenset(networks(3))
    assert nft.broken_tables() == ()


def test_a_reload_is_never_seen_half_done(nft: Nft, topology: Topology) -> None:
    text = ruleset.start_text(networks(20))
    nft.start(text)
    with topology.hosts["host"].enter():
        observer = Nft()

    with ThreadPoolExecutor(1) as pool:
        reloads = pool.submit(lambda: [nft.start(text) for _ in range(30)])
        counts = []
        while not reloads.done():
            counts.append(len(json.loads(observer.run("list chain inet cnm forward"))["nftables"]))
        reloads.result()
    observer.close()

    assert len(counts) > 5
    assert set(counts) == {counts[0]}


@pytest.mark.parametrize(
    ("family", "damage"),
    [
        ("inet", "flush chain inet cnm forward"),
        ("inet", "insert rule inet cnm forward accept"),
        ("inet", "flush chain inet cnm to_nat"),
        ("inet", "flush ruleset"),
        ("bridge", "delete table bridge cnm"),
        ("bridge", "add rule bridge cnm guard accept"),
    ],
)
def test_damage_to_the_rules_is_found_and_a_start_mends_it(
    nft: Nft, topology: Topology, family: str, damage: str
) -> None:
    text = ruleset.start_text(networks(2))
    nft.start(text)
    topology.hosts["host"].run(["nft", damage])

    assert (family, "cnm") in nft.broken_tables()
    nft.start(text)
    assert nft.broken_tables() == ()


def test_counters_and_elements_are_no_damage(nft: Nft, topology: Topology) -> None:
    nft.start(ruleset.start_text(networks(2)))
    host = topology.hosts["host"]

    host.ping("127.0.0.1")
    nft.apply(networks(5), ())

    assert nft.broken_tables() == ()


def test_tables_that_were_never_started_are_broken(nft: Nft) -> None:
    assert nft.broken_tables() == (("inet", "cnm"), ("bridge", "cnm"))


_FORMER = """
table inet cnm {
    chain redirects {
        type filter hook output priority filter - 1; policy accept;
        icmp type redirect drop
    }
    chain overlay_nodes {
        counter drop
    }
    chain overlay_in {
        type filter hook input priority filter - 1; policy accept;
        udp dport 4789 goto overlay_nodes
    }
}
"""


def test_chains_of_an_earlier_version_go(topology: Topology) -> None:
    host = topology.hosts["host"]
    host.run(["nft", "-f", "-"], input=_FORMER)

    host.run(["nft", "-f", "-"], input=ruleset.start_text(()))

    listed = host.run(["nft", "list", "chains", "inet"]).stdout
    assert "chain leaving {" in listed
    assert not [name for name in ("redirects", "overlay_in", "overlay_nodes") if f"chain {name} {{" in listed]
