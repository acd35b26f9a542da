"""The cluster's etcd as one of its nodes sees it, asked from the test's process."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from cnm.cluster import certificates
from cnm.cluster.addresses import split_port
from cnm.cluster.etcd.client import Client
from cnm.cluster.home import CLIENT_PORT, Home
from netns_fixtures import Host
from tests.cluster.hosts import ClusterHost


@contextmanager
def client_of(host: ClusterHost, credential: str = "node.pem") -> Iterator[Client]:
    """etcd as whoever has this host's files."""
    key, certificate = certificates.split((host.home / credential).read_text())
    record = Home(str(host.home.parent)).record()
    assert record is not None
    with ExitStack() as stack:
        endpoints = [stack.enter_context(_forwarded(host.net, member)) for member in record.endpoints]
        client = Client(endpoints, (host.home / "ca.crt").read_bytes(), certificate.encode(), key.encode())
        stack.callback(client.close)
        yield client


@contextmanager
def _forwarded(host: Host, endpoint: str) -> Iterator[str]:
    """HOST:PORT on the test's own loopback that leads to what `host` reaches at another.

    gRPC's threads stay in the namespace in which the process first used it, so it cannot be asked in another.
    """
    target = split_port(endpoint, CLIENT_PORT)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_accept, args=(listener, host, target), daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


def _accept(listener: socket.socket, host: Host, target: tuple[str, int]) -> None:
    with contextlib.suppress(OSError):
        while True:
            client, _ = listener.accept()
            threading.Thread(target=_join, args=(client, host, target), daemon=True).start()


def _join(client: socket.socket, host: Host, target: tuple[str, int]) -> None:
    """Both ways, until one side has ended or nobody listens."""
    with client, host.socket() as server, contextlib.suppress(OSError):
        server.settimeout(5)
        server.connect(target)
        server.settimeout(None)
        back = threading.Thread(target=_pump, args=(server, client), daemon=True)
        back.start()
        _pump(client, server)
        back.join()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
