"""Tells when somebody else changed what is ours on the host: links, their addresses, or our nftables tables.

Only hints come out of here. Our own verbs give a link its group when they set it up, retire it into the reaper's
group before they cut it off, and their nftables transactions carry our socket's number; what remains may still be
ours, so whoever is told looks at everything.
"""

from __future__ import annotations

import ctypes
import errno
import select
import socket
import struct
import time
from collections.abc import Collection, Iterator
from enum import Enum

from cnm.kernel import address_messages, link_messages
from cnm.kernel.address_messages import RTM_DELADDR
from cnm.kernel.link_messages import RTM_DELLINK, RTM_NEWLINK
from cnm.kernel.netlink import Message, NetlinkSocket, attributes, messages_of
from cnm.kernel.nft_transaction import NETLINK_NETFILTER
from cnm.kernel.state import Group

RTMGRP_LINK = 1 << 0
_RTMGRP_IPV4_IFADDR = 1 << 4
_RTMGRP_IPV6_IFADDR = 1 << 8
_NFTABLES_GROUP = 1 << 6
_OURS = (Group.BRIDGE, Group.PORT, Group.SUB_INTERFACE)
_GOING = (Group.LEFT, Group.REAP)
_TABLE = b"cnm"
"""The name of both our tables."""
_FILTER_TABLE = b"filter"
_NFTA_TABLE = 1
"""In notifications of every kind the name of the table is attribute 1 (linux/netfilter/nf_tables.h)."""
_NEW_GENERATION = 0x0A00 | 15
"""NFT_MSG_NEWGEN closes every transaction and names no table."""
_NFGENMSG_BYTES = 4
_GATHER_SECONDS = 0.02
"""One verb is some twenty notifications: they are read together, so as not to slow it down."""
_SO_RCVBUFFORCE = 33
_SO_ATTACH_FILTER = 26
_AF_BRIDGE = 7
_RECEIVE_BYTES = 1 << 17
_BUFFER_BYTES = 1 << 24
_HEADER_PID = struct.Struct("=I")


class Hint(Enum):
    """What became of waiting."""

    CHANGED = "changed"
    FILTER_CHANGED = "filter changed"
    """Nothing of ours, but the filter tables of iptables, where a place may be kept open for us."""
    NOTHING = "nothing"
    CLOSED = "closed"


