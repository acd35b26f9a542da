"""Generic netlink: the number of a family, and messages to it. Source: linux/genetlink.h."""

from __future__ import annotations

import struct

from cnm.errors import NotBuilt
from cnm.kernel.netlink import NetlinkSocket, Request, attributes, text

NETLINK_GENERIC = 16

_CONTROL = 16  # GENL_ID_CTRL
_GET_FAMILY = 3
_FAMILY_ID, _FAMILY_NAME = 1, 2

HEADER = struct.Struct("=BBxx")
"""struct genlmsghdr: command and version."""
_U16 = struct.Struct("=H")


def family_question(name: str) -> Request:
    payload = HEADER.pack(_GET_FAMILY, 1) + text(_FAMILY_NAME, name)
    return Request(_CONTROL, 0, payload, f"look up generic netlink family {name}")


def family(netlink: NetlinkSocket, name: str) -> int:
    """The number of a family, which is the type of messages to it. Raises NotBuilt where the kernel lacks it."""
    answer = netlink.get(family_question(name))
    if answer is None:
        raise NotBuilt(f"this kernel has no {name}: load module {name}")
    return int(_U16.unpack(attributes(answer.payload, HEADER.size)[_FAMILY_ID])[0])
