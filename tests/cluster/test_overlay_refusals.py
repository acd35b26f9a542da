"""What is refused about overlay networks on real hosts: one clear line each, and nothing half-made anywhere.

Tokens, names and addresses of nodes are test_membership_joining's, certificates that grow old test_membership_faults'.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cnm.cluster import keys
from cnm.drivers.overlay_options import VXLAN_ID
from tests.cluster.boxes import Box, create, records, subnets, takes_part, values
from tests.cluster.hosts import NEEDS_ETCD, ClusterHost, ClusterLab, eventually, joined_lab

pytestmark = [pytest.mark.root, NEEDS_ETCD]


@pytest.fixture(scope="module")
def lab() -> Iterator[ClusterLab]:
    """h1 is a member, h2 and h3 are clients; h4 is another cluster, h5 in none."""
    with joined_lab(members=1, clients=2, outside=2) as made:
        made.h[4].init()
        yield made


@pytest.fixture(scope="module")
def hosts(lab: ClusterLab) -> list[ClusterHost]:
    return [lab.h[number] for number in (1, 2, 3)]


def everything(lab: ClusterLab) -> dict[str, Any]:
    """What the cluster and its hosts have of networks and endpoints."""
    shared = (keys.NETWORKS, keys.NETWORK_NAMES, keys.VNIS, keys.POOLS, keys.ADDRESSES, keys.ENDPOINTS)
    found: dict[str, Any] = {prefix: values(lab.h[1], prefix) for prefix in (*shared, keys.PARTICIPANTS)}
    for number in (1, 2, 3):
        host = lab.h[number]
        found[host.name] = (
            sorted(network["Id"] for network in host.cnmd.ask("GET", "/networks")),
            sorted(endpoint["Id"] for endpoint in host.cnmd.ask("GET", "/cnm/v1/endpoints")),
            sorted(path.name for path in (host.cnmd.place / "run" / "netns").iterdir()),
        )
    return found


@contextmanager
def nothing_changes(lab: ClusterLab) -> Iterator[None]:
    before = everything(lab)
    yield
    assert everything(lab) == before


def refused(host: ClusterHost, *arguments: str) -> str:
    """The one line that `cnmctl …` fails with."""
    done = host.cnmd.cnmctl(*arguments)
    assert done.returncode == 1, done.stdout + done.stderr
    (line,) = done.stderr.splitlines()
    return line.removeprefix("Error response from daemon: ")


def overlay(host: ClusterHost, name: str, *flags: str) -> str:
    return refused(host, "network", "create", "-d", "overlay", *flags, name)


# Networks


def test_a_host_in_no_cluster_has_no_overlay_networks(lab: ClusterLab) -> None:
    assert overlay(lab.h[5], "web") == (
        'This node is in no cluster. Use "cnmctl cluster init" or "cnmctl cluster join" to connect it to one, and '
        "try again."
    )
    assert [each["Driver"] for each in lab.h[5].cnmd.ask("GET", "/networks")].count("overlay") == 0


def test_what_another_network_has_is_refused_on_every_host(lab: ClusterLab, hosts: list[ClusterHost]) -> None:
    create(hosts, "first", Options={VXLAN_ID: "77"}, IPAM=subnets("10.77.0.0/24"))

    with nothing_changes(lab):
        assert overlay(hosts[1], "first") == "network with name first already exists"
        said = overlay(hosts[1], "second", "-o", f"{VXLAN_ID}=77")
        assert said == "VNI 77 is network first's already: choose another one"
        assert "10.77.0.0/16" in overlay(hosts[2], "second", "--subnet", "10.77.0.0/16")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["-o", f"{VXLAN_ID}=0"], "one number from 1 to 16777215"),
        (["-o", f"{VXLAN_ID}=4095"], "choose another one"),
        (["-o", "com.docker.network.driver.mtu=1451"], "the hosts' own 1500 bytes leave 1450"),
        (["-o", "cnm.multicast=maybe"], "cnm.multicast"),
        (["-o", "nothing=1"], "nothing"),
        (["--subnet", "192.0.2.0/24"], "192.0.2."),
        (["--subnet", "192.0.0.0/16"], "192.0.2."),
        (["--subnet", "224.0.0.0/24"], "224.0.0.0/24"),
        (["--subnet", "10.78.0.0/33"], "10.78.0.0/33"),
    ],
)
def test_a_network_that_cannot_be_is_refused(
    lab: ClusterLab, hosts: list[ClusterHost], flags: list[str], said: str
) -> None:
    with nothing_changes(lab):
        assert said in overlay(hosts[1], "wrong", *flags)


def test_a_subnet_that_another_host_is_on_is_told_there(lab: ClusterLab, hosts: list[ClusterHost]) -> None:
    """Whoever makes it cannot know; who is on it says what it cannot reach now."""
    hosts[2].net.run(["ip", "link", "add", "lan", "type", "veth", "peer", "name", "wire"])
    hosts[2].net.run(["ip", "address", "add", "10.79.0.1/24", "dev", "lan"])
    hosts[2].net.run(["ip", "link", "set", "lan", "up"])

    create(hosts, "over", IPAM=subnets("10.79.0.0/16"))

    assert any(
        line.startswith("WARNING: subnet 10.79.0.0/16 of network over overlaps with 10.79.0.0/24")
        for line in hosts[2].cnmd.cnmctl("status").stderr.splitlines()
    )
    with nothing_changes(lab):
        assert "10.79.0.0/24" in overlay(
            hosts[2], "here", "--subnet", "10.79.0.0/17", "--ip-range", "10.79.0.0/25"
        )
    hosts[2].net.run(["ip", "link", "del", "lan"])


def test_a_vni_that_a_tunnel_of_somebody_else_has_is_named(lab: ClusterLab, hosts: list[ClusterHost]) -> None:
    hosts[1].net.run(
        ["ip", "link", "add", "foreign", "type", "vxlan", "id", "88", "dstport", "4789", "local", "192.0.2.2"]
    )
    ident = create(hosts, "taken", Internal=True, Options={VXLAN_ID: "88"})
    there = Box(hosts[0], "there", "taken")
    hosts[1].cnmd.create_sandbox("here")

    with nothing_changes(lab):
        said = refused(hosts[1], "network", "connect", "taken", "here")
        assert "88" in said
        assert "foreign" in said
    assert not takes_part(hosts[1], ident)
    hosts[1].net.run(["ip", "link", "del", "foreign"])
    assert hosts[1].cnmd.cnmctl("network", "connect", "taken", "here").returncode == 0
    hosts[1].cnmd.ask("DELETE", "/cnm/v1/sandboxes/here?force=1")
    there.remove()


def test_a_network_that_is_used_elsewhere_stays(lab: ClusterLab, hosts: list[ClusterHost]) -> None:
    ident = create(hosts, "used", Internal=True)
    box = Box(hosts[1], "user", "used")

    with nothing_changes(lab):
        said = refused(hosts[0], "network", "rm", "used")
    assert "used" in said
    assert "h2" in said
    assert Box(hosts[2], "later", "used").ping(box.ipv4)
    for each in ("user", "later"):
        host = hosts[1] if each == "user" else hosts[2]
        host.cnmd.ask("DELETE", f"/cnm/v1/sandboxes/{each}?force=1")
    assert hosts[0].cnmd.cnmctl("network", "rm", "used").returncode == 0
    assert ident not in records(hosts[0], keys.NETWORKS)


# Endpoints


def test_an_address_that_somebody_has_is_refused_by_its_holder(
    lab: ClusterLab, hosts: list[ClusterHost]
) -> None:
    create(hosts, "claimed", Internal=True, IPAM=subnets("10.80.0.0/24"))
    Box(hosts[0], "holder", "claimed", IPAMConfig={"IPv4Address": "10.80.0.9"})
    hosts[1].cnmd.create_sandbox("wants")

    with nothing_changes(lab):
        said = refused(hosts[1], "network", "connect", "--ip", "10.80.0.9", "claimed", "wants")
        assert said == "Address already in use: 10.80.0.9 on 10.80.0.0/24 by endpoint holder of host h1"
        outside = refused(hosts[1], "network", "connect", "--ip", "10.81.0.9", "claimed", "wants")
        assert "10.81.0.9" in outside


# The way between the hosts


@contextmanager
def firewall(host: ClusterHost, rule: str) -> Iterator[None]:
    """A table of the host's own that drops what comes and is `rule`."""
    table = "inet local"
    host.net.run(
        ["nft", f"table {table} {{ chain in {{ type filter hook input priority -10; {rule} drop; }}; }}"]
    )
    try:
        yield
    finally:
        host.net.run(["nft", "delete", "table", *table.split()])


