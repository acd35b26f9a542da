"""The filter table of iptables-legacy, read from the kernel without starting a program.

Layouts are those of linux/netfilter_ipv4/ip_tables.h, linux/netfilter_ipv6/ip6_tables.h and x_tables.h, host order.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cnm.errors import KernelError

_TABLE = b"filter"
_GET_INFO, _GET_ENTRIES = 64, 65  # IPT_SO_GET_INFO, IPT_SO_GET_ENTRIES; the same numbers for IPv6
_INFO = struct.Struct("=32sI5I5III")  # struct ipt_getinfo
_ENTRIES_HEADER = struct.Struct("=32sI4x")  # struct ipt_get_entries
_OFFSETS = struct.Struct("=HH")  # of the target and of the next entry, from the start of this one
_COUNTERS_BYTES = 16  # struct xt_counters
_TARGET_BYTES = 32  # struct xt_entry_target: size, name, revision
_VERDICT = struct.Struct("=i")
_DROP = -1  # -NF_DROP - 1
_FORWARD = 2  # NF_INET_FORWARD
_ATTEMPTS = 5

_libc = ctypes.CDLL(None, use_errno=True)


class _Layout(NamedTuple):
    """What the families differ in; offsets in bytes within struct ipt_entry or ip6t_entry."""

    family: int
    level: int
    names: str
    offsets: int
    counters: int


_LAYOUTS = {
    4: _Layout(socket.AF_INET, socket.IPPROTO_IP, "/proc/thread-self/net/ip_tables_names", 88, 96),
    6: _Layout(socket.AF_INET6, socket.IPPROTO_IPV6, "/proc/thread-self/net/ip6_tables_names", 140, 152),
}


class LegacyTable(NamedTuple):
    """The filter table as it was read; `entries` without counters, equal while no rule changed."""

    entries: bytes
    forward_drops: bool
    """The policy of FORWARD is DROP."""

    def has_chain(self, name: str) -> bool:
        return name.encode() + b"\0" in self.entries


def read(version: int) -> LegacyTable | None:
    """The filter table of IPv4 or IPv6 in the calling thread's namespace, None where there is none.

    A table that nobody has used is not asked for: asking would make it, and its hooks. Raises KernelError.
    """
    layout = _LAYOUTS[version]
    if not _is_there(layout):
        return None
    try:
        with socket.socket(layout.family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as asker:
            return _read(asker.fileno(), layout)
    except OSError as error:
        why = os.strerror(error.errno or 0).lower()
        raise KernelError(f"cannot read the legacy filter table: {why}", error.errno or 0) from None


def _is_there(layout: _Layout) -> bool:
    try:
        return _TABLE.decode() in Path(layout.names).read_text().split()
    except FileNotFoundError:
        return False


def _read(descriptor: int, layout: _Layout) -> LegacyTable:
    for _ in range(_ATTEMPTS):
        info = bytearray(_INFO.pack(_TABLE, *(0,) * 13))
        _ask(descriptor, layout, _GET_INFO, info)
        _, _, *numbers = _INFO.unpack(info)
        policy_offset, size = numbers[5 + _FORWARD], numbers[11]
        answer = bytearray(_ENTRIES_HEADER.size + size)
        _ENTRIES_HEADER.pack_into(answer, 0, _TABLE, size)
        try:
            _ask(descriptor, layout, _GET_ENTRIES, answer)
        except OSError as error:
            if error.errno != errno.EAGAIN:  # the table grew or shrank meanwhile
                raise
            continue
        entries = answer[_ENTRIES_HEADER.size :]
        for offset in _entries(entries, layout):
            start = offset + layout.counters
            entries[start : start + _COUNTERS_BYTES] = bytes(_COUNTERS_BYTES)
        return LegacyTable(bytes(entries), _verdict(entries, policy_offset, layout) == _DROP)
    raise OSError(errno.EAGAIN, "the table keeps changing")


def _ask(descriptor: int, layout: _Layout, option: int, buffer: bytearray) -> None:
    """getsockopt(2) with a buffer that holds the question and gets the answer."""
    length = ctypes.c_uint32(len(buffer))
    place = (ctypes.c_char * len(buffer)).from_buffer(buffer)
    if _libc.getsockopt(descriptor, layout.level, option, place, ctypes.byref(length)) != 0:
        raise OSError(ctypes.get_errno(), "getsockopt")


def _entries(entries: bytearray, layout: _Layout) -> Iterator[int]:
    """Where each entry starts."""
    offset = 0
    while offset < len(entries):
        yield offset
        _, following = _OFFSETS.unpack_from(entries, offset + layout.offsets)
        offset += following


def _verdict(entries: bytearray, offset: int, layout: _Layout) -> int:
    """Of the entry at `offset`, whose target is the standard one: a chain's policy is."""
    target, _ = _OFFSETS.unpack_from(entries, offset + layout.offsets)
    (verdict,) = _VERDICT.unpack_from(entries, offset + target + _TARGET_BYTES)
    return int(verdict)
