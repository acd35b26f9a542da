"""Published ports in their life: at join and on a live endpoint, taken by others, relayed, withdrawn under traffic."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.layers.sctp import SCTP, SCTPChunkInit, SCTPChunkInitAck
from scapy.packet import Packet

from netns_fixtures import Host, Outcome, Status, Topology, match
from tests.packet.lab import (
    DROP_SECONDS,
    FAMILIES,
    HOST,
    LOOPBACK,
    NETWORKS,
    OPEN,
    OUTSIDE,
    PASS_SECONDS,
    TRANSPORTS,
    UNOPENED,
    Lab,
    running_lab,
    world,
)

_free_ports = itertools.count(9000)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, br_netfilter: bool) -> Iterator[Lab]:
    with (
        Topology(world()) as topology,
        running_lab(
            topology,
            tmp_path_factory.mktemp("cnmd"),
            br_netfilter=br_netfilter,
            networks=("nat", "nat-2", "nat-no-icc", "nat-ipv4-only", "nat-ipv6-only", "internal"),
        ) as running,
    ):
        yield running


@pytest.fixture
def free_port() -> int:
    """A host port that no other test publishes."""
    return next(_free_ports)


def publish(lab: Lab, box: str, *ports: dict[str, Any]) -> tuple[int, Any]:
    ident = lab.endpoints[box]["Id"]
    return lab.daemon.request("POST", f"/cnm/v1/endpoints/{ident}/ports", {"Ports": list(ports)})


def unpublish(lab: Lab, box: str, *ports: dict[str, Any]) -> None:
    ident = lab.endpoints[box]["Id"]
    lab.daemon.ask("DELETE", f"/cnm/v1/endpoints/{ident}/ports", {"Ports": list(ports)})


def port(host_port: int, protocol: str = "tcp", **keys: Any) -> dict[str, Any]:
    return {"Protocol": protocol, "ContainerPort": OPEN, "HostPort": host_port, **keys}


def ask(
    client: Host, protocol: str, address: str, host_port: int, seconds: float = PASS_SECONDS, **more: Any
) -> Outcome:
    question = client.connect_tcp if protocol == "tcp" else client.send_udp
    return question(address, host_port, timeout=seconds, **more)


# Publishing


@TRANSPORTS
@FAMILIES
def test_a_port_is_published_and_withdrawn_on_a_live_endpoint(
    lab: Lab, version: int, protocol: str, free_port: int
) -> None:
    assert not ask(lab.outside, protocol, HOST[version], free_port, DROP_SECONDS).answered

    status, _ = publish(lab, "nat-b", port(free_port, protocol))
    during = ask(lab.outside, protocol, HOST[version], free_port)
    unpublish(lab, "nat-b", port(free_port, protocol))
    after = ask(lab.outside, protocol, HOST[version], free_port, DROP_SECONDS)

    assert status == 200
    assert (during.payload, during.seen) == (b"nat-b", during.local)
    assert not after.answered


@TRANSPORTS
@FAMILIES
def test_a_range_of_ports_leads_each_to_its_own(lab: Lab, version: int, protocol: str) -> None:
    first = next(_free_ports)
    next(_free_ports)
    wanted = {"Protocol": protocol, "ContainerPort": OPEN, "ContainerPortEnd": UNOPENED}
    wanted |= {"HostPort": first, "HostPortEnd": first + 1}

    publish(lab, "nat-b", wanted)
    outcomes = [ask(lab.outside, protocol, HOST[version], first + offset) for offset in (0, 1)]
    unpublish(lab, "nat-b", wanted)

    address = lab.address("nat", "b", version)
    assert [outcome.served for outcome in outcomes] == [(address, OPEN), (address, UNOPENED)]


def test_any_free_port_is_found_and_works(lab: Lab) -> None:
    _, answer = publish(lab, "nat-b", port(0))
    (given,) = answer["Ports"]

    outcome = ask(lab.outside, "tcp", HOST[4], given["HostPort"])
    unpublish(lab, "nat-b", port(given["HostPort"]))

    assert outcome.payload == b"nat-b"


@FAMILIES
def test_loopback_ports_of_two_networks_stay_apart(lab: Lab, version: int) -> None:
    reached = {
        name: ask(lab.host, "tcp", LOOPBACK[version], NETWORKS[name].loopback_port).payload.decode()
        for name in ("nat", "nat-2", "nat-no-icc")
    }

    assert reached == {"nat": "nat-a", "nat-2": "nat-2-a", "nat-no-icc": "nat-no-icc-a"}


@TRANSPORTS
@FAMILIES
def test_ports_work_on_after_a_repair(lab: Lab, version: int, protocol: str) -> None:
    for _ in range(2):
        lab.daemon.ask("POST", "/cnm/v1/repair")

        for address in (LOOPBACK[version], HOST[version]):
            assert ask(lab.host, protocol, address, NETWORKS["nat"].any_port).payload == b"nat-a"


# Taken ports


@TRANSPORTS
def test_a_port_of_another_program_is_already_allocated(lab: Lab, protocol: str, free_port: int) -> None:
    serve = lab.host.serve_tcp if protocol == "tcp" else lab.host.serve_udp
    with serve(free_port):
        status, answer = publish(lab, "nat-b", port(free_port, protocol))
        untouched = ask(lab.outside, protocol, HOST[4], free_port)

    assert status == 409
    assert f":{free_port} failed: port is already allocated" in answer["message"]
    assert untouched.payload == b"host"


@TRANSPORTS
def test_a_port_of_another_sandbox_is_already_allocated(lab: Lab, protocol: str) -> None:
    taken = NETWORKS["nat"].any_port

    status, answer = publish(lab, "nat-2-b", port(taken, protocol))

    assert (status, "port is already allocated" in answer["message"]) == (409, True)
    assert ask(lab.outside, protocol, HOST[4], taken).payload == b"nat-a"


@TRANSPORTS
def test_another_program_cannot_take_a_published_port(lab: Lab, protocol: str) -> None:
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM

    with lab.host.socket(socket.AF_INET, kind) as other, pytest.raises(OSError, match="in use"):
        other.bind(("0.0.0.0", NETWORKS["nat"].any_port))


def test_ports_that_cannot_all_be_had_leave_none(lab: Lab, free_port: int) -> None:
    status, _ = publish(lab, "nat-b", port(free_port), port(NETWORKS["nat"].any_port))

    assert status == 409
    assert ask(lab.outside, "tcp", HOST[4], free_port).status is Status.REFUSED
    assert publish(lab, "nat-b", port(free_port))[0] == 200
    unpublish(lab, "nat-b", port(free_port))


# The relay


@TRANSPORTS
@pytest.mark.parametrize(
    ("network", "version"), [("nat-ipv4-only", 6), ("nat-ipv6-only", 4)], ids=["IPv6 to IPv4", "IPv4 to IPv6"]
)
@pytest.mark.parametrize("client", ["outside", "host", "nat-b"])
def test_a_client_of_the_family_that_a_container_lacks_is_relayed(
    lab: Lab, client: str, network: str, version: int, protocol: str
) -> None:
    source = lab.topology.hosts[client]
    addresses = (HOST[version], LOOPBACK[version]) if client == "host" else (HOST[version],)
    for address in addresses:
        outcome = ask(source, protocol, address, NETWORKS[network].any_port)

        assert outcome.payload == f"{network}-a".encode()
        assert outcome.seen is not None
        assert outcome.seen[0] == NETWORKS[network].gateway(10 - version)


@TRANSPORTS
def test_a_relayed_port_says_that_the_source_is_lost(lab: Lab, protocol: str) -> None:
    ident = lab.endpoints["nat-ipv4-only-a"]["Id"]
    ports = lab.daemon.ask("GET", f"/cnm/v1/endpoints/{ident}")["Ports"]

    (mapping,) = (
        p for p in ports if p["HostPort"] == NETWORKS["nat-ipv4-only"].any_port and p["Protocol"] == protocol
    )

    assert mapping["Relay"] is True


# Flows across a change


@FAMILIES
def test_a_udp_flow_from_before_the_publishing_gets_through_after_it(
    lab: Lab, version: int, free_port: int
) -> None:
    source: dict[str, Any] = {"source": OUTSIDE[version], "source_port": free_port}
    before = ask(lab.outside, "udp", HOST[version], free_port, DROP_SECONDS, **source)
    publish(lab, "nat-b", port(free_port, "udp"))
    after = ask(lab.outside, "udp", HOST[version], free_port, **source)
    unpublish(lab, "nat-b", port(free_port, "udp"))

    assert before.status is Status.REFUSED
    assert after.payload == b"nat-b"


@FAMILIES
def test_withdrawing_a_port_stops_an_established_udp_flow(lab: Lab, version: int, free_port: int) -> None:
    source: dict[str, Any] = {"source": OUTSIDE[version], "source_port": free_port}
    publish(lab, "nat-b", port(free_port, "udp"))
    during = ask(lab.outside, "udp", HOST[version], free_port, **source)
    unpublish(lab, "nat-b", port(free_port, "udp"))
    after = ask(lab.outside, "udp", HOST[version], free_port, **source)

    assert during.payload == b"nat-b"
    assert after.status is Status.REFUSED


def is_reset(client: socket.socket) -> bool:
    """By the next packet, if not already."""
    try:
        client.sendall(b"still there?")
        client.recv(999)
    except ConnectionResetError:
        return True
    return False


@FAMILIES
def test_withdrawing_a_port_ends_an_established_tcp_connection(
    lab: Lab, version: int, free_port: int
) -> None:
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    publish(lab, "nat-b", {"Protocol": "tcp", "ContainerPort": 82, "HostPort": free_port})
    with (
        lab.box("nat", "b").serve_tcp(82, echo=True),
        lab.outside.socket(family) as client,
    ):
        client.settimeout(PASS_SECONDS)
        client.connect((HOST[version], free_port))
        client.recv(999)
        client.sendall(b"there")
        during = client.recv(999)
        unpublish(lab, "nat-b", {"Protocol": "tcp", "ContainerPort": 82})
        assert is_reset(client)

    assert during == b"there"


@FAMILIES
def test_withdrawing_a_port_leaves_the_other_port_of_the_same_server_alone(
    lab: Lab, version: int, free_port: int
) -> None:
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    kept = next(_free_ports)
    publish(lab, "nat-b", *({**port(p), "ContainerPort": 82} for p in (free_port, kept)))
    with lab.box("nat", "b").serve_tcp(82, echo=True), lab.outside.socket(family) as client:
        client.settimeout(PASS_SECONDS)
        client.connect((HOST[version], kept))
        client.recv(999)
        unpublish(lab, "nat-b", {**port(free_port), "ContainerPort": 82})
        client.sendall(b"still there?")
        answer = client.recv(999)
        unpublish(lab, "nat-b", {**port(kept), "ContainerPort": 82})

    assert answer == b"still there?"


# What belongs to a flow without being of it


@FAMILIES
@pytest.mark.parametrize("client", ["outside", "nat-a", "nat-b", "nat-2-b"])
def test_fragments_reach_a_published_port(lab: Lab, client: str, version: int) -> None:
    source = lab.topology.hosts[client]

    outcome = source.send_udp(HOST[version], NETWORKS["nat"].any_port, bytes(4000), timeout=PASS_SECONDS)

    assert outcome.payload == b"nat-a"


@FAMILIES
@pytest.mark.parametrize(
    ("client", "target"), [("outside", "nat-b"), ("nat-2-b", "nat-b"), ("nat-b", "outside")]
)
def test_the_news_that_nobody_listens_comes_back(
    lab: Lab, client: str, target: str, version: int, free_port: int
) -> None:
    if target != "outside":
        publish(lab, target, {"Protocol": "udp", "ContainerPort": 83, "HostPort": free_port})
    address = OUTSIDE[version] if target == "outside" else HOST[version]

    outcome = ask(lab.topology.hosts[client], "udp", address, free_port)

    assert outcome.status is Status.REFUSED
    if target != "outside":
        unpublish(lab, target, {"Protocol": "udp", "ContainerPort": 83})


# Loopback addresses from elsewhere


@FAMILIES
@pytest.mark.parametrize("sender", ["outside", "nat-b", "internal-b"])
def test_frames_to_or_from_loopback_addresses_reach_no_port(lab: Lab, sender: str, version: int) -> None:
    host = lab.topology.hosts[sender]
    interface = "up1" if sender == "outside" else lab.bridges[sender.removesuffix("-b")]
    header = IP if version == 4 else IPv6
    frame = Ether(dst=lab.host.mac(interface))
    own = host.address("eth0", version)
    victim = lab.address("nat", "a", version)

    with lab.box("nat", "a").capture("eth0") as capture:
        for net, dst in ((NETWORKS["nat"].loopback_port, HOST[version]), (OPEN, victim)):
            host.send(frame / header(src=LOOPBACK[version], dst=dst) / UDP(sport=4000, dport=net), "eth0")
        for transport in (UDP(sport=4000), TCP(sport=4000, flags="S")):
            transport.dport = NETWORKS["nat"].loopback_port
            host.send(frame / header(src=own, dst=LOOPBACK[version]) / transport, "eth0")
        ask(lab.outside, "udp", HOST[version], NETWORKS["nat"].any_port, source_port=4001)
        capture.expect_none(
            match("ip" if version == 4 else "ip6", sport=4000), until=match("udp", sport=4001)
        )


# SCTP, of which the kernel's connection tracking understands the first packets


def sctp(version: int, src: str, dst: str, sport: int, dport: int, chunk: Packet) -> Packet:
    header = IP(src=src, dst=dst, proto=132) if version == 4 else IPv6(src=src, dst=dst, nh=132)
    tag = 7 if isinstance(chunk, SCTPChunkInitAck) else 0
    return header / SCTP(sport=sport, dport=dport, tag=tag) / chunk


def is_sctp(src: str, sport: int, dst: str, dport: int) -> Any:
    addressed = match(src=src, dst=dst)
    return lambda p: p.haslayer(SCTP) and addressed(p) and (p[SCTP].sport, p[SCTP].dport) == (sport, dport)


@FAMILIES
def test_sctp_reaches_a_published_port_and_its_answer_comes_back_translated(lab: Lab, version: int) -> None:
    box, host_port = lab.box("nat", "a"), NETWORKS["nat"].any_port
    inside, here, there = lab.address("nat", "a", version), HOST[version], OUTSIDE[version]
    init = sctp(
        version, there, here, 5000, host_port, SCTPChunkInit(init_tag=7, n_in_streams=1, n_out_streams=1)
    )
    back = sctp(
        version, inside, there, OPEN, 5000, SCTPChunkInitAck(init_tag=8, n_in_streams=1, n_out_streams=1)
    )

    with box.capture("eth0") as arrived, lab.outside.capture("eth0") as returned:
        lab.outside.send(Ether(dst=lab.host.mac("up1")) / init, "eth0")
        arrived.expect(is_sctp(there, 5000, inside, OPEN))
        box.send(Ether(dst=lab.host.mac(lab.bridges["nat"])) / back, "eth0")
        packet = returned.expect(is_sctp(here, host_port, there, 5000))

    assert packet.haslayer(SCTPChunkInitAck)


@FAMILIES
@pytest.mark.parametrize("target", ["published", "unopened", "other"])
def test_sctp_straight_to_a_container_or_an_unpublished_port_is_dropped(
    lab: Lab, target: str, version: int
) -> None:
    box, inside = lab.box("nat", "a"), lab.address("nat", "a", version)
    address, dport = {
        "published": (inside, OPEN),
        "unopened": (inside, UNOPENED),
        "other": (HOST[version], NETWORKS["nat"].loopback_port),
    }[target]
    init = SCTPChunkInit(init_tag=9, n_in_streams=1, n_out_streams=1)
    frame = Ether(dst=lab.host.mac("up1"))

    with box.capture("eth0") as arrived:
        lab.outside.send(frame / sctp(version, OUTSIDE[version], address, 5001, dport, init), "eth0")
        good = sctp(version, OUTSIDE[version], HOST[version], 5002, NETWORKS["nat"].any_port, init)
        lab.outside.send(frame / good, "eth0")
        arrived.expect_none(
            lambda p: bool(p.haslayer(SCTP)) and p[SCTP].sport == 5001,
            until=is_sctp(OUTSIDE[version], 5002, inside, OPEN),
        )
