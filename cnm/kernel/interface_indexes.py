"""Interface indexes that nothing has: chosen by us, so that the message which marks a new link can follow at once."""

from __future__ import annotations

import threading

from cnm.kernel import link_messages
from cnm.kernel.netlink import NetlinkSocket

_FIRST = 1 << 16
"""Far from the indexes in sandboxes: where both ends of a pair have the same one, the kernel takes the pair for a
link to itself and reports its carrier up to a second late."""


class InterfaceIndexes:
    """Counts up in each namespace from above what is there."""

    def __init__(self) -> None:
        self._next: dict[str, int] = {}
        self._lock = threading.Lock()

    def take(self, namespace: str, netlink: NetlinkSocket) -> int:
        """Another one of the namespace at this path, which `netlink` is in."""
        with self._lock:
            index = self._next.get(namespace) or _above(netlink)
            self._next[namespace] = index + 1
            return index

    def forget(self, namespace: str) -> None:
        """Of a namespace that is gone, or where somebody else counts as well."""
        with self._lock:
            self._next.pop(namespace, None)


def _above(netlink: NetlinkSocket) -> int:
    links = netlink.dump(link_messages.list_all())
    return max(_FIRST, *(link_messages.parse(m).index + 1 for m in links))
