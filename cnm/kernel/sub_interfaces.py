"""Sub-interfaces in sandboxes: made on a parent of the host's namespace, found by their mark, refused in clear words.

Such a link is created from the host's namespace in the sandbox's, under a name of chance: until it has its own name and
its alias, its group says that it is ours. Moving it later would cost what moving a veth pair costs.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial

from cnm.errors import CnmError, Conflict, KernelError, NotBuilt
from cnm.kernel import link_messages, observation
from cnm.kernel.diff import is_another, is_ours_inside
from cnm.kernel.link_messages import ObservedLink
from cnm.kernel.netlink import NetlinkError, NetlinkSocket, Request
from cnm.kernel.state import Link

HostSocket = Callable[[], AbstractContextManager[NetlinkSocket]]
"""Lends the socket of the host's namespace."""

_REFUSALS = {
    errno.EINVAL: "in mode passthru a parent carries one interface only, and no MTU can be larger than the parent's: "
    "delete what is on it, or choose another parent",
    errno.EBUSY: "a bridge, a bond or another kind of sub-interface uses it: choose another parent",
    errno.ENETDOWN: "it is down: set it up",
    errno.EADDRINUSE: "the MAC address is in use on it, maybe by a process in a sandbox that lost its namespace: end "
    "that, or choose another address",
}
"""What drivers/net/macvlan.c, drivers/net/ipvlan and net/8021q mean by these."""

_PASSING = (errno.EINVAL, errno.EBUSY, errno.EADDRINUSE)
_LONGEST_SECONDS, _PAUSE_SECONDS = 1.0, 0.02
"""A namespace that nobody uses any more keeps its links, their MACs and their parents for a moment."""


def make(link: Link, namespace: str, descriptor: int, inside: NetlinkSocket, host: HostSocket) -> None:
    """Create a sub-interface, or bring ours that exists to what it should be.

    `inside` is a socket of the sandbox's namespace, `descriptor` an open file of it, `namespace` its name in errors.
    """
    with host() as netlink:
        parent = parent_index(netlink, link)
    message = inside.get(link_messages.get(link.name))
    if message is not None:
        found = link_messages.parse(message)
        if not is_ours_inside(found.link) or found.link.alias != link.alias:
            raise Conflict(f"interface {link.name} cannot be made in {namespace}: file exists")
        if not is_of_another_sort(link, found, host):
            inside.execute([link_messages.change(link, found)])
            return
        inside.execute([link_messages.delete(link.name, found.index)])
    deadline = time.monotonic() + _LONGEST_SECONDS
    while (error := create(link, descriptor, inside, host, parent=parent)) is not None:
        if error.errno not in _PASSING or time.monotonic() > deadline:
            raise explained(error, link)
        time.sleep(_PAUSE_SECONDS)


def create(
    link: Link, descriptor: int, inside: NetlinkSocket, host: HostSocket, *, parent: int = 0, master: int = 0
) -> NetlinkError | None:
    """None where it went well; else nothing is left. `parent` is an index of the host's, `master` of the other's."""
    interim = f"cm{os.urandom(6).hex()}"
    with host() as netlink:
        (error,) = netlink.send([link_messages.create_inside(link, interim, descriptor, parent, master)])
    if error is not None:
        return error
    message = inside.get(link_messages.get(interim))
    if message is None:
        raise KernelError(f"interface {link.name} was deleted while it was made: try again")
    index = link_messages.parse(message).index
    (error,) = inside.send([link_messages.configure_inside(link, index)])
    if error is not None:
        inside.send([link_messages.delete(interim, index)])
    return error


def parent_index(host: NetlinkSocket, link: Link) -> int:
    """Index of the interface of the host's namespace that a link stands on, 0 for one that stands on none."""
    if not link.parent:
        return 0
    message = host.get(link_messages.get(link.parent))
    if message is None:
        raise KernelError(
            f"cannot create interface {link.name}: its parent {link.parent} does not exist on the host: "
            "bring it back, or make the network anew on another",
            errno.ENODEV,
        )
    return link_messages.parse(message).index


def is_of_another_sort(link: Link, found: ObservedLink, host: HostSocket) -> bool:
    """Whether it stands on another parent or differs in what cannot be changed."""
    return is_another(link, observation.with_parent(found, partial(host_name, host)))


def host_name(host: HostSocket, index: int) -> str:
    """Name of a link of the host's namespace, "" where there is none."""
    with host() as netlink:
        message = netlink.get(link_messages.get_index(index))
    return link_messages.parse(message).link.name if message else ""


def deletions(inside: NetlinkSocket, link: Link) -> Iterator[Request]:
    """By its mark, whatever it is called now; it is deleted at once, since no other end on the host takes it away."""
    for message in inside.dump(link_messages.list_all()):
        found = link_messages.parse(message)
        same = found.link.alias == link.alias if link.alias else found.link.name == link.name
        if same and is_ours_inside(found.link):
            yield link_messages.delete(found.link.name, found.index)


def explained(error: NetlinkError, link: Link) -> CnmError:
    """The kernel's refusal of a link in words that say what to do about it."""
    doing = f"cannot create interface {link.name}"
    if error.errno == errno.EOPNOTSUPP and "type" in error.detail.lower():
        kind = link.kind.value
        return NotBuilt(f"{doing}: this kernel has no {kind} links: load module {_MODULES.get(kind, kind)}")
    if not link.parent or error.errno not in _REFUSALS:
        return error
    return KernelError(f"{doing} on {link.parent}: {_REFUSALS[error.errno]}", error.errno)


_MODULES = {"vlan": "8021q"}
