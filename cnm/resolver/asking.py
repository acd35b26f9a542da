"""Ways to other servers: UDP and TCP, from the host's namespace or from inside a sandbox."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import socket
from collections.abc import Callable, Mapping
from select import EPOLLIN, EPOLLOUT
from typing import Protocol

from cnm.resolver.records import Server
from cnm.sidecar.loop import Loop

_PORT = 53
_LONGEST = 65535
_MOST_INSIDE = 256
"""Questions of a scope over one UDP socket inside at the same time."""


_libc = ctypes.CDLL(None)


class Asker(Protocol):
    """Whoever wants to know."""

    def answered(self, asked: Asked, answer: bytes) -> bool:
        """Whether that is the answer, and not a stranger's."""

    def failed(self, asked: Asked) -> None: ...


class Asked(Protocol):
    """A question that is on its way to one server."""

    def close(self) -> None:
        """Its answer is of no use any more; may be repeated."""


class Asking:
    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    def ask(self, server: Server, query: bytes, tcp: bool, inside: Inside, asker: Asker) -> Asked:
        """Raises OSError where that is not even possible."""
        if server.inside:
            return inside.ask(server, query, tcp, asker)
        family, address = _address(server)
        kind = socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM
        channel = socket.socket(family, kind | socket.SOCK_NONBLOCK)
        if tcp:
            return _OverTcp(self._loop, channel, address, query, asker, channel.close)
        return _OverUdp(self._loop, channel, address, query, asker)


def _address(server: Server) -> tuple[int, tuple[object, ...]]:
    """(family, address) for a socket. Raises OSError for a zone that is no interface."""
    address, _, zone = server.address.partition("%")
    if ":" not in address:
        return socket.AF_INET, (address, _PORT)
    return socket.AF_INET6, (address, _PORT, 0, socket.if_nametoindex(zone) if zone else 0)


class _OverUdp:
    """From a port of its own, which a forger would have to guess; only the server's datagrams come through."""

    def __init__(
        self, loop: Loop, channel: socket.socket, address: tuple[object, ...], query: bytes, asker: Asker
    ) -> None:
        self._loop = loop
        self._channel = channel
        self._asker = asker
        self._closed = False
        try:
            channel.connect(address)
            channel.send(query)
        except OSError:
            channel.close()
            raise
        loop.watch(channel.fileno(), EPOLLIN, self)

    def ready(self, descriptor: int, events: int) -> None:
        try:
            answer = self._channel.recv(_LONGEST)
        except BlockingIOError:
            return
        except OSError:  # its port is closed
            self.close()
            self._asker.failed(self)
            return
        self._asker.answered(self, answer)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._loop.forget(self._channel.fileno())
            self._channel.close()


class _OverTcp:
    """One question on a connection (RFC 1035, 4.2.2). `release` takes the socket back."""

    def __init__(
        self,
        loop: Loop,
        channel: socket.socket,
        address: tuple[object, ...],
        query: bytes,
        asker: Asker,
        release: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._channel = channel
        self._asker = asker
        self._release = release
        self._closed = False
        self._to_send = len(query).to_bytes(2) + query
        self._read = bytearray()
        number = channel.connect_ex(address)
        if number not in (0, errno.EINPROGRESS):
            release()
            raise OSError(number, os.strerror(number))
        loop.watch(channel.fileno(), EPOLLOUT, self)

    def ready(self, descriptor: int, events: int) -> None:
        try:
            if self._to_send:
                self._to_send = self._to_send[self._channel.send(self._to_send) :]
                if not self._to_send:
                    self._loop.change(descriptor, EPOLLIN)
                return
            self._receive()
        except BlockingIOError:
            return
        except OSError:
            self.close()
            self._asker.failed(self)

    def _receive(self) -> None:
        piece = self._channel.recv(_LONGEST)
        if not piece:
            raise ConnectionResetError
        self._read += piece
        if len(self._read) >= 2 and len(self._read) >= 2 + (length := int.from_bytes(self._read[:2])):
            answer = bytes(self._read[2 : 2 + length])
            self.close()
            if not self._asker.answered(self, answer):
                self._asker.failed(self)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._loop.forget(self._channel.fileno())
            self._release()


class Inside:
    """The sockets of a scope that lead to servers from inside its sandbox: nobody else can open any there.

    One UDP socket a family is shared by all questions. A TCP socket serves one question after the other: it is
    disconnected in between (connect(2), AF_UNSPEC).
    """

    def __init__(self, loop: Loop, sockets: Mapping[str, socket.socket]) -> None:
        self._loop = loop
        self._free: dict[int, list[socket.socket]] = {socket.AF_INET: [], socket.AF_INET6: []}
        self._shared: dict[int, _Shared] = {}
        for name, each in sockets.items():
            if "/" not in name:
                continue
            each.setblocking(False)
            if each.type == socket.SOCK_STREAM:
                self._free[each.family].append(each)
            else:
                self._shared[each.family] = _Shared(loop, each)

    def close(self) -> None:
        for shared in self._shared.values():
            shared.close()

    def ask(self, server: Server, query: bytes, tcp: bool, asker: Asker) -> Asked:
        family, address = _address(server)
        if not tcp:
            if family not in self._shared:
                raise OSError(errno.EAFNOSUPPORT, "no socket of this family inside")
            return self._shared[family].ask(address, query, asker)
        if not self._free[family]:
            raise OSError(errno.EMFILE, "all connections from inside are in use")
        channel = self._free[family].pop()
        return _OverTcp(self._loop, channel, address, query, asker, lambda: self._give_back(family, channel))

    def _give_back(self, family: int, channel: socket.socket) -> None:
        _disconnect(channel)
        self._free[family].append(channel)


class _Shared:
    """A UDP socket for many questions: an answer is told by who sent it and its id, and then by the question."""

    def __init__(self, loop: Loop, channel: socket.socket) -> None:
        self._loop = loop
        self._channel = channel
        self._waiting: dict[tuple[object, bytes], list[_SharedAsked]] = {}
        self._count = 0
        loop.watch(channel.fileno(), EPOLLIN, self)

    def ask(self, address: tuple[object, ...], query: bytes, asker: Asker) -> Asked:
        if self._count >= _MOST_INSIDE:
            raise OSError(errno.EAGAIN, "too many questions wait for the sandbox's servers")
        self._channel.sendto(query, address)
        key = (address, query[:2])
        asked = _SharedAsked(asker, lambda: self._forget(key, asked))
        self._waiting.setdefault(key, []).append(asked)
        self._count += 1
        return asked

    def _forget(self, key: tuple[object, bytes], asked: _SharedAsked) -> None:
        if asked in self._waiting.get(key, ()):
            self._waiting[key].remove(asked)
            self._count -= 1
            if not self._waiting[key]:
                del self._waiting[key]

    def ready(self, descriptor: int, events: int) -> None:
        try:
            answer, address = self._channel.recvfrom(_LONGEST)
        except OSError:
            return
        for asked in list(self._waiting.get((address, answer[:2]), ())):
            asked.asker.answered(asked, answer)

    def close(self) -> None:
        self._loop.forget(self._channel.fileno())


class _SharedAsked:
    def __init__(self, asker: Asker, forget: Callable[[], object]) -> None:
        self.asker = asker
        self._forget = forget

    def close(self) -> None:
        self._forget()


def _disconnect(channel: socket.socket) -> None:
    """Python's own connect knows no AF_UNSPEC."""
    with contextlib.suppress(OSError):
        unspecified = ctypes.create_string_buffer(16)
        _libc.connect(channel.fileno(), unspecified, 16)
