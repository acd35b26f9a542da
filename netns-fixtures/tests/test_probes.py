"""Probes and servers: what became of a packet, and who was seen at the other end."""

from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Callable
from functools import partial

import pytest

from netns_fixtures import Host, KernelRefused, Outcome, Server, Status, Topology, probe_all

needs_nft = pytest.mark.skipif(shutil.which("nft") is None, reason="needs nft to write firewall rules")
BOTH_FAMILIES = pytest.mark.parametrize("address", ["192.0.2.2", "2001:db8::2"])
BOTH_PROTOCOLS = pytest.mark.parametrize("protocol", ["tcp", "udp"])


def probe(host: Host, protocol: str, address: str, port: int, **options: float) -> Outcome:
    send: Callable[..., Outcome] = host.connect_tcp if protocol == "tcp" else host.send_udp
    return send(address, port, **options)


def serve(host: Host, protocol: str, port: int, **options: str) -> Server:
    start: Callable[..., Server] = host.serve_tcp if protocol == "tcp" else host.serve_udp
    return start(port, **options)


@BOTH_FAMILIES
@BOTH_PROTOCOLS
def test_an_answer_tells_who_answered_and_whom_it_saw(pair: Topology, protocol: str, address: str) -> None:
    server = serve(pair.right, protocol, 80)

    outcome = probe(pair.left, protocol, address, 80)

    own = pair.left.address("eth0", version=6 if ":" in address else 4)
    assert (outcome.status, outcome.payload) == (Status.ANSWERED, b"right")
    assert outcome.local is not None
    assert outcome.local[0] == own
    assert (outcome.seen, outcome.served) == (outcome.local, (address, 80))
    peer = server.peers[0]
    assert (peer.address, peer.port, peer.served) == (*outcome.local, (address, 80))


@BOTH_FAMILIES
@BOTH_PROTOCOLS
def test_a_port_without_a_server_refuses(pair: Topology, protocol: str, address: str) -> None:
    assert probe(pair.left, protocol, address, 81).status is Status.REFUSED


@BOTH_PROTOCOLS
def test_a_destination_without_a_route_is_unreachable(pair: Topology, protocol: str) -> None:
    outcome = probe(pair.left, protocol, "198.51.100.1", 80)

    assert outcome.status is Status.UNREACHABLE
    assert outcome.error == "Network is unreachable"


@needs_nft
@BOTH_FAMILIES
@BOTH_PROTOCOLS
@pytest.mark.parametrize(
    ("verdict", "status"),
    [("drop", Status.TIMEOUT), ("reject with icmpx admin-prohibited", Status.UNREACHABLE)],
)
def test_a_firewall_shows_in_the_status(
    pair: Topology, protocol: str, address: str, verdict: str, status: Status
) -> None:
    serve(pair.right, protocol, 80)
    rules = "table inet t { chain c { type filter hook input priority 0; meta l4proto { tcp, udp } %s; }; }"
    pair.right.run(["nft", rules % verdict])

    assert probe(pair.left, protocol, address, 80, timeout=0.3).status is status


@BOTH_PROTOCOLS
@pytest.mark.parametrize("address", ["198.51.100.1", "2001:db8:9::1"])
def test_a_router_without_a_route_makes_it_unreachable(pair: Topology, protocol: str, address: str) -> None:
    pair.right.sysctl("net.ipv4.ip_forward", 1)
    pair.right.sysctl("net.ipv6.conf.all.forwarding", 1)
    pair.left.run(["ip", "route", "add", address, "via", "192.0.2.2" if "." in address else "2001:db8::2"])

    for _ in range(3):
        assert probe(pair.left, protocol, address, 80, timeout=0.9).status is Status.UNREACHABLE
    assert not pair.left.ping(address, timeout=600)


@needs_nft
def test_address_translation_shows_in_what_the_server_saw(pair: Topology) -> None:
    pair.right.serve_tcp(8080)
    pair.right.run(["ip", "route", "add", "203.0.113.9", "via", "192.0.2.1"])
    pair.right.run(
        [
            "nft",
            "table ip t {"
            " chain d { type nat hook prerouting priority -100; tcp dport 80 dnat to 192.0.2.2:8080; };"
            " chain s { type nat hook input priority 100; ip saddr 192.0.2.1 snat to 203.0.113.9; };"
            "}",
        ]
    )

    outcome = pair.left.connect_tcp("192.0.2.2", 80)

    assert outcome.peer == ("192.0.2.2", 80)
    assert outcome.served == ("192.0.2.2", 8080)
    assert outcome.seen is not None
    assert outcome.seen[0] == "203.0.113.9"


