"""Host ports held by sockets: what clashes, what is chosen, what a client of a held port sees."""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cnm.endpoint import PortMapping, PortRequest, Protocol
from cnm.errors import Conflict, InvalidParameter, Unavailable
from cnm.kernel.reservations import Reservations
from netns_fixtures import Host, Status, Topology

pytestmark = pytest.mark.topology(
    {
        "hosts": {"client": {}, "host": {}},
        "links": [
            {
                "ends": [
                    {"host": "host", "interface": "eth0", "addresses": ["192.0.2.1/24", "2001:db8::1/64"]},
                    {"host": "client", "interface": "eth0", "addresses": ["192.0.2.2/24", "2001:db8::2/64"]},
                ]
            }
        ],
    }
)
PROTOCOLS = pytest.mark.parametrize("protocol", list(Protocol))
SOCKETS = pytest.mark.parametrize("protocol", [Protocol.TCP, Protocol.UDP])
ADDRESSES = ["", "0.0.0.0", "::", "127.0.0.1", "::1", "192.0.2.1", "2001:db8::1"]


@pytest.fixture
def host(topology: Topology) -> Iterator[Host]:
    """The test itself runs in the host's namespace."""
    host = topology.hosts["host"]
    with host.enter():
        yield host


@pytest.fixture
def reservations(host: Host) -> Reservations:
    return Reservations()


def asked(
    protocol: Protocol = Protocol.TCP, container: int = 80, host: int = 0, **more: str | int
) -> PortRequest:
    return PortRequest(protocol=protocol, container_port=container, host_port=host, **more)  # type: ignore[arg-type]


def kind(protocol: Protocol) -> socket.SocketKind:
    return socket.SOCK_STREAM if protocol is Protocol.TCP else socket.SOCK_DGRAM


@PROTOCOLS
@pytest.mark.parametrize("address", ADDRESSES)
def test_a_fixed_port_is_held_once(reservations: Reservations, protocol: Protocol, address: str) -> None:
    held = reservations.reserve([asked(protocol, 80, 8080, host_address=address)])

    assert held == (PortMapping(protocol=protocol, container_port=80, host_port=8080, host_address=address),)
    with pytest.raises(Conflict, match=r"^Bind for .*:8080 failed: port is already allocated"):
        reservations.reserve([asked(protocol, 81, 8080, host_address=address)])


@PROTOCOLS
@pytest.mark.parametrize("first", ADDRESSES)
@pytest.mark.parametrize("second", ADDRESSES)
def test_addresses_clash_where_they_overlap(
    reservations: Reservations, protocol: Protocol, first: str, second: str
) -> None:
    def families(address: str) -> set[int]:
        return {4, 6} if not address else {6 if ":" in address else 4}

    overlap = bool(families(first) & families(second)) and (
        first == second or bool({"", "0.0.0.0", "::"} & {first, second})
    )
    reservations.reserve([asked(protocol, 80, 8080, host_address=first)])

    if overlap:
        with pytest.raises(Conflict, match="port is already allocated"):
            reservations.reserve([asked(protocol, 80, 8080, host_address=second)])
    else:
        assert reservations.reserve([asked(protocol, 80, 8080, host_address=second)])


@PROTOCOLS
def test_protocols_have_ports_of_their_own(reservations: Reservations, protocol: Protocol) -> None:
    reservations.reserve([asked(each, 80, 8080) for each in Protocol if each is not protocol])

    assert reservations.reserve([asked(protocol, 80, 8080)])


@SOCKETS
@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
@pytest.mark.parametrize("reuse", [False, True], ids=["plain", "SO_REUSEADDR"])
def test_a_held_port_and_other_programs_exclude_each_other(
    reservations: Reservations, protocol: Protocol, family: int, address: str, reuse: bool
) -> None:
    with socket.socket(family, kind(protocol)) as program:
        program.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
        program.bind((address, 8080))
        with pytest.raises(Conflict, match="port is already allocated"):
            reservations.reserve([asked(protocol, 80, 8080)])

    reservations.reserve([asked(protocol, 80, 8080)])
    with socket.socket(family, kind(protocol)) as program:
        program.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
        with pytest.raises(OSError, match="Address already in use"):
            program.bind((address, 8080))


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1"])
def test_a_held_tcp_port_refuses_and_a_held_udp_port_is_silent(
    reservations: Reservations, topology: Topology, address: str
) -> None:
    reservations.reserve([asked(Protocol.TCP, 80, 8080), asked(Protocol.UDP, 80, 8080)])
    client = topology.hosts["client"]

    assert client.connect_tcp(address, 8080).status is Status.REFUSED
    assert client.send_udp(address, 8080, timeout=0.3).status is Status.TIMEOUT


def test_datagrams_to_a_held_port_are_not_kept(reservations: Reservations, topology: Topology) -> None:
    (held,) = reservations.reserve([asked(Protocol.UDP, 80, 8080)])

    topology.hosts["client"].send_udp("192.0.2.1", 8080, timeout=0.1)

    holder = reservations.socket_of(held)
    assert holder is not None
    with pytest.raises(BlockingIOError):
        holder.recv(64, socket.MSG_DONTWAIT)


@PROTOCOLS
def test_a_released_port_is_free(reservations: Reservations, protocol: Protocol) -> None:
    held = reservations.reserve([asked(protocol, 80, 8080, container_port_end=89, host_port_end=8089)])

    reservations.release(held)
    reservations.release(held)

    assert reservations.reserve([asked(protocol, 80, 8085)])


@PROTOCOLS
def test_a_range_is_one_mapping(reservations: Reservations, protocol: Protocol) -> None:
    held = reservations.reserve([asked(protocol, 80, 8080, container_port_end=89, host_port_end=8089)])

    assert held == (PortMapping(protocol=protocol, container_port=80, host_port=8080, count=10),)