def pinged(host: ClusterHost, node: str) -> str:
    return host.cnmctl("ping", node).stdout


def test_a_firewall_that_closes_the_tunnels_port_is_told(hosts: list[ClusterHost]) -> None:
    with firewall(hosts[2], "udp dport 4789"):
        found = pinged(hosts[0], "h3")
        assert "answers at 192.0.2.3 but not over VXLAN: open UDP port 4789 in its firewall" in found
        warnings = hosts[0].cnmd.cnmctl("status").stderr
        assert "WARNING: node h3: answers at 192.0.2.3 but not over VXLAN" in warnings

    assert "open UDP port" not in pinged(hosts[0], "h3")


def test_a_firewall_that_closes_etcds_port_is_told(hosts: list[ClusterHost]) -> None:
    with firewall(hosts[0], "tcp dport 2379"):
        found = pinged(hosts[1], "h1")
        assert "its etcd does not answer at 192.0.2.1, port 2379" in found
        assert "open TCP port 2379 in its firewall" in found
    eventually(lambda: hosts[1].status()["State"] == "ready")


def test_a_firewall_that_closes_the_door_for_hosts_that_join_is_told(lab: ClusterLab) -> None:
    with firewall(lab.h[1], "tcp dport 2378"):
        said = lab.h[5].fails("join", "--name", "h5", "--client", lab.h[1].token(), "192.0.2.1")

    assert said.startswith("cannot reach 192.0.2.1:2378: ")
    assert said.endswith("is it a member of the cluster, and is the port open there?")
    assert not lab.h[5].home.exists()


