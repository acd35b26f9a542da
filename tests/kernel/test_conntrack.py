"""Flows forgotten in the kernel's own table, as conntrack(8) lists it; by each of the ways in which kernels can."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator

import pytest

from cnm.kernel import conntrack
from cnm.kernel.conntrack import Conntrack
from cnm.kernel.contract import PublishedPort
from netns_fixtures import Host, Topology

pytestmark = [
    pytest.mark.topology(
        {
            "hosts": {
                "client": {"uplink": "host"},
                "host": {"forward": True},
                "web": {"uplink": "host"},
                "mail": {"uplink": "host"},
            },
            "links": [
                {
                    "ends": [
                        {
                            "host": name,
                            "interface": "eth0",
                            "addresses": [f"10.0.{index}.2/24", f"fd00:{index}::2/64"],
                        },
                        {
                            "host": "host",
                            "interface": f"to-{name}",
                            "addresses": [f"10.0.{index}.1/24", f"fd00:{index}::1/64"],
                        },
                    ]
                }
                for index, name in enumerate(("client", "web", "mail"), 1)
            ],
        }
    ),
    pytest.mark.skipif(shutil.which("conntrack") is None, reason="needs conntrack(8) to list flows"),
]

ADDRESSES = {"web": ("10.0.2.2", "fd00:2::2"), "mail": ("10.0.3.2", "fd00:3::2")}
FAMILIES = pytest.mark.parametrize("version", [4, 6], ids=["ipv4", "ipv6"])

RULES = """
table inet t {
    chain prerouting {
        type nat hook prerouting priority dstnat
        ip daddr 10.0.1.1 udp dport 8080 dnat ip to 10.0.2.2:80
        ip6 daddr fd00:1::1 udp dport 8080 dnat ip6 to [fd00:2::2]:80
        ip daddr 10.0.1.1 udp dport 8081 dnat ip to 10.0.2.2:81
    }
}
"""


@pytest.fixture(
    params=[(True, 1000), (False, 1000), (False, 0)],
    ids=["filtered deletion", "one listing", "filtered listings"],
)
def tracked(
    request: pytest.FixtureRequest, topology: Topology, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Conntrack]:
    filters_deletions, few_flows = request.param
    monkeypatch.setattr(conntrack, "_FEW_FLOWS", few_flows)
    host = topology.hosts["host"]
    host.run(["nft", RULES])
    for name in ADDRESSES:
        for port in (80, 81):
            topology.hosts[name].serve_udp(port)
            topology.hosts[name].serve_tcp(port)
    with host.enter():
        made = Conntrack()
    monkeypatch.setattr(made, "_filters_deletions", filters_deletions)
    yield made
    made.close()


def flows(host: Host) -> list[str]:
    """Lines of both families, without the time that is left."""
    lines = []
    for family in ("ipv4", "ipv6"):
        lines += host.run(["conntrack", "-L", "-f", family]).stdout.splitlines()
    return [" ".join(line.split()) for line in lines]


def of(host: Host, *words: str) -> list[str]:
    return [line for line in flows(host) if all(f"{word} " in line + " " for word in words)]


@FAMILIES
def test_flows_that_a_container_answers_are_forgotten(
    tracked: Conntrack, topology: Topology, version: int
) -> None:
    client, host = topology.hosts["client"], topology.hosts["host"]
    web, mail = (ADDRESSES[name][version == 6] for name in ("web", "mail"))
    assert client.send_udp("10.0.1.1" if version == 4 else "fd00:1::1", 8080).answered
    assert client.connect_tcp(web, 80).answered
    assert client.send_udp(mail, 80).answered

    tracked.flush_addresses(ADDRESSES["web"])

    assert of(host, f"src={web}") == of(host, f"dst={web}") == []
    assert len(of(host, f"dst={mail}")) == 1


@FAMILIES
def test_flows_that_a_container_began_are_forgotten(
    tracked: Conntrack, topology: Topology, version: int
) -> None:
    host = topology.hosts["host"]
    web, mail = (ADDRESSES[name][version == 6] for name in ("web", "mail"))
    topology.hosts["web"].send_udp("10.0.1.2" if version == 4 else "fd00:1::2", 53, timeout=0.1)
    assert topology.hosts["mail"].ping("10.0.1.2" if version == 4 else "fd00:1::2")

    tracked.flush_addresses([web])

    assert of(host, f"src={web}") == []
    assert len(of(host, f"src={mail}", f"dst={mail}")) == 1


def test_flows_to_unpublished_ports_are_forgotten_and_others_stay(
    tracked: Conntrack, topology: Topology
) -> None:
    client, host = topology.hosts["client"], topology.hosts["host"]
    assert client.send_udp("10.0.1.1", 8080).answered
    assert client.send_udp("10.0.1.1", 8081).answered
    assert client.connect_tcp("10.0.2.2", 80).answered

    tracked.flush_ports("10.0.2.2", [PublishedPort("udp", 80, 8080, "")])

    assert of(host, "udp", "dport=8080") == []
    assert len(of(host, "udp", "dport=8081")) == 1
    assert len(of(host, "tcp", "dport=80")) == 1


@FAMILIES
@pytest.mark.parametrize("ports", [[5353], [5353, 5354, 5355, 5356]], ids=["one port", "many ports"])
def test_udp_to_a_port_that_is_now_published_starts_anew(
    tracked: Conntrack, topology: Topology, version: int, ports: list[int]
) -> None:
    client, host = topology.hosts["client"], topology.hosts["host"]
    own = "10.0.1.1" if version == 4 else "fd00:1::1"
    client.send_udp(own, 5353, timeout=0.1)
    client.send_udp(own, 6000, timeout=0.1)
    client.send_udp(ADDRESSES["web"][version == 6], 5353, timeout=0.1)
    host.send_udp(ADDRESSES["mail"][version == 6], 5353, timeout=0.1)
    assert client.send_udp("10.0.1.1", 8080).answered

    with host.enter():
        tracked.flush_udp([*ports, 8080])

    assert of(host, f"dst={own}", "dport=5353") == []
    assert len(of(host, f"dst={own}", "dport=6000")) == 1
    assert len(of(host, "dport=5353")) == 2, "flows through the host and from it are none of ours"
    assert len(of(host, "dport=8080")) == 1, "a flow that is translated has found its way"


def test_hundreds_of_flows_are_forgotten_at_once(tracked: Conntrack, topology: Topology) -> None:
    client, host = topology.hosts["client"], topology.hosts["host"]
    with client.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for port in range(20000, 20600):
            sender.sendto(b"x", ("10.0.2.2", port))
    assert len(of(host, "dst=10.0.2.2")) >= 600

    tracked.flush_addresses(["10.0.2.2"])

    assert of(host, "dst=10.0.2.2") == []


def test_nothing_tracked_is_nothing_to_forget(tracked: Conntrack, topology: Topology) -> None:
    topology.hosts["host"].run(["conntrack", "-F"])

    tracked.flush_addresses(["10.0.2.2", "fd00:2::2"])
    tracked.flush_udp([53])

    assert flows(topology.hosts["host"]) == []
