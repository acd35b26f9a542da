"""Encrypted overlay networks over real hosts: who is reached, and what the wire between the hosts sees of it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet

from netns_fixtures.capture import Capture
from tests.cluster.boxes import Box, create
from tests.cluster.hosts import NEEDS_ETCD, NEEDS_WIREGUARD, ClusterLab, eventually, joined_lab

pytestmark = [pytest.mark.root, NEEDS_ETCD, NEEDS_WIREGUARD]

SECRET_VNI, CLEAR_VNI = 77, 78
_VNI = "com.docker.network.driver.overlay.vxlanid_list"
_WIREGUARD_PORTS = {51830, 51831}
_WORD = b"open sesame 1234"


@pytest.fixture(scope="module")
def lab() -> Iterator[ClusterLab]:
    with joined_lab(members=2, clients=1) as made:
        yield made


@pytest.fixture(scope="module")
def secret(lab: ClusterLab) -> dict[int, Box]:
    """A sandbox on each host, in an encrypted network."""
    done = lab.h[1].cnmd.cnmctl(
        "network", "create", "-d", "overlay", "-o", "encrypted", "--opt", f"{_VNI}=77", "web"
    )
    assert done.returncode == 0, done.stderr
    for host in lab.h.values():
        eventually(lambda host=host: host.cnmd.request("GET", "/networks/web")[0] == 200)
    return {number: Box(host, f"box{number}", "web") for number, host in lab.h.items()}


@pytest.fixture(scope="module")
def clear(lab: ClusterLab) -> dict[int, Box]:
    """Beside them two in a network that is not."""
    create(list(lab.h.values()), "open", Options={_VNI: str(CLEAR_VNI), "encrypted": "false"})
    return {number: Box(lab.h[number], f"open{number}", "open") for number in (1, 2)}


def vnis(packets: list[Packet]) -> set[int]:
    return {packet[VXLAN].vni for packet in packets if packet.haslayer(VXLAN)}


def has_word(packet: Packet) -> bool:
    return _WORD in bytes(packet)


def test_sandboxes_on_three_hosts_ping_each_other_by_address_and_by_name(secret: dict[int, Box]) -> None:
    for one, other in permutations(secret.values(), 2):
        assert one.pings(other.ipv4), f"{one.name} -> {other.name}\n{one.host.cnmd.log[-3000:]}"
        assert one.pings(other.name)


def test_a_packet_of_full_size_passes_in_one_piece(secret: dict[int, Box]) -> None:
    mtu = 1500 - 80 - 70
    headers = 28

    assert secret[1].pings(secret[2].ipv4, "-M", "do", "-s", str(mtu - headers))
    assert secret[1].run("cat", "/sys/class/net/eth0/mtu").stdout.strip() == str(mtu)


def test_the_wire_sees_wireguard_and_no_word_of_what_is_said(
    secret: dict[int, Box], clear: dict[int, Box]
) -> None:
    with wire(secret[1]) as capture:
        assert secret[1].pings(secret[2].ipv4, "-p", _WORD.hex())
        assert clear[1].pings(clear[2].ipv4, "-p", _WORD.hex())  # it is looked for in the right place
        seen = capture.packets

    said = [packet for packet in seen if has_word(packet)]
    assert vnis(said) == {CLEAR_VNI}
    assert SECRET_VNI not in vnis(seen)
    assert [
        p for p in seen if p.haslayer(UDP) and p[UDP].dport in _WIREGUARD_PORTS and p[IP].dst == "192.0.2.2"
    ]


def wire(one: Box) -> Capture:
    return one.host.net.capture("eth0")


@pytest.mark.parametrize("vni", [SECRET_VNI, CLEAR_VNI])
def test_cleartext_of_an_encrypted_network_does_not_come_in(
    secret: dict[int, Box], clear: dict[int, Box], vni: int
) -> None:
    """From a node's own address, as somebody on the wire would forge it; a plain network takes the same frame."""
    one, other = (secret[1], secret[2]) if vni == SECRET_VNI else (clear[1], clear[2])
    neighbour = one.host.net.run(["ip", "-br", "link", "show", "eth0"]).stdout.split()[2]
    outer = Ether(dst=neighbour) / IP(src="192.0.2.2", dst="192.0.2.1") / UDP(sport=5555, dport=4789)
    inner = Ether(src=other.mac, dst=one.mac) / IP(src=other.ipv4, dst=one.ipv4) / UDP(dport=9)

    with one.net.capture("eth0", has_word) as capture:
        other.host.net.send(outer / VXLAN(flags="Instance", vni=vni) / inner / _WORD, "eth0")
        arrived = capture.wait_for(has_word, timeout=1.0)

    assert (arrived is not None) == (vni == CLEAR_VNI)


def test_what_would_leave_in_the_clear_is_dropped(secret: dict[int, Box]) -> None:
    """As when an entry for another host were wrong."""
    with wire(secret[1]) as capture:
        for vni in (SECRET_VNI, 99):
            frame = bytes(VXLAN(flags="Instance", vni=vni) / Ether())
            secret[1].host.net.send_udp("192.0.2.2", 4789, frame, timeout=0.2)
        seen = vnis(capture.packets)

    assert 99 in seen
    assert SECRET_VNI not in seen


def test_nodes_and_tunnels_are_shown(secret: dict[int, Box]) -> None:
    host = secret[1].host
    eventually(
        lambda: {n["Name"]: n["Tunnel"] for n in host.status()["Nodes"]} == {"h1": "", "h2": "up", "h3": "up"}
    )

    shown = host.says("status")

    assert "ENCRYPTS" in shown
    assert [node["Transport"][:2] for node in host.status()["Nodes"]] == ["fd"] * 3
    assert host.cnmd.findings() == []


def test_a_node_that_left_is_no_peer_any_more(lab: ClusterLab, secret: dict[int, Box]) -> None:
    gone = lab.h[3]
    assert gone.wireguard_pids()

    gone.says("leave", "--force")

    eventually(lambda: "h3" not in {n["Name"] for n in lab.h[1].status()["Nodes"] if n["Tunnel"]})
    assert "cw" not in gone.net.run(["ip", "-br", "link"]).stdout
    assert not (gone.home.parent / "cluster.left" / "wireguard.json").exists()
    assert secret[1].pings(secret[2].ipv4)
