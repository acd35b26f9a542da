"""Waits until what was made carries packets: the kernel turns links on, and IPv6 addresses, a moment after it says yes.

Links: the host's end of a pair is opened before the sandbox's, so without a carrier. Its queue, the bridge port and the
bridge's own queue are turned on later by a work item (net/core/link_watch.c). What is sent before is lost; where that
was an ARP request, a container has no IPv4 until the next one a second later. To ask for one link takes its turn at
once (rtnl_getlink, from Linux 6.8 on); on older kernels the work item is waited for.

Addresses: an IPv6 address is used as a source at once, but packets to it are not taken for the host's own until a work
item (addrconf_dad_work in net/ipv6/addrconf.c) has entered its local route, without duplicate address detection too. A
neighbour's answer is lost then, and asked for again a second later.

On an idle machine either takes some 50 µs, on a busy one milliseconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

from cnm.kernel import link_messages, route_messages
from cnm.kernel.netlink import Message, Request
from cnm.kernel.state import KernelState

Get = Callable[[Request], Message | None]
"""Asks the kernel for one object; None where there is none."""

_LONGEST_SECONDS = 1.5
"""A work item comes at most a second late, and then has to get hold of the kernel's lock."""
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.0001, 0.002
"""Between two looks; each is twice as long as the one before."""


def await_links(get: Get, states: Iterable[KernelState]) -> None:
    """Look at the host's new ends of pairs and their bridges until each is on, has no carrier, or is gone."""
    for name in _ends_on_bridges(states):
        _await(get, link_messages.get(name), _is_on)


def await_addresses(get: Get, addresses: Iterable[str]) -> None:
    """Look until the kernel takes each of these IPv6 addresses (CIDR text) for its own."""
    for address in addresses:
        _await(get, route_messages.lookup(address), route_messages.is_local)


def _ends_on_bridges(states: Iterable[KernelState]) -> Iterator[str]:
    """Each end is followed by its bridge, which is turned on by its ports."""
    for state in states:
        for link in state.links:
            if link.peer and not link.peer.leaves and link.up:
                yield link.name
                if link.master:
                    yield link.master


def _is_on(message: Message | None) -> bool:
    return message is None or not link_messages.is_late(message)


def _await(get: Get, request: Request, is_ready: Callable[[Message | None], bool]) -> None:
    deadline = time.monotonic() + _LONGEST_SECONDS
    pause = _FIRST_PAUSE_SECONDS
    while not is_ready(get(request)) and time.monotonic() < deadline:
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
