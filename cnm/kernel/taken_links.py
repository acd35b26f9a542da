"""Links that other programs make in the host's namespace: taken into a sandbox, and given back.

They carry no mark of ours, before or after: which link it is follows from its name. Whoever moves a link also renames
it, in one message, so that no other program ever sees it half done (net/core/rtnetlink.c, do_setlink).
"""

from __future__ import annotations

import errno
import os

from cnm.errors import Conflict, KernelError
from cnm.kernel import link_messages
from cnm.kernel.link_messages import ObservedLink
from cnm.kernel.namespaces import Namespaces
from cnm.kernel.netlink import NetlinkSocket
from cnm.kernel.state import HOST, Link


def take(
    host: NetlinkSocket, inside: NetlinkSocket, namespaces: Namespaces, namespace: str, link: Link
) -> None:
    """Move the link to where `inside` is, unless it is there; it is down afterwards, and has its MAC.

    Raises KernelError where the host's namespace has no such link, Conflict where its new name is taken.
    """
    theirs, have = _find(host, link.taken_from), _find(inside, link.name)
    if theirs is None and have is None:
        raise KernelError(
            f"interface {link.taken_from} is not in the host's namespace: the program that owns it did not make it, "
            "or took it away",
            errno.ENODEV,
        )
    if theirs is not None:
        if have is not None:
            raise Conflict(
                f"interface {link.name} exists in {namespace} already: {link.taken_from} cannot have that name"
            )
        _move(host, theirs, namespaces, namespace, link.name)
        have = _find(inside, link.name)
    if have is not None and link.mac and have.link.mac != link.mac:
        inside.execute([link_messages.set_address(link.name, have.index, link.mac)])


def give_back(host: NetlinkSocket, inside: NetlinkSocket, namespaces: Namespaces, link: Link) -> None:
    """Move the link back to the host's namespace, down, under the name it had; one that is gone is no error.

    Should that name be taken meanwhile, it comes back as `gb<its index>`: its owner can find it by its MAC.
    """
    have = _find(inside, link.name)
    if have is None:
        return
    name = link.taken_from if _find(host, link.taken_from) is None else f"gb{have.index:x}"
    _move(inside, have, namespaces, HOST, name)


def _find(netlink: NetlinkSocket, name: str) -> ObservedLink | None:
    message = netlink.get(link_messages.get(name))
    return link_messages.parse(message) if message else None


def _move(
    netlink: NetlinkSocket, found: ObservedLink, namespaces: Namespaces, namespace: str, name: str
) -> None:
    descriptor = namespaces.open(namespace)
    try:
        netlink.execute([link_messages.move(found.link.name, found.index, descriptor, name)])
    finally:
        os.close(descriptor)
