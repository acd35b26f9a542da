"""What is particular to a kind of link, IFLA_INFO_DATA: to `Link.mode` and `Link.vxlan`, and back.

Source: linux/if_link.h (IFLA_MACVLAN_*, IFLA_IPVLAN_*, IFLA_VLAN_*, IFLA_VXLAN_*).
"""

from __future__ import annotations

import socket
import struct

from cnm.kernel.netlink import attribute, u8, u32
from cnm.kernel.state import LinkKind, Vxlan

ON_PARENT = frozenset({LinkKind.MACVLAN, LinkKind.IPVLAN, LinkKind.VLAN})
"""Kinds of links that stand on another one."""

_IFLA_MACVLAN_MODE = 1
_IFLA_IPVLAN_MODE = 1
_IFLA_IPVLAN_FLAGS = 2
_IFLA_VLAN_ID = 1
_IFLA_VXLAN_ID = 1
_IFLA_VXLAN_LOCAL = 4
_IFLA_VXLAN_LEARNING = 7
_IFLA_VXLAN_PROXY = 11
_IFLA_VXLAN_PORT = 15
_IFLA_VXLAN_LOCAL6 = 17

_MACVLAN_MODES = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8}
_IPVLAN_MODES = {"l2": 0, "l3": 1, "l3s": 2}
_IPVLAN_FLAGS = {"bridge": 0, "private": 1, "vepa": 2}

_U16 = struct.Struct("=H")
_U32 = struct.Struct("=I")
_PORT = struct.Struct("!H")


def pack(kind: LinkKind, mode: str) -> bytes:
    """The attributes inside IFLA_INFO_DATA; none for other kinds. Raises KeyError or ValueError for no such mode."""
    if kind is LinkKind.MACVLAN:
        return u32(_IFLA_MACVLAN_MODE, _MACVLAN_MODES[mode])
    if kind is LinkKind.IPVLAN:
        layer, _, flag = mode.partition(":")
        return _u16(_IFLA_IPVLAN_MODE, _IPVLAN_MODES[layer]) + _u16(_IFLA_IPVLAN_FLAGS, _IPVLAN_FLAGS[flag])
    if kind is LinkKind.VLAN:
        return _u16(_IFLA_VLAN_ID, int(mode))
    return b""


def unpack(kind: LinkKind, data: dict[int, bytes]) -> str:
    """The mode of a link that the kernel lists; "" for other kinds, and for what this module has no word for."""
    if kind is LinkKind.MACVLAN:
        return _word(_MACVLAN_MODES, _U32.unpack(data.get(_IFLA_MACVLAN_MODE, b"\0\0\0\0"))[0])
    if kind is LinkKind.IPVLAN:
        layer = _word(_IPVLAN_MODES, _number(data, _IFLA_IPVLAN_MODE))
        return f"{layer}:{_word(_IPVLAN_FLAGS, _number(data, _IFLA_IPVLAN_FLAGS))}"
    if kind is LinkKind.VLAN:
        return str(_number(data, _IFLA_VLAN_ID))
    return ""


def pack_vxlan(vxlan: Vxlan) -> bytes:
    """The attributes inside IFLA_INFO_DATA of a new device; without its port the kernel takes 8472."""
    return (
        u32(_IFLA_VXLAN_ID, vxlan.vni)
        + pack_vxlan_change(vxlan)
        + u8(_IFLA_VXLAN_PROXY, 1)
        + attribute(_IFLA_VXLAN_PORT, _PORT.pack(vxlan.port))
    )


def pack_vxlan_change(vxlan: Vxlan) -> bytes:
    """Those that an existing device takes; a local address of another family it does not."""
    if ":" in vxlan.local:
        local = attribute(_IFLA_VXLAN_LOCAL6, socket.inet_pton(socket.AF_INET6, vxlan.local))
    else:
        local = attribute(_IFLA_VXLAN_LOCAL, socket.inet_pton(socket.AF_INET, vxlan.local))
    return local + u8(_IFLA_VXLAN_LEARNING, vxlan.learning)


def unpack_vxlan(data: dict[int, bytes], port_learns: bool) -> Vxlan:
    """A device that the kernel lists; `port_learns` says whether it is a bridge port that learns."""
    local = data.get(_IFLA_VXLAN_LOCAL) or data.get(_IFLA_VXLAN_LOCAL6) or b""
    family = socket.AF_INET if len(local) == 4 else socket.AF_INET6
    (vni,) = _U32.unpack(data.get(_IFLA_VXLAN_ID, b"\0\0\0\0"))
    (port,) = _PORT.unpack(data.get(_IFLA_VXLAN_PORT, b"\0\0"))
    learning = port_learns or data.get(_IFLA_VXLAN_LEARNING, b"\0") != b"\0"
    return Vxlan(vni, socket.inet_ntop(family, local) if local else "", port, learning)


def _word(words: dict[str, int], number: int) -> str:
    return next((word for word, value in words.items() if value == number), "")


def _number(data: dict[int, bytes], kind: int) -> int:
    return int(_U16.unpack(data.get(kind, b"\0\0"))[0])


def _u16(kind: int, value: int) -> bytes:
    return attribute(kind, _U16.pack(value))
