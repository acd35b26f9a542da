"""The fields of nftables elements: from text and numbers to the bytes that the kernel compares, and back.

Inside a key or value of several fields each is padded to four bytes; ports and addresses are in network byte order.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Sequence
from functools import lru_cache

from cnm.errors import InvalidParameter
from cnm.kernel.state import FieldType

_PORT = struct.Struct(">H")
_PADDED_PORT = struct.Struct(">Hxx")
_PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}
_NF_PROTOCOLS = {"ipv4": 2, "ipv6": 10}  # NFPROTO_IPV4, NFPROTO_IPV6

Field = str | int


class Record:
    """The fields of a key or value: several of them are padded to four bytes each."""

    def __init__(self, kinds: Sequence[FieldType]) -> None:
        several = len(kinds) > 1
        self._kinds = kinds
        self._packers = [(_PADDED_PACKERS if several else _PACKERS)[kind] for kind in kinds]
        self._unpackers: list[tuple[int, int, Callable[[bytes], Field]]] = []
        self.size = 0
        for kind in kinds:
            size = _SIZES[kind]
            self._unpackers.append((self.size, self.size + size, _UNPACKERS[kind]))
            self.size += (size + 3) & ~3 if several else size
        self.padded_size = (self.size + 3) & ~3
        self._padding = b"\0" * (self.padded_size - self.size)

    def pack(self, fields: Sequence[Field]) -> bytes:
        """Raises InvalidParameter for fields of other types or another number."""
        try:
            packed = b"".join([pack(field) for pack, field in zip(self._packers, fields, strict=True)])
        except (ValueError, OSError, KeyError, TypeError, struct.error):
            kinds = " . ".join(kind.value for kind in self._kinds)
            raise InvalidParameter(f"{fields} does not fit a firewall element of type {kinds}") from None
        return packed + self._padding if self._padding else packed

    def unpack(self, data: bytes, offset: int) -> tuple[Field, ...]:
        return tuple([unpack(data[offset + start : offset + end]) for start, end, unpack in self._unpackers])


@lru_cache(maxsize=4096)
def _ifname(name: Field) -> bytes:
    encoded = str(name).encode()
    if not 0 < len(encoded) < 16:
        raise ValueError(name)
    return encoded.ljust(16, b"\0")


@lru_cache(maxsize=4096)
def _ifname_text(data: bytes) -> str:
    return data.rstrip(b"\0").decode(errors="surrogateescape")


@lru_cache(maxsize=4096)
def _ipv4(address: Field) -> bytes:
    return socket.inet_pton(socket.AF_INET, str(address))


@lru_cache(maxsize=4096)
def _ipv6(address: Field) -> bytes:
    return socket.inet_pton(socket.AF_INET6, str(address))


@lru_cache(maxsize=4096)
def _ipv4_text(data: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET, data)


@lru_cache(maxsize=4096)
def _ipv6_text(data: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET6, data)


@lru_cache(maxsize=4096)
def _ether(mac: Field) -> bytes:
    octets = bytes.fromhex(str(mac).replace(":", ""))
    if len(octets) != 6:
        raise ValueError(mac)
    return octets


def _ether_text(data: bytes) -> str:
    return data.hex(":")


def _byte_of(names: dict[str, int]) -> Callable[[Field], bytes]:
    """Known names as one byte; the kernel's other numbers as they are, since a dump may hold them."""
    known: dict[Field, bytes] = {name: bytes((number,)) for name, number in names.items()}

    def pack(field: Field) -> bytes:
        return known[field] if field in known else bytes((int(field),))

    return pack


def _name_of(names: dict[str, int]) -> Callable[[bytes], Field]:
    known = {number: name for name, number in names.items()}
    return lambda data: known.get(data[0], data[0])


def _raw24(number: Field) -> bytes:
    try:
        return int(number).to_bytes(3)
    except OverflowError:
        raise ValueError(number) from None


def _port_number(data: bytes) -> int:
    return data[0] << 8 | data[1]


_SIZES = {
    FieldType.IFNAME: 16,
    FieldType.IPV4: 4,
    FieldType.IPV6: 16,
    FieldType.ETHER: 6,
    FieldType.INET_PROTO: 1,
    FieldType.INET_SERVICE: 2,
    FieldType.NF_PROTO: 1,
    FieldType.RAW128: 16,
    FieldType.RAW24: 3,
}
_PACKERS: dict[FieldType, Callable[[Field], bytes]] = {
    FieldType.IFNAME: _ifname,
    FieldType.IPV4: _ipv4,
    FieldType.IPV6: _ipv6,
    FieldType.ETHER: _ether,
    FieldType.INET_PROTO: _byte_of(_PROTOCOLS),
    FieldType.INET_SERVICE: _PORT.pack,
    FieldType.NF_PROTO: _byte_of(_NF_PROTOCOLS),
    FieldType.RAW128: _ipv6,
    FieldType.RAW24: _raw24,
}
_UNPACKERS: dict[FieldType, Callable[[bytes], Field]] = {
    FieldType.IFNAME: _ifname_text,
    FieldType.IPV4: _ipv4_text,
    FieldType.IPV6: _ipv6_text,
    FieldType.ETHER: _ether_text,
    FieldType.INET_PROTO: _name_of(_PROTOCOLS),
    FieldType.INET_SERVICE: _port_number,
    FieldType.NF_PROTO: _name_of(_NF_PROTOCOLS),
    FieldType.RAW128: _ipv6_text,
    FieldType.RAW24: int.from_bytes,
}


def _padded(pack: Callable[[Field], bytes], size: int) -> Callable[[Field], bytes]:
    padding = b"\0" * (-size & 3)
    return lambda field: pack(field) + padding


_PADDED_PACKERS = {
    kind: pack if _SIZES[kind] % 4 == 0 else _padded(pack, _SIZES[kind]) for kind, pack in _PACKERS.items()
} | {FieldType.INET_SERVICE: _PADDED_PORT.pack}
