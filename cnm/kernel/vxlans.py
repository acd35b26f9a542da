"""VXLAN devices: made in a network's namespace with the host's as their underlay, and refused in clear words.

Such a device is created as a sub-interface is: from the host's namespace, under a name of chance and in a group of ours
until it has its own name and its alias.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable

from cnm.errors import CnmError, Conflict
from cnm.kernel import link_messages, sub_interfaces
from cnm.kernel.diff import is_another, is_ours
from cnm.kernel.netlink import NetlinkError, NetlinkSocket
from cnm.kernel.state import Link, LinkKind, Vxlan
from cnm.kernel.sub_interfaces import HostSocket

_PASSING = (errno.EEXIST, errno.EBUSY, errno.EADDRINUSE)
_LONGEST_SECONDS, _PAUSE_SECONDS = 1.0, 0.02
"""A namespace that nobody uses any more keeps its devices with their VNIs for some 50 ms, and their socket for 130."""


def make(
    link: Link,
    master: int,
    descriptor: int,
    inside: NetlinkSocket,
    host: HostSocket,
    reap: Callable[[], None],
) -> None:
    """Create a VXLAN device, or bring ours that exists to what it should be.

    `inside` is a socket of the namespace that it is made in, `descriptor` an open file of that, `master` the index of a
    bridge there, 0 for none. `reap` deletes what is retired, whose VNI it may be.
    """
    assert link.vxlan is not None
    deadline, pause = time.monotonic() + _LONGEST_SECONDS, 0.0
    while not _is_there(link, link.vxlan, master, inside):
        error = sub_interfaces.create(link, descriptor, inside, host, master=master)
        if error is None:
            return
        if error.errno not in _PASSING or time.monotonic() > deadline:
            raise _explained(error, link, link.vxlan, host)
        reap()
        time.sleep(pause)
        pause = _PAUSE_SECONDS


def _is_there(link: Link, vxlan: Vxlan, master: int, inside: NetlinkSocket) -> bool:
    """Whether ours exists and was brought to what it should be; one of another tunnel is deleted."""
    message = inside.get(link_messages.get(link.name))
    if message is None:
        return False
    found = link_messages.parse(message)
    if not is_ours(found.link) or (found.link.alias, found.link.kind) != (link.alias, link.kind):
        raise Conflict(
            f"interface {link.name} exists and is not ours: rename or delete it, or choose another name"
        )
    if is_another(link, found.link):
        inside.execute([link_messages.delete(link.name, found.index)])
        return False
    inside.execute([link_messages.change(link, found, master)])
    if link.master:
        inside.execute([link_messages.port_flags(link, found.index)])
    if vxlan != found.link.vxlan:
        inside.execute([link_messages.change_tunnel(link.name, found.index, vxlan)])
    return True


def _explained(error: NetlinkError, link: Link, vxlan: Vxlan, host: HostSocket) -> CnmError:
    doing = f"cannot create interface {link.name}"
    if error.errno == errno.EEXIST:
        return Conflict(
            f"{doing}: VNI {vxlan.vni} on UDP port {vxlan.port} is in use by {_holder(vxlan, host)}: delete that, "
            "or give the network another VNI"
        )
    if error.errno in (errno.EADDRINUSE, errno.EBUSY):
        return Conflict(
            f"{doing}: UDP port {vxlan.port} of the host is in use by another program: end that, or choose another port"
        )
    return sub_interfaces.explained(error, link)


def _holder(vxlan: Vxlan, host: HostSocket) -> str:
    """Who has the VNI, as far as one can see: what is in other namespaces is found by nobody."""
    with host() as netlink:
        links = [link_messages.parse(m).link for m in netlink.dump(link_messages.list_all())]
    for link in links:
        if (
            link.kind is LinkKind.VXLAN
            and link.vxlan
            and (link.vxlan.vni, link.vxlan.port) == (vxlan.vni, vxlan.port)
        ):
            return f"interface {link.name} of the host"
    return "a network namespace of another program"
