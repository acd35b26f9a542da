"""What is particular to links that stand on another (macvlan, ipvlan, vlan): IFLA_INFO_DATA, to `Link.mode` and back.

Source: linux/if_link.h (IFLA_MACVLAN_*, IFLA_IPVLAN_*, IFLA_VLAN_*).
"""

from __future__ import annotations

import struct

from cnm.kernel.netlink import attribute, u32
from cnm.kernel.state import LinkKind

ON_PARENT = frozenset({LinkKind.MACVLAN, LinkKind.IPVLAN, LinkKind.VLAN})
"""Kinds of links that stand on another one."""

_IFLA_MACVLAN_MODE = 1
_IFLA_IPVLAN_MODE = 1
_IFLA_IPVLAN_FLAGS = 2
_IFLA_VLAN_ID = 1

_MACVLAN_MODES = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8}
_IPVLAN_MODES = {"l2": 0, "l3": 1, "l3s": 2}
_IPVLAN_FLAGS = {"bridge": 0, "private": 1, "vepa": 2}

_U16 = struct.Struct("=H")
_U32 = struct.Struct("=I")


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


def _word(words: dict[str, int], number: int) -> str:
    return next((word for word, value in words.items() if value == number), "")


def _number(data: dict[int, bytes], kind: int) -> int:
    return int(_U16.unpack(data.get(kind, b"\0\0"))[0])


def _u16(kind: int, value: int) -> bytes:
    return attribute(kind, _U16.pack(value))