def test_a_firewall_that_closes_etcd_to_a_host_that_joins_undoes_the_join(lab: ClusterLab) -> None:
    with firewall(lab.h[1], "ip saddr 192.0.2.5 tcp dport 2379"):
        said = lab.h[5].fails("join", "--name", "h5", "--client", lab.h[1].token(), "192.0.2.1")

    assert "192.0.2.1:2379" in said
    assert not lab.h[5].home.exists()
    assert lab.h[5].status()["State"] == "out"
    assert [node["Name"] for node in lab.h[1].status()["Nodes"]] == ["h1", "h2", "h3"]


# Another cluster


def test_a_token_of_this_cluster_opens_no_other(lab: ClusterLab) -> None:
    said = lab.h[5].fails("join", "--name", "h5", "--client", lab.h[1].token(), lab.h[4].address)

    assert said == (
        "192.0.2.4 is in another cluster than the join token: the digest of its certificate is not the token's"
    )


def test_a_certificate_of_another_cluster_is_told_and_worth_nothing(
    lab: ClusterLab, hosts: list[ClusterHost]
) -> None:
    """As after an exchange of disks."""
    node, own = hosts[2], (hosts[2].home / "node.pem").read_text()
    node.cnmd.stop()
    (node.home / "node.pem").write_text((lab.h[4].home / "node.pem").read_text())
    node.start()

    eventually(lambda: "it does not accept our certificate" in " ".join(node.status()["Warnings"]))
    assert node.cnmd.request("POST", "/networks/create", {"Name": "late", "Driver": "overlay"})[0] == 503

    node.cnmd.stop()
    (node.home / "node.pem").write_text(own)
    node.start()
    eventually(lambda: node.status()["State"] == "ready")


def test_an_etcd_of_another_cluster_is_told_and_not_followed(
    lab: ClusterLab, hosts: list[ClusterHost]
) -> None:
    """A host whose record leads to the wrong members."""
    node, record = hosts[2], Path(hosts[2].home / "node.json")
    own = record.read_text()
    node.cnmd.stop()
    record.write_text(own.replace("192.0.2.1:2379", "192.0.2.4:2379"))
    assert record.read_text() != own
    node.start()

    eventually(lambda: "its certificate is not of this cluster" in " ".join(node.status()["Warnings"]))
    assert {network["Name"] for network in node.cnmd.ask("GET", "/networks")} >= {"first", "claimed"}
    assert node.cnmd.request("POST", "/networks/create", {"Name": "late", "Driver": "overlay"})[0] == 503

    node.cnmd.stop()
    record.write_text(own)
    node.start()
    eventually(lambda: node.status()["State"] == "ready")
