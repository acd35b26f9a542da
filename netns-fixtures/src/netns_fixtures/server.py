"""TCP and UDP servers in a thread, which answer with a known payload and remember whom they saw."""

from __future__ import annotations

import selectors
import socket
import struct
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from netns_fixtures.errors import KernelRefused
from netns_fixtures.namespace import Namespace
from netns_fixtures.outcome import Address, answer
from netns_fixtures.sockets import family_of, plain, socket_address

_BACKLOG = 1024
_BUFFER = 65536
_SO_RCVBUFFORCE = 33
_DATAGRAM_BUFFER_BYTES = 4 * 1024 * 1024
"""The kernel's default holds about 250 small datagrams: fewer than may arrive at once."""
_IP_PKTINFO = 8
"""IP_PKTINFO of <linux/in.h>, absent from the socket module of Python 3.11."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A client as a server saw it: its address, the server's own that it reached, and a datagram's data."""

    address: str
    port: int
    served: Address
    data: bytes = b""


class Server(ABC):
    """What both kinds of server share: the socket, the thread, the peers seen. Ends with `close`."""

    _kind: int

    def __init__(self, namespace: Namespace, address: Address, payload: bytes) -> None:
        self.payload = payload
        self._socket = _bound(namespace, self._kind, address)
        self._socket.setblocking(False)
        self.address, self.port = plain(self._socket.getsockname())
        self._peers: list[Peer] = []
        self._arrival = threading.Condition()
        self._wake, self._woken = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._selector.register(self._socket, selectors.EVENT_READ, self._ready)
        self._thread = threading.Thread(target=self._serve, name=f"netns-server-{self.port}", daemon=True)
        self._thread.start()

    @property
    def peers(self) -> list[Peer]:
        """The clients seen so far, in the order of their arrival."""
        with self._arrival:
            return list(self._peers)

    def wait_for_peer(
        self, predicate: Callable[[Peer], bool] = lambda _peer: True, timeout: float = 2.0
    ) -> Peer:
        """The first client that fits, waited for at most `timeout` seconds; AssertionError if none came."""
        with self._arrival:
            self._arrival.wait_for(lambda: any(map(predicate, self._peers)), timeout)
            for peer in self._peers:
                if predicate(peer):
                    return peer
            raise AssertionError(
                f"no such client at port {self.port} within {timeout} s; seen: {self._peers}"
            )

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._wake.fileno() == -1

    def close(self) -> None:
        """Stop serving, close all connections and end the thread; harmless when called twice."""
        if self.closed:
            return
        self._wake.close()
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self._selector.close()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _serve(self) -> None:
        """Handle events until the other end of the wake pair is closed."""
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._woken:
                    return
                key.data(key.fileobj)

    @abstractmethod
    def _ready(self, listener: socket.socket) -> None:
        """Take what arrived at a socket of ours."""

    def _remember(self, peer: Peer) -> None:
        with self._arrival:
            self._peers.append(peer)
            self._arrival.notify_all()


class TcpServer(Server):
    """Answers a client as soon as it connects, then ends; with `echo` it stays and sends all back."""

    _kind = socket.SOCK_STREAM

    def __init__(self, namespace: Namespace, address: Address, payload: bytes, echo: bool) -> None:
        self._echo = echo
        super().__init__(namespace, address, payload)

    def _ready(self, listener: socket.socket) -> None:
        try:
            connection, raw_peer = listener.accept()
            served = plain(connection.getsockname())
        except OSError:
            return  # the client gave up between its connect and our accept
        seen = plain(raw_peer)
        self._remember(Peer(*seen, served))
        connection.setblocking(False)
        self._selector.register(connection, selectors.EVENT_READ, self._hear)
        try:
            connection.send(answer(self.payload, seen, served))
            if not self._echo:
                connection.shutdown(socket.SHUT_WR)
        except OSError:
            self._drop(connection)

    def _hear(self, connection: socket.socket) -> None:
        """Read until the client ends: closing with unread bytes would reset, and might lose the answer."""
        try:
            heard = connection.recv(_BUFFER)
            if heard and self._echo:
                connection.sendall(heard)
        except OSError:
            heard = b""
        if not heard:
            self._drop(connection)

    def _drop(self, connection: socket.socket) -> None:
        self._selector.unregister(connection)
        connection.close()


class UdpServer(Server):
    """Answers each datagram from the very address that it was sent to, as a host with many addresses must."""

    _kind = socket.SOCK_DGRAM

    def _ready(self, listener: socket.socket) -> None:
        try:
            data, ancillary, _, sender = listener.recvmsg(_BUFFER, 256)
        except OSError:
            return  # an ICMP error for an earlier answer; the next datagram is read in the next round
        seen, (served, source) = plain(sender), _addressed_to(ancillary)
        self._remember(Peer(*seen, (served, self.port), data))
        try:
            listener.sendmsg([answer(self.payload, seen, (served, self.port))], [source], 0, sender)
        except OSError:
            return  # the client's network is gone: to the client that is a timeout


def _bound(namespace: Namespace, kind: int, address: Address) -> socket.socket:
    server = namespace.socket(family_of(address[0]), kind)
    try:
        if kind == socket.SOCK_STREAM:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        else:
            server.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _DATAGRAM_BUFFER_BYTES)
        if server.family == socket.AF_INET6:
            server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        else:
            server.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        server.bind(socket_address(namespace, address))
        if kind == socket.SOCK_STREAM:
            server.listen(_BACKLOG)
    except OSError as error:
        server.close()
        raise KernelRefused(f"cannot serve on {address[0]} port {address[1]}: {error.strerror}") from error
    return server


def _addressed_to(ancillary: list[Any]) -> tuple[str, tuple[int, int, bytes]]:
    """The local address of a datagram, and the control message that makes the answer leave from it.

    The interface is left to the routes (index 0), except for link-local addresses, which mean nothing
    without.
    """
    for level, kind, data in ancillary:
        if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO):
            raw, index = struct.unpack("=16sI", data[:20])
            zone = index if raw[:2] == b"\xfe\x80" else 0
            local = plain((socket.inet_ntop(socket.AF_INET6, raw), 0))[0]
            return local, (level, kind, struct.pack("=16sI", raw, zone))
        if (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO):
            raw = data[8:12]
            return socket.inet_ntoa(raw), (level, kind, struct.pack("=I4s4s", 0, raw, bytes(4)))
    raise AssertionError("the kernel did not say where a datagram was sent to, though IP_PKTINFO is on")