class Monitor:
    """Listens in the namespace of the thread that makes it; `own_ports` are the netlink ports of our nft sockets."""

    def __init__(self, own_ports: Collection[int]) -> None:
        self._own_ports = frozenset(own_ports)
        self._links = listening(socket.NETLINK_ROUTE, RTMGRP_LINK | _RTMGRP_IPV4_IFADDR | _RTMGRP_IPV6_IFADDR)
        self._tables = listening(NETLINK_NETFILTER, _NFTABLES_GROUP)
        for each in (self._links, self._tables):
            each.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
        _drop_port_states(self._links)
        self._ours: set[int] = set()
        """Indexes of the links in our groups."""
        with NetlinkSocket() as netlink:
            for message in netlink.dump(link_messages.list_all()):
                self._link_is_hint(message)
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._closing, self._news = select.poll(), select.poll()
        self._closing.register(self._wake_reader, select.POLLIN)
        for each in (self._links, self._tables, self._wake_reader):
            self._news.register(each, select.POLLIN)

    def close(self) -> None:
        """Ends a `wait` in another thread."""
        self._wake_writer.close()

    def wait(self, seconds: float) -> Hint:
        """Block until something of ours may have changed, the time is over, or the monitor was closed."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if not self._news.poll(left * 1000):
                continue
            if self._closing.poll(_GATHER_SECONDS * 1000):
                for each in (self._links, self._tables, self._wake_reader):
                    each.close()
                return Hint.CLOSED
            links_changed, tables = self._links_changed(), self._tables_changed()
            if links_changed or _TABLE in tables:
                return Hint.CHANGED
            if _FILTER_TABLE in tables:
                return Hint.FILTER_CHANGED
        return Hint.NOTHING

    def _links_changed(self) -> bool:
        """Reads to the end, whatever is found: what is known of our links must be up to date."""
        try:
            return any([self._is_hint(m) for data in datagrams(self._links) for m in messages(data)])
        except OSError as error:
            return _lost(error)

    def _is_hint(self, message: Message) -> bool:
        """A link of ours deleted, set down or taken out of its bridge behind our back, or an address that it lost."""
        if message.kind == RTM_DELADDR:
            return address_messages.parse(message)[0] in self._ours
        return message.kind in (RTM_NEWLINK, RTM_DELLINK) and self._link_is_hint(message)

    def _link_is_hint(self, message: Message) -> bool:
        state = link_messages.parse_state(message)
        if state.family != socket.AF_UNSPEC:
            return False
        was_ours = state.ifindex in self._ours
        self._ours.discard(state.ifindex)
        if state.group not in _OURS:
            return was_ours and state.group not in _GOING
        if message.kind == RTM_NEWLINK:
            self._ours.add(state.ifindex)
        freed = state.group == Group.PORT and not state.enslaved
        return message.kind == RTM_DELLINK or not state.up or freed

    def _tables_changed(self) -> frozenset[bytes]:
        """Names of the tables that somebody else changed; ours, too, where notifications were lost."""
        changed: set[bytes] = set()
        try:
            for data in datagrams(self._tables):
                if _port(data) not in self._own_ports:
                    changed.update(_tables_in(data))
        except OSError as error:
            if _lost(error):
                changed |= {_TABLE, _FILTER_TABLE}
        return frozenset(changed)


def listening(protocol: int, groups: int) -> socket.socket:
    """A socket of the calling thread's namespace that notifications come to; reading never blocks."""
    listener = socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, protocol
    )
    if protocol == socket.NETLINK_ROUTE:
        _drop_port_states(listener)
    listener.bind((0, groups))
    return listener


def _drop_port_states(listener: socket.socket) -> None:
    """Have the kernel keep what bridges tell of their ports, of each when its timers run out: nobody wakes up for it.

    A classic BPF program (linux/filter.h): drop where the header's type is RTM_NEWLINK and the family AF_BRIDGE.
    """
    of_type = socket.htons(RTM_NEWLINK)  # loads are big-endian, netlink is not
    instructions = (
        (0x28, 0, 0, 4),  # ldh [nlmsg_type]
        (0x15, 0, 3, of_type),  # jeq: else accept
        (0x30, 0, 0, 16),  # ldb [ifi_family]
        (0x15, 0, 1, _AF_BRIDGE),
        (0x06, 0, 0, 0),  # drop
        (0x06, 0, 0, 0xFFFFFFFF),  # accept
    )
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in instructions)
    buffer = ctypes.create_string_buffer(code)
    program = struct.pack("HP", len(instructions), ctypes.addressof(buffer))
    listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


def datagrams(listener: socket.socket) -> Iterator[bytes]:
    """What has come and was not read yet. Raises OSError ENOBUFS when something was lost."""
    while True:
        try:
            yield listener.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return


def messages(data: bytes) -> Iterator[Message]:
    for kind, _flags, _sequence, payload in messages_of(data):
        yield Message(kind, payload)


def _port(data: bytes) -> int:
    """The netlink port of who caused a notification."""
    (port,) = _HEADER_PID.unpack_from(data, 12)
    return int(port)


def _tables_in(data: bytes) -> Iterator[bytes]:
    """The tables that a notification is about: dockerd's iptables changes its own with every container."""
    for message in messages(data):
        if message.kind != _NEW_GENERATION:
            yield attributes(message.payload, _NFGENMSG_BYTES).get(_NFTA_TABLE, b"").rstrip(b"\0")


def _lost(error: OSError) -> bool:
    """Notifications were lost: anything may have changed."""
    if error.errno == errno.ENOBUFS:
        return True
    raise error
