"""The host's own interfaces, neither loopbacks nor ours: listed again only after one of them changed.

A host with a thousand endpoints has as many links of ours among its few own, and is asked every few seconds.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping

from cnm.kernel import link_messages
from cnm.kernel.diff import is_ours
from cnm.kernel.monitor import RTMGRP_LINK, datagrams, listening, messages
from cnm.kernel.netlink import Message, NetlinkSocket
from cnm.kernel.state import Group, LinkKind

_NOT_THEIRS = frozenset(Group) - {Group.NONE}


class HostInterfaces:
    """Listens in the namespace of the thread that makes it. Not thread-safe: the owner serialises."""

    def __init__(self) -> None:
        self._listener = listening(socket.NETLINK_ROUTE, RTMGRP_LINK)
        self._mtus: dict[str, int] | None = None

    def close(self) -> None:
        self._listener.close()

    def mtus(self, netlink: NetlinkSocket) -> Mapping[str, int]:
        """MTUs in bytes by name, listed by `netlink`, a socket of the same namespace."""
        if self._changed() or self._mtus is None:
            links = filter(_is_theirs, netlink.dump(link_messages.list_all()))
            parsed = [link_messages.parse(message).link for message in links]
            self._mtus = {
                link.name: link.mtu
                for link in parsed
                if link.kind is not LinkKind.LOOPBACK and not is_ours(link)
            }
        return self._mtus

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
