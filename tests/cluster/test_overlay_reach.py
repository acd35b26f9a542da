"""Who reaches whom over overlay networks: eight hosts of one cluster, two of one over IPv6, and somebody outside."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations

import pytest

from netns_fixtures import Host, Status
from tests.cluster.boxes import Box, create, subnets
from tests.cluster.hosts import NEEDS_ETCD, ClusterHost, ClusterLab, eventually, joined_lab, together

pytestmark = [pytest.mark.root, NEEDS_ETCD]

OUTSIDE = "198.51.100.1"
"""Beyond the hosts' gateway."""


@pytest.fixture(scope="module")
def lab() -> Iterator[ClusterLab]:
    """h1 to h3 are members and h4 to h8 clients; h9 and h10 are another cluster, over IPv6."""
    with joined_lab(members=3, clients=5, outside=2) as made:
        made.h[9].init("--advertise", "2001:db8::9")
        token = made.h[9].token()
        made.h[10].says(
            "join", "--name", "h10", "--client", "--advertise", "2001:db8::10", token, "2001:db8::9"
        )
        yield made


@pytest.fixture(scope="module")
def hosts(lab: ClusterLab) -> list[ClusterHost]:
    return [lab.h[number] for number in range(1, 9)]


@pytest.fixture(scope="module")
def gateway(lab: ClusterLab) -> Host:
    """That of all hosts; it knows no way into their sandboxes."""
    switch = lab.topology.hosts["switch"]
    switch.run(["ip", "address", "add", "192.0.2.254/24", "dev", "br0"])
    switch.run(["ip", "address", "add", f"{OUTSIDE}/32", "dev", "lo"])
    return switch


def unreached(boxes: list[Box], family: int) -> list[str]:
    """Pairs of which the second does not answer the first."""

    def silent(pair: tuple[Box, Box]) -> str:
        one, other = pair
        return "" if one.ping(other.address(family)) else f"{one.name} -> {other.name}"

    return [words for words in map(silent, permutations(boxes, 2)) if words]


def test_eight_hosts_reach_each_other_by_address_and_by_name(hosts: list[ClusterHost]) -> None:
    create(hosts, "web", EnableIPv6=True)
    boxes = together(hosts, lambda host: Box(host, f"web-{host.name}", "web"))

    assert unreached(boxes, 4) == []
    assert unreached(boxes, 6) == []
    for family in (4, 6):
        expected = [box.address(family) for box in boxes]
        names = " ".join(box.name for box in boxes)
        ask = f"for name in {names}; do getent ahostsv{family} $name | head -n 1; done"
        for answer in together(boxes, lambda box, ask=ask: box.run("sh", "-c", ask)):
            assert [line.split()[0] for line in answer.stdout.splitlines()] == expected, answer.stderr


def test_a_name_is_forgotten_everywhere_with_its_sandbox(hosts: list[ClusterHost]) -> None:
    create(hosts[:2], "leaving")
    here, there = Box(hosts[0], "stays", "leaving"), Box(hosts[1], "leaves", "leaving", Aliases=["also"])
    assert there.ipv4 in here.run("getent", "hosts", "leaves").stdout
    assert there.ipv4 in here.run("getent", "hosts", "also").stdout

    there.remove()

    eventually(lambda: here.run("getent", "hosts", "leaves").returncode == 2)
    assert here.run("getent", "hosts", "also").returncode == 2
    assert not here.ping(there.ipv4, timeout=0.3)


def test_a_network_of_ipv6_only_needs_nothing_else(hosts: list[ClusterHost]) -> None:
    create(hosts[:2], "six", EnableIPv4=False, EnableIPv6=True)
    boxes = [Box(host, f"six-{host.name}", "six") for host in hosts[:2]]

    assert [box.ipv4 for box in boxes] == ["", ""]
    assert unreached(boxes, 6) == []


def test_subnets_of_one_network_are_on_one_link(hosts: list[ClusterHost]) -> None:
    given = ("10.71.0.0/24", "10.72.0.0/24", "fd71::/64", "fd72::/64")
    create(hosts[:3], "many", EnableIPv6=True, IPAM=subnets(*given))
    wanted = [("10.71.0.5", "fd71::5"), ("10.72.0.6", "fd72::6"), ("10.72.0.7", "fd71::7")]

    boxes = [
        Box(host, f"many-{host.name}", "many", IPAMConfig={"IPv4Address": ipv4, "IPv6Address": ipv6})
        for host, (ipv4, ipv6) in zip(hosts, wanted, strict=False)
    ]

    assert [(box.ipv4, box.ipv6) for box in boxes] == wanted
    assert unreached(boxes, 4) == []
    assert unreached(boxes, 6) == []
    assert "ttl=64" in boxes[0].run("ping", "-c1", "-W2", boxes[1].ipv4).stdout