def test_a_connection_closed_without_a_word_is_told_from_an_answer(pair: Topology) -> None:
    with pair.right.socket() as listener:
        listener.bind(("192.0.2.2", 80))
        listener.listen()
        thread = threading.Thread(target=lambda: listener.accept()[0].close())
        thread.start()
        outcome = pair.left.connect_tcp("192.0.2.2", 80)
        thread.join()

    assert outcome.status is Status.CLOSED


def test_a_connection_on_which_nothing_is_said_times_out(pair: Topology) -> None:
    with pair.right.socket() as listener:
        listener.bind(("192.0.2.2", 80))
        listener.listen()
        outcome = pair.left.connect_tcp("192.0.2.2", 80, timeout=0.2)

    assert (outcome.status, outcome.error) == (Status.TIMEOUT, "connected, but nothing came")
    assert outcome.peer == ("192.0.2.2", 80)


def test_a_foreign_server_s_words_are_the_payload(pair: Topology) -> None:
    def greet(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(b"you said " + connection.recv(100))

    with pair.right.socket() as listener:
        listener.bind(("192.0.2.2", 80))
        listener.listen()
        thread = threading.Thread(target=greet, args=(listener,))
        thread.start()
        outcome = pair.left.connect_tcp("192.0.2.2", 80, send=b"hi")
        thread.join()

    assert (outcome.status, outcome.payload, outcome.seen) == (Status.ANSWERED, b"you said hi", None)


@BOTH_PROTOCOLS
def test_source_address_and_port_can_be_chosen(pair: Topology, protocol: str) -> None:
    serve(pair.right, protocol, 80)
    pair.left.run(["ip", "address", "add", "192.0.2.77/24", "dev", "eth0"])

    send = pair.left.connect_tcp if protocol == "tcp" else pair.left.send_udp
    outcome = send("192.0.2.2", 80, source="192.0.2.77", source_port=4000)

    assert outcome.seen == ("192.0.2.77", 4000)


@BOTH_PROTOCOLS
def test_a_source_that_the_host_does_not_have_is_a_mistake(pair: Topology, protocol: str) -> None:
    send = pair.left.connect_tcp if protocol == "tcp" else pair.left.send_udp

    with pytest.raises(KernelRefused, match=r"source 192\.0\.2\.78 port 0 cannot be used"):
        send("192.0.2.2", 80, source="192.0.2.78")


@pytest.mark.parametrize("address", ["192.0.2.66", "2001:db8::66"])
def test_a_datagram_is_answered_from_the_address_it_was_sent_to(pair: Topology, address: str) -> None:
    pair.right.run(["ip", "address", "add", address, "dev", "lo"])
    pair.left.run(["ip", "route", "add", address, "via", "192.0.2.2" if "." in address else "2001:db8::2"])
    for where in ("::", "0.0.0.0") if "." in address else ("::",):
        with pair.right.serve_udp(53, where):
            outcome = pair.left.send_udp(address, 53)

        assert (outcome.status, outcome.served) == (Status.ANSWERED, (address, 53))


def test_a_link_local_address_is_reached_by_its_zone(pair: Topology) -> None:
    pair.right.serve_udp(53)
    pair.right.serve_tcp(80)
    address = next(text for text in pair.right.addresses("eth0") if text.startswith("fe80")).split("/")[0]

    assert pair.left.send_udp(f"{address}%eth0", 53).served == (address, 53)
    assert pair.left.connect_tcp(f"{address}%eth0", 80).served == (address, 80)
    assert pair.left.ping(f"{address}%eth0")


def test_an_echo_server_keeps_the_connection(pair: Topology) -> None:
    pair.right.serve_tcp(80, echo=True)

    with pair.left.socket() as client:
        client.settimeout(2)
        client.connect(("192.0.2.2", 80))
        greeting = client.recv(1000)
        client.sendall(b"again")
        echoed = client.recv(1000)

    assert (greeting[:6], echoed) == (b"right ", b"again")


def test_a_probe_of_an_echo_server_does_not_wait_for_its_end(pair: Topology) -> None:
    pair.right.serve_tcp(80, echo=True, payload=b"here")

    outcome = pair.left.connect_tcp("192.0.2.2", 80, timeout=600)

    assert outcome.payload == b"here"


def test_a_server_waits_for_a_client_and_shows_its_data(pair: Topology) -> None:
    server = pair.right.serve_udp()
    pair.left.send_udp("192.0.2.2", server.port, b"one")
    pair.left.send_udp("192.0.2.2", server.port, b"two")

    assert server.wait_for_peer(lambda peer: peer.data == b"two").address == "192.0.2.1"
    assert [peer.data for peer in server.peers] == [b"one", b"two"]
    with pytest.raises(AssertionError, match="no such client at port"):
        server.wait_for_peer(lambda peer: peer.data == b"three", timeout=0.05)


@BOTH_PROTOCOLS
def test_a_closed_server_refuses_and_its_port_is_free(pair: Topology, protocol: str) -> None:
    server = serve(pair.right, protocol, 80)
    assert probe(pair.left, protocol, "192.0.2.2", 80).answered

    server.close()

    assert probe(pair.left, protocol, "192.0.2.2", 80).status is Status.REFUSED
    serve(pair.right, protocol, 80)
    assert probe(pair.left, protocol, "192.0.2.2", 80).answered


@BOTH_PROTOCOLS
def test_a_taken_port_is_named(pair: Topology, protocol: str) -> None:
    serve(pair.right, protocol, 80)

    with pytest.raises(KernelRefused, match="cannot serve on :: port 80: Address already in use"):
        serve(pair.right, protocol, 80)


@BOTH_FAMILIES
def test_a_host_that_is_there_answers_ping(pair: Topology, address: str) -> None:
    assert pair.left.ping(address)
    assert pair.left.ping(address, size=5000)


@BOTH_FAMILIES
def test_ping_can_use_another_source(pair: Topology, address: str) -> None:
    own = pair.left.address("eth0", version=6 if ":" in address else 4)

    assert pair.left.ping(address, source=own)
    with pytest.raises(KernelRefused, match="cannot be used"):
        pair.left.ping(address, source=address)


@pytest.mark.parametrize("address", ["192.0.2.9", "198.51.100.1", "2001:db8::9", "2001:db8:9::1"])
def test_a_host_that_is_not_there_does_not_answer_ping(pair: Topology, address: str) -> None:
    assert not pair.left.ping(address, timeout=0.2)


@needs_nft
@BOTH_FAMILIES
def test_a_rejected_ping_is_no_answer(pair: Topology, address: str) -> None:
    chain = (
        "type filter hook input priority 0; icmp type echo-request reject; icmpv6 type echo-request reject;"
    )
    pair.right.run(["nft", f"table inet t {{ chain c {{ {chain} }}; }}"])

    assert not pair.left.ping(address, timeout=600)


def test_simultaneous_pings_do_not_take_each_other_s_replies(pair: Topology) -> None:
    addresses = ["192.0.2.2", "192.0.2.9"] * 20

    answers = probe_all([partial(pair.left.ping, address, timeout=0.5) for address in addresses])

    assert answers == [True, False] * 20


def test_many_probes_in_parallel_each_get_their_own_outcome(pair: Topology) -> None:
    for port in range(1000, 1010):
        pair.right.serve_tcp(port, payload=str(port).encode())
        pair.right.serve_udp(port, payload=str(port).encode())
    ports = list(range(1000, 1011)) * 20

    tcp = probe_all([partial(pair.left.connect_tcp, "192.0.2.2", port, timeout=5) for port in ports])
    udp = probe_all([partial(pair.left.send_udp, "2001:db8::2", port, timeout=5) for port in ports])

    for outcomes in (tcp, udp):
        for port, outcome in zip(ports, outcomes, strict=True):
            wanted = (Status.ANSWERED, str(port).encode()) if port < 1010 else (Status.REFUSED, b"")
            assert (outcome.status, outcome.payload) == wanted


def test_a_probe_s_own_error_reaches_the_test(pair: Topology) -> None:
    def broken() -> Outcome:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        probe_all([broken])