def test_ranges_of_different_lengths_are_refused(reservations: Reservations) -> None:
    with pytest.raises(
        InvalidParameter, match="8080-8081 of the host and 80-82 of the container differ in length"
    ):
        reservations.reserve([asked(container=80, container_port_end=82, host=8080, host_port_end=8081)])


def test_one_container_port_takes_the_first_free_one_of_a_range(reservations: Reservations) -> None:
    reservations.reserve([asked(host=8080)])

    (held,) = reservations.reserve([asked(host=8080, host_port_end=8082)])

    assert held.host_port == 8081


def test_a_used_up_range_says_so(reservations: Reservations) -> None:
    request = asked(host=8080, host_port_end=8081)
    reservations.reserve([request])
    reservations.reserve([request])

    with pytest.raises(Unavailable, match=r"^all ports are allocated: no free port in 8080-8081"):
        reservations.reserve([request])


def test_fixed_ports_come_before_chosen_ones_and_the_order_asked_is_kept(reservations: Reservations) -> None:
    chosen, fixed = reservations.reserve(
        [asked(container=80, host=8080, host_port_end=8081), asked(container=81, host=8080)]
    )

    assert (chosen.container_port, chosen.host_port) == (80, 8081)
    assert (fixed.container_port, fixed.host_port) == (81, 8080)


def test_any_port_is_an_ephemeral_one_that_is_not_reserved(host: Host, reservations: Reservations) -> None:
    host.sysctl("net.ipv4.ip_local_port_range", "40000 40009")
    host.sysctl("net.ipv4.ip_local_reserved_ports", "40001,40003-40005")

    held = [reservations.reserve([asked()])[0].host_port for _ in range(6)]

    assert held == [40000, 40002, 40006, 40007, 40008, 40009]
    with pytest.raises(Unavailable, match="all ports are allocated: no free port in the ephemeral range"):
        reservations.reserve([asked()])


def test_a_port_given_back_rests_until_the_others_had_their_turn(
    host: Host, reservations: Reservations
) -> None:
    host.sysctl("net.ipv4.ip_local_port_range", "40000 40002")

    given = []
    for _ in range(5):
        held = reservations.reserve([asked()])
        given.append(held[0].host_port)
        reservations.release(held)

    assert given == [40000, 40001, 40002, 40000, 40001]


def test_a_taken_ephemeral_port_is_passed_over(host: Host, reservations: Reservations) -> None:
    host.sysctl("net.ipv4.ip_local_port_range", "40000 40002")

    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as program:
        program.bind(("127.0.0.1", 40000))
        (held,) = reservations.reserve([asked()])

    assert held.host_port == 40001


def test_all_or_none_are_held(reservations: Reservations) -> None:
    reservations.reserve([asked(host=8082)])
    with pytest.raises(Conflict):
        reservations.reserve([asked(host=8080), asked(host=8081, container_port_end=81, host_port_end=8082)])

    assert reservations.reserve([asked(host=8080), asked(host=8081)])


def test_an_address_that_is_not_the_hosts_is_named(reservations: Reservations) -> None:
    with pytest.raises(
        InvalidParameter, match=r"^Bind for 203\.0\.113\.7:8080 failed: 203\.0\.113\.7 is not an address"
    ):
        reservations.reserve([asked(host=8080, host_address="203.0.113.7")])
    with pytest.raises(InvalidParameter, match=r"^Bind for \[2001:db8::99\]:8080 failed"):
        reservations.reserve([asked(host=8080, host_address="2001:db8::99")])


@contextmanager
def open_files(limit: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_too_few_descriptors_are_named_and_nothing_stays_held(reservations: Reservations) -> None:
    used = max(map(int, os.listdir("/proc/self/fd"))) + 1

    with open_files(used + 20), pytest.raises(Unavailable, match="limit of open files"):
        reservations.reserve(
            [asked(container=1000, container_port_end=1999, host=21000, host_port_end=21999)]
        )

    assert reservations.reserve([asked(host=21000)])


def test_a_port_lost_while_nobody_held_it_is_remembered_until_it_is_back(reservations: Reservations) -> None:
    mapping = PortMapping(protocol=Protocol.TCP, container_port=80, host_port=8080)

    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as program:
        program.bind(("127.0.0.1", 8080))
        with pytest.raises(Conflict, match="port is already allocated"):
            reservations.restore(mapping)
        assert reservations.lost() == (mapping,)

    reservations.restore(mapping)
    assert reservations.lost() == ()
    with pytest.raises(Conflict):
        reservations.reserve([asked(host=8080)])


def test_a_socket_that_was_kept_is_taken_back(reservations: Reservations) -> None:
    (mapping,) = reservations.reserve([asked(host=8080)])
    holder = reservations.socket_of(mapping)
    assert holder is not None
    kept = holder.dup()
    reservations.release([mapping])

    after = Reservations()
    after.restore(mapping, kept)

    assert after.socket_of(mapping) is kept
    assert after.lost() == ()


def test_a_thousand_ports_are_a_thousand_sockets(reservations: Reservations) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with open_files(4096):
        held = reservations.reserve(
            [asked(container=1000, container_port_end=1999, host=21000, host_port_end=21999)]
        )
        during = len(os.listdir("/proc/self/fd"))
        reservations.release(held)

    assert during - before == 1000
    assert len(os.listdir("/proc/self/fd")) == before


def test_without_ipv6_every_address_means_every_ipv4_address(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cnm.kernel.reservations._has_ipv6", lambda: False)
    reservations = Reservations()
    (held,) = reservations.reserve([asked(host=8080)])

    holder = reservations.socket_of(held)
    assert holder is not None
    assert holder.getsockname() == ("0.0.0.0", 8080)