def test_networks_with_the_same_subnet_stay_apart(hosts: list[ClusterHost]) -> None:
    for name, part in (("left", "10.73.0.0/25"), ("right", "10.73.0.128/25")):
        config = [{"Subnet": "10.73.0.0/24", "IPRange": part}]
        create(hosts[:2], name, Internal=True, IPAM={"Config": config})
    boxes = {
        (name, host.name): Box(host, f"{name}-{host.name}", name)
        for name in ("left", "right")
        for host in hosts[:2]
    }

    for name in ("left", "right"):
        assert unreached([boxes[name, "h1"], boxes[name, "h2"]], 4) == []
    for here, there in (("h1", "h1"), ("h1", "h2"), ("h2", "h1")):
        assert not boxes["left", here].ping(boxes["right", there].ipv4, timeout=0.2)


def test_a_sandbox_gets_out_by_its_host_and_is_published_there(
    hosts: list[ClusterHost], gateway: Host
) -> None:
    create(hosts[:2], "open")
    port = {"ContainerPort": 80, "HostPort": 8080, "Protocol": "tcp"}
    served = Box(hosts[0], "served", "open", Ports=[port])
    asking = Box(hosts[1], "asking", "open")

    with gateway.serve_tcp(443, OUTSIDE):
        assert asking.net.connect_tcp(OUTSIDE, 443, timeout=2).seen[0] == hosts[1].address  # type: ignore[index]
    with served.net.serve_tcp(80, "0.0.0.0", payload=b"published"):
        outcome = gateway.connect_tcp(hosts[0].address, 8080, timeout=2)
        assert outcome.payload == b"published"
        assert outcome.seen == outcome.local
        assert asking.net.connect_tcp(served.ipv4, 80, timeout=2).payload == b"published"
        assert asking.net.connect_tcp(hosts[0].address, 8080, timeout=2).payload == b"published"


def test_an_internal_network_has_no_way_out(hosts: list[ClusterHost], gateway: Host) -> None:
    create(hosts[:2], "inner", Internal=True)
    boxes = [Box(host, f"inner-{host.name}", "inner") for host in hosts[:2]]

    assert unreached(boxes, 4) == []
    with gateway.serve_tcp(444, OUTSIDE):
        for address in (OUTSIDE, "192.0.2.254", hosts[0].address):
            assert boxes[0].net.connect_tcp(address, 444).status is Status.UNREACHABLE
        assert hosts[0].net.connect_tcp(OUTSIDE, 444).answered
    boxes[0].net.run(["ip", "route", "add", "default", "via", boxes[1].ipv4])
    assert not boxes[0].ping(OUTSIDE, timeout=0.3)


def test_a_port_is_not_published_on_an_internal_network(hosts: list[ClusterHost]) -> None:
    create(hosts[:1], "closed", Internal=True)
    hosts[0].cnmd.create_sandbox("closed-box")
    port = {"ContainerPort": 80, "HostPort": 8081, "Protocol": "tcp"}

    answer = hosts[0].cnmd.request(
        "POST",
        "/networks/closed/connect",
        {"Container": "closed-box", "EndpointConfig": {"Ports": [port]}},
    )

    assert answer == (400, {"message": "ports cannot be published on network closed: it is internal"})
    assert hosts[0].cnmd.ask("GET", "/cnm/v1/endpoints?network=closed") == []


def test_an_underlay_of_ipv6_serves_as_well(lab: ClusterLab) -> None:
    pair = [lab.h[9], lab.h[10]]
    create(pair, "over6", EnableIPv6=True)
    boxes = [Box(host, f"over6-{host.name}", "over6") for host in pair]

    with lab.h[9].net.capture("eth0") as underlay:
        assert unreached(boxes, 4) == []
        assert unreached(boxes, 6) == []
        outer = underlay.expect(lambda packet: "UDP" in packet and packet["UDP"].dport == 4789)

    assert {outer["IPv6"].src, outer["IPv6"].dst} == {"2001:db8::9", "2001:db8::10"}
    full = ["ping", "-c1", "-W2", "-M", "do", "-s"]
    assert boxes[0].net.run([*full, str(1430 - 28), boxes[1].ipv4], check=False).returncode == 0
    assert boxes[0].net.run([*full, str(1431 - 28), boxes[1].ipv4], check=False).returncode != 0
