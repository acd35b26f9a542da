"""A name server's sockets inside a namespace: port 53 of its address leads there, over UDP and TCP, and back."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import pytest

from cnm.errors import NotFound
from cnm.kernel import name_sockets
from cnm.kernel.name_sockets import ADDRESS, PORT, NameSockets
from cnm.kernel.namespaces import Namespaces
from netns_fixtures import Host, Topology

pytestmark = pytest.mark.topology({"hosts": {"host": {}, "box": {}, "other": {}}})

QUIET = 0.2


@pytest.fixture
def namespaces(topology: Topology) -> Iterator[Namespaces]:
    """Whoever was inside one is in the host's again, so the test is there from the start."""
    with topology.host.enter():
        made = Namespaces()
        yield made
        made.close()


@pytest.fixture
def box(topology: Topology) -> Host:
    return topology.box


@pytest.fixture
def sockets(namespaces: Namespaces, box: Host) -> Iterator[NameSockets]:
    made = name_sockets.open_sockets(namespaces, str(box.path))
    yield made
    made.close()


def asking(box: Host, seconds: float = 2.0) -> socket.socket:
    made = box.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.settimeout(seconds)
    return made


def test_a_datagram_to_port_53_is_answered_from_port_53(box: Host, sockets: NameSockets) -> None:
    with asking(box) as client:
        client.sendto(b"query", (ADDRESS, PORT))
        query, sender = sockets.udp.recvfrom(100)
        sockets.udp.sendto(query.upper(), sender)

        assert client.recvfrom(100) == (b"QUERY", (ADDRESS, PORT))


def test_a_connected_client_takes_the_answer_for_its_server_s(box: Host, sockets: NameSockets) -> None:
    with asking(box) as client:
        client.connect((ADDRESS, PORT))
        client.send(b"query")
        query, sender = sockets.udp.recvfrom(100)
        sockets.udp.sendto(query, sender)

        assert client.recv(100) == b"query"


def test_a_connection_to_port_53_carries_much_both_ways(box: Host, sockets: NameSockets) -> None:
    with box.socket() as client:
        client.settimeout(5)
        client.connect((ADDRESS, PORT))
        server, _peer = sockets.tcp.accept()
        with server:
            client.sendall(b"q" * 100)
            assert server.recv(1000) == b"q" * 100
            server.sendall(b"a" * 60_000)
            received = b""
            while len(received) < 60_000:
                received += client.recv(65536)

        assert client.getpeername() == (ADDRESS, PORT)


def test_nothing_of_it_is_tracked(box: Host, sockets: NameSockets) -> None:
    with asking(box) as client:
        client.sendto(b"query", (ADDRESS, PORT))
        sockets.udp.recvfrom(100)

    assert ADDRESS not in box.run(["conntrack", "-L"]).stdout


def test_nft_reads_the_table_as_it_is_meant(box: Host, sockets: NameSockets) -> None:
    udp, tcp = sockets.ports
    listing = box.run(["nft", "list", "table", "ip", "cnm-dns"]).stdout

    assert [line.strip() for line in listing.splitlines()[2:-2]] == [
        "type filter hook output priority raw; policy accept;",
        'oif != "lo" accept',
        f"ip daddr {ADDRESS} udp dport 53 notrack udp dport set {udp}",
        f"ip saddr {ADDRESS} udp sport {udp} notrack udp sport set 53",
        f"ip daddr {ADDRESS} tcp dport 53 notrack tcp dport set {tcp}",
        f"ip saddr {ADDRESS} tcp sport {tcp} notrack tcp sport set 53",
    ]


def test_where_it_leads_can_be_read_back(namespaces: Namespaces, box: Host, sockets: NameSockets) -> None:
    assert name_sockets.led_to(namespaces, str(box.path)) == sockets.ports


@pytest.mark.parametrize(
    "damage",
    [
        "nft flush ruleset",
        "nft flush chain ip cnm-dns output",
        "nft add rule ip cnm-dns output counter",
        "nft insert rule ip cnm-dns output oif lo accept",
        "nft replace rule ip cnm-dns output handle 2 oif lo accept",
        "nft insert rule ip cnm-dns output ip daddr 127.0.0.11 udp dport 53 notrack udp dport set 1",
    ],
)
def test_damage_shows_and_is_mended(
    namespaces: Namespaces, box: Host, sockets: NameSockets, damage: str
) -> None:
    box.run(damage.split())
    assert name_sockets.led_to(namespaces, str(box.path)) is None

    name_sockets.lead(namespaces, str(box.path), sockets.ports)

    assert name_sockets.led_to(namespaces, str(box.path)) == sockets.ports


def test_it_can_lead_nowhere_again(namespaces: Namespaces, box: Host, sockets: NameSockets) -> None:
    for _ in range(2):
        name_sockets.mislead(namespaces, str(box.path))

    assert name_sockets.led_to(namespaces, str(box.path)) is None
    tables = json.loads(box.run(["nft", "-j", "list", "tables"]).stdout)["nftables"]
    assert [entry for entry in tables if "table" in entry] == []


def test_tables_of_the_sandbox_s_own_are_left_alone(namespaces: Namespaces, box: Host) -> None:
    box.run(["nft", "add", "table", "ip", "theirs"])
    name_sockets.open_sockets(namespaces, str(box.path)).close()
    name_sockets.mislead(namespaces, str(box.path))

    assert "theirs" in box.run(["nft", "list", "tables"]).stdout


def test_a_server_of_the_sandbox_s_own_can_have_port_53(box: Host, sockets: NameSockets) -> None:
    with box.socket(socket.AF_INET, socket.SOCK_DGRAM) as own, asking(box) as client:
        own.bind(("0.0.0.0", PORT))
        own.settimeout(2)
        client.sendto(b"mine", ("127.0.0.1", PORT))
        assert own.recv(100) == b"mine"
        client.sendto(b"yours", (ADDRESS, PORT))
        assert sockets.udp.recv(100) == b"yours"


def test_sockets_open_where_the_loopback_is_down_and_leave_it_so(namespaces: Namespaces, box: Host) -> None:
    box.run(["ip", "link", "set", "lo", "down"])

    name_sockets.open_sockets(namespaces, str(box.path)).close()

    assert "<LOOPBACK> " in box.run(["ip", "link", "show", "lo"]).stdout


def test_a_socket_knows_its_namespace(
    namespaces: Namespaces, topology: Topology, sockets: NameSockets
) -> None:
    assert name_sockets.is_in(namespaces, str(topology.box.path), sockets.udp)
    assert not name_sockets.is_in(namespaces, str(topology.other.path), sockets.udp)
    assert not name_sockets.is_in(namespaces, "/nowhere", sockets.udp)


def test_without_a_namespace_there_is_nothing_to_open(namespaces: Namespaces) -> None:
    with pytest.raises(NotFound, match="/nowhere cannot be opened"):
        name_sockets.open_sockets(namespaces, "/nowhere")


def test_sockets_to_ask_from_inside_are_inside(namespaces: Namespaces, box: Host) -> None:
    wanted = [(socket.AF_INET, socket.SOCK_DGRAM), (socket.AF_INET6, socket.SOCK_STREAM)]

    made = name_sockets.open_asking(namespaces, str(box.path), wanted)

    assert [(each.family, each.type) for each in made] == wanted
    assert all(name_sockets.is_in(namespaces, str(box.path), each) for each in made)
    for each in made:
        each.close()
