"""The host's own interfaces, neither loopbacks nor ours: listed again only after one of them changed.

A host with a thousand endpoints has as many links of ours among its few own, and is asked every few seconds.
"""

from __future__ import annotations

import socket

from cnm.kernel import link_messages
from cnm.kernel.monitor import RTMGRP_LINK, datagrams, listening, messages
from cnm.kernel.netlink import Message, NetlinkSocket
from cnm.kernel.state import Group, LinkKind

_NOT_THEIRS = frozenset(Group) - {Group.NONE}


class HostInterfaces:
    """Listens in the namespace of the thread that makes it. Not thread-safe: the owner serialises."""

    def __init__(self) -> None:
        self._listener = listening(socket.NETLINK_ROUTE, RTMGRP_LINK)
        self._names: tuple[str, ...] | None = None

    def close(self) -> None:
        self._listener.close()

    def names(self, netlink: NetlinkSocket) -> tuple[str, ...]:
        """Listed by `netlink`, a socket of the same namespace."""
        if self._changed() or self._names is None:
            links = filter(_is_theirs, netlink.dump(link_messages.list_all()))
            parsed = [link_messages.parse(message).link for message in links]
            self._names = tuple(link.name for link in parsed if link.kind is not LinkKind.LOOPBACK)
        return self._names

    def _changed(self) -> bool:
        """Reads to the end. A loss of notifications counts as a change."""
        try:
            return any(
                [_is_theirs(message) for data in datagrams(self._listener) for message in messages(data)]
            )
        except OSError:
            return True


def _is_theirs(message: Message) -> bool:
    """Not a port of anything either: what comes in by one is its bridge's to forward, and dockerd makes many."""
    family, _index, group, _up, enslaved = link_messages.parse_state(message)
    return family == socket.AF_UNSPEC and group not in _NOT_THEIRS and not enslaved
