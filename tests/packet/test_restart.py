"""Packets do not notice that cnmd was killed and started again."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from netns_fixtures import Topology
from tests.packet.lab import (
    FAMILIES,
    HOST,
    LOOPBACK,
    NETWORKS,
    OPEN,
    OUTSIDE,
    PASS_SECONDS,
    Lab,
    running_lab,
    world,
)

PERIOD_SECONDS = 0.005
POLL_SECONDS = 0.05
PATIENCE = 20
"""Polls without anything after which what is missing counts as lost."""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, br_netfilter: bool) -> Iterator[Lab]:
    with (
        Topology(world()) as topology,
        running_lab(
            topology,
            tmp_path_factory.mktemp("cnmd"),
            br_netfilter=br_netfilter,
            networks=("nat", "nat-no-icc", "internal", "nat-ipv4-only"),
        ) as running,
    ):
        yield running


class Flow:
    """Numbered datagrams to an echoing server, some 200 a second, each by the same socket."""

    def __init__(self, client: socket.socket) -> None:
        self.client = client
        self.sent = 0
        self.returned: set[int] = set()
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=work) for work in (self._send, self._receive)]
        client.settimeout(POLL_SECONDS)
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Returns when all has come back, or nothing has for a while."""
        self._ending.set()
        for thread in self._threads:
            thread.join()
        self.client.close()

    @property
    def lost(self) -> list[int]:
        return sorted(set(range(self.sent)) - self.returned)

    def _send(self) -> None:
        while not self._ending.is_set():
            self.client.send(b"%d" % self.sent)
            self.sent += 1
            time.sleep(PERIOD_SECONDS)

    def _receive(self) -> None:
        silent = 0
        while not self._ending.is_set() or (len(self.returned) < self.sent and silent < PATIENCE):
            try:
                self.returned.add(int(self.client.recv(100)))
                silent = 0
            except TimeoutError:
                silent += 1


def echo(host_socket: socket.socket, ending: threading.Event) -> None:
    host_socket.settimeout(POLL_SECONDS)
    while not ending.is_set():
        try:
            data, sender = host_socket.recvfrom(100)
        except TimeoutError:
            continue
        host_socket.sendto(data, sender)


@contextmanager
def echo_server(lab: Lab, name: str, version: int, port: int) -> Iterator[None]:
    server = lab.topology.hosts[name].socket(_family(version), socket.SOCK_DGRAM)
    server.bind(("0.0.0.0" if version == 4 else "::", port))
    ending = threading.Event()
    thread = threading.Thread(target=echo, args=(server, ending))
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join()
        server.close()


def flow(lab: Lab, name: str, version: int, address: str, port: int) -> Flow:
    client = lab.topology.hosts[name].socket(_family(version), socket.SOCK_DGRAM)
    client.connect((address, port))
    return Flow(client)


def _family(version: int) -> int:
    return socket.AF_INET if version == 4 else socket.AF_INET6


def kill_and_start(lab: Lab) -> None:
    lab.daemon.kill()
    lab.daemon.start()


def stop_and_start(lab: Lab) -> None:
    lab.daemon.restart()


def repair(lab: Lab) -> None:
    for _ in range(3):
        lab.daemon.ask("POST", "/cnm/v1/repair")


@FAMILIES
@pytest.mark.parametrize("event", [kill_and_start, stop_and_start, repair], ids=lambda e: e.__name__)
def test_no_packet_is_lost(lab: Lab, event: Callable[[Lab], None], version: int) -> None:
    port = 4700 + version
    publish = {"Ports": [{"Protocol": "udp", "ContainerPort": port, "HostPort": port}]}
    ident = lab.endpoints["nat-a"]["Id"]
    lab.daemon.ask("POST", f"/cnm/v1/endpoints/{ident}/ports", publish)
    with echo_server(lab, "nat-a", version, port), echo_server(lab, "outside", version, port):
        inside = lab.address("nat", "a", version)
        flows = {
            "outside to a published port": flow(lab, "outside", version, HOST[version], port),
            "hairpin": flow(lab, "nat-no-icc-b", version, HOST[version], port),
            "sibling": flow(lab, "nat-b", version, inside, port),
            "host": flow(lab, "host", version, inside, port),
            "container to outside": flow(lab, "nat-no-icc-a", version, OUTSIDE[version], port),
        }
        event(lab)
        for each in flows.values():
            each.end()
    lab.daemon.ask("DELETE", f"/cnm/v1/endpoints/{ident}/ports", publish)

    assert {name: each.lost for name, each in flows.items() if each.lost} == {}
    assert all(each.sent > 5 for each in flows.values())


@FAMILIES
def test_a_published_tcp_connection_goes_on_across_a_kill(lab: Lab, version: int) -> None:
    port = 4800 + version
    ident = lab.endpoints["nat-a"]["Id"]
    ports = {"Ports": [{"Protocol": "tcp", "ContainerPort": port, "HostPort": port}]}
    lab.daemon.ask("POST", f"/cnm/v1/endpoints/{ident}/ports", ports)
    with (
        lab.box("nat", "a").serve_tcp(port, echo=True),
        lab.outside.socket(_family(version), socket.SOCK_STREAM) as client,
    ):
        client.settimeout(PASS_SECONDS)
        client.connect((HOST[version], port))
        client.recv(999)
        lab.daemon.kill()
        client.sendall(b"while it is down")
        while_down = client.recv(999)
        lab.daemon.start()
        client.sendall(b"after")
        after = client.recv(999)
    lab.daemon.ask("DELETE", f"/cnm/v1/endpoints/{ident}/ports", ports)

    assert (while_down, after) == (b"while it is down", b"after")


@FAMILIES
def test_new_connections_are_judged_as_ever_while_cnmd_is_down(lab: Lab, version: int) -> None:
    lab.daemon.kill()
    published = lab.outside.connect_tcp(HOST[version], NETWORKS["nat"].any_port, timeout=PASS_SECONDS)
    direct = lab.outside.connect_tcp(lab.address("nat", "a", version), OPEN, timeout=0.25)
    relayed = lab.outside.connect_tcp(HOST[6], NETWORKS["nat-ipv4-only"].any_port, timeout=PASS_SECONDS)
    local = lab.host.connect_tcp(LOOPBACK[version], NETWORKS["nat"].any_port, timeout=PASS_SECONDS)
    lab.daemon.start()

    assert published.seen == published.local
    assert not direct.answered
    assert relayed.payload == b"nat-ipv4-only-a"
    assert local.payload == b"nat-a"


def test_nothing_differs_afterwards(lab: Lab) -> None:
    kill_and_start(lab)

    assert lab.daemon.findings() == []
