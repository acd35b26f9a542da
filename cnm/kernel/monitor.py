"""Tells when somebody else changed what is ours on the host: links, their addresses, or our nftables tables.

Only hints come out of here. Our own verbs retire links into the reaper's group before they vanish, and their nftables
transactions carry our socket's number; what remains may still be ours, so whoever is told looks at everything.
"""

from __future__ import annotations

import errno
import select
import socket
import struct
import time
from collections.abc import Collection, Iterator
from enum import Enum

from cnm.kernel import link_messages
from cnm.kernel.netlink import Message, messages_of
from cnm.kernel.state import Group

_RTMGRP_LINK = 1 << 0
_RTMGRP_IPV4_IFADDR = 1 << 4
_RTMGRP_IPV6_IFADDR = 1 << 8
_NFTABLES_GROUP = 1 << 6
_RTM_NEWLINK = 16
_RTM_DELLINK = 17
_RTM_DELADDR = 21
_OURS = (Group.BRIDGE, Group.PORT)
_RECEIVE_BYTES = 1 << 17
_BUFFER_BYTES = 1 << 21
_HEADER_PID = struct.Struct("=I")


class Hint(Enum):
    """What became of waiting."""

    CHANGED = "changed"
    NOTHING = "nothing"
    CLOSED = "closed"


class Monitor:
    """Listens in the namespace of the thread that makes it; `own_ports` are the netlink ports of our nft sockets."""

    def __init__(self, own_ports: Collection[int]) -> None:
        self._own_ports = frozenset(own_ports)
        self._links = _listening(
            socket.NETLINK_ROUTE, _RTMGRP_LINK | _RTMGRP_IPV4_IFADDR | _RTMGRP_IPV6_IFADDR
        )
        self._tables = _listening(_NETLINK_NETFILTER, _NFTABLES_GROUP)
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._poll = select.poll()
        for each in (self._links, self._tables, self._wake_reader):
            self._poll.register(each, select.POLLIN)

    def close(self) -> None:
        """Ends a `wait` in another thread."""
        self._wake_writer.close()

    def wait(self, seconds: float) -> Hint:
        """Block until something of ours may have changed, the time is over, or the monitor was closed."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            readable = {descriptor for descriptor, _ in self._poll.poll(left * 1000)}
            if self._wake_reader.fileno() in readable:
                for each in (self._links, self._tables, self._wake_reader):
                    each.close()
                return Hint.CLOSED
            if self._links.fileno() in readable and self._links_changed():
                return Hint.CHANGED
            if self._tables.fileno() in readable and self._tables_changed():
                return Hint.CHANGED
        return Hint.NOTHING

    def _links_changed(self) -> bool:
        try:
            return any(_is_hint(message) for message in _read(self._links))
        except OSError as error:
            return _lost(error)

    def _tables_changed(self) -> bool:
        try:
            data = self._tables.recv(_RECEIVE_BYTES)
        except OSError as error:
            return _lost(error)
        (port,) = _HEADER_PID.unpack_from(data, 12)
        return port not in self._own_ports


_NETLINK_NETFILTER = 12


def _listening(protocol: int, groups: int) -> socket.socket:
    listener = socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, protocol
    )
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
    listener.bind((0, groups))
    return listener


def _read(listener: socket.socket) -> Iterator[Message]:
    for kind, _flags, _sequence, payload in messages_of(listener.recv(_RECEIVE_BYTES)):
        yield Message(kind, payload)


def _is_hint(message: Message) -> bool:
    """A link of ours deleted or set down behind our back, or an address that went."""
    if message.kind == _RTM_DELADDR:
        return True
    if message.kind not in (_RTM_NEWLINK, _RTM_DELLINK):
        return False
    link = link_messages.parse(message).link
    return link.group in _OURS and (message.kind == _RTM_DELLINK or not link.up)


def _lost(error: OSError) -> bool:
    """Notifications were lost: anything may have changed."""
    if error.errno == errno.ENOBUFS:
        return True
    if error.errno == errno.EAGAIN:
        return False
    raise error
