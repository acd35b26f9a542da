"""Whole tables with few rules, packed into netlink messages: for namespaces where no libnftables context is at hand.

A context of libnftables belongs to the namespace that it was made in, and cannot be made once the process has 1,024
descriptors. Layouts are those of linux/netfilter/nf_tables.h; numbers in them are big-endian.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from cnm.kernel.netlink import NLM_F_CREATE, NLM_F_EXCL, attribute, attributes, elements, nested, text
from cnm.kernel.nft_elements import Message

_SUBSYSTEM = 10 << 8  # NFNL_SUBSYS_NFTABLES
_NEW_TABLE, GET_TABLE, _DELETE_TABLE = _SUBSYSTEM | 0, _SUBSYSTEM | 1, _SUBSYSTEM | 2
_NEW_CHAIN = _SUBSYSTEM | 3
_NEW_RULE, GET_RULE = _SUBSYSTEM | 6, _SUBSYSTEM | 7
_NLM_F_APPEND = 0x800
_FAMILY_HEADER = struct.pack("=BBH", socket.AF_INET, 0, 0)  # struct nfgenmsg; NFPROTO_IPV4 is AF_INET

_TABLE_NAME = 1
_CHAIN_TABLE, _CHAIN_NAME, _CHAIN_HOOK, _CHAIN_POLICY, _CHAIN_TYPE = 1, 3, 4, 5, 7
_HOOK_NUMBER, _HOOK_PRIORITY = 1, 2
RULE_TABLE, RULE_CHAIN, RULE_EXPRESSIONS = 1, 2, 4
_LIST_ELEMENT = 1
_EXPRESSION_NAME, _EXPRESSION_DATA = 1, 2
_DATA_VALUE = 1
_ACCEPT = 1

_LOCAL_OUT = 3  # NF_INET_LOCAL_OUT
RAW_PRIORITY = -300  # NF_IP_PRI_RAW: before connections are tracked

_REGISTER, _VERDICT_REGISTER = 1, 0  # NFT_REG_1, NFT_REG_VERDICT
_META_KEY_OIF, _META_KEY_L4PROTO = 5, 16
_EQUAL, _NOT_EQUAL = 0, 1  # enum nft_cmp_ops
_DATA_VERDICT, _VERDICT_CODE = 2, 1
_LOOPBACK = struct.pack("=I", 1)  # the index of lo in every namespace
_NETWORK_HEADER, _TRANSPORT_HEADER = 1, 2
_CHECKSUM_INET = 1  # NFT_PAYLOAD_CSUM_INET
_CHECKSUM_OFFSETS = {socket.IPPROTO_UDP: 6, socket.IPPROTO_TCP: 16}
_SOURCE_ADDRESS, _DESTINATION_ADDRESS = 12, 16  # within the IPv4 header
_SOURCE_PORT, _DESTINATION_PORT = 0, 2  # within the headers of UDP and TCP


class Rewrite(NamedTuple):
    """Of packets that this namespace sends from or to an address: one port becomes another, untracked."""

    protocol: int
    """socket.IPPROTO_UDP or IPPROTO_TCP."""
    address: str
    """Bare IPv4 text."""
    port: int
    becomes: int
    source: bool
    """Address and port are the packet's source, else its destination."""


def creation(table: str, chain: str, rewrites: Sequence[Rewrite], *, replace: bool = False) -> list[Message]:
    """A transaction that makes a table of family ip with one chain, for packets that leave by loopback.

    It fails with EEXIST where one is called so, unless it is to `replace` it: whatever closes the socket of such a
    transaction waits some 10 ms until the old table is freed.
    """
    about = f"nftables table ip {table}"
    name = _FAMILY_HEADER + text(_TABLE_NAME, table)
    new = Message(_NEW_TABLE, NLM_F_CREATE | NLM_F_EXCL, name, about)
    old = (Message(_NEW_TABLE, NLM_F_CREATE, name, about), Message(_DELETE_TABLE, 0, name, about))
    return [
        *(old if replace else ()),
        new,
        Message(_NEW_CHAIN, NLM_F_CREATE, _FAMILY_HEADER + _chain(table, chain), about),
        *(
            Message(
                _NEW_RULE, NLM_F_CREATE | _NLM_F_APPEND, _FAMILY_HEADER + _rule(table, chain, does), about
            )
            for does in (_only_loopback(), *map(expressions, rewrites))
        ),
    ]


def deletion(table: str) -> list[Message]:
    """A transaction that fails with ENOENT where there is no such table."""
    payload = _FAMILY_HEADER + text(_TABLE_NAME, table)
    return [Message(_DELETE_TABLE, 0, payload, f"nftables table ip {table}")]


def rules_of(table: str, chain: str) -> bytes:
    """The payload of a question (GET_RULE, a dump) for a chain's rules."""
    return _FAMILY_HEADER + text(RULE_TABLE, table) + text(RULE_CHAIN, chain)


def is_for_loopback(payload: bytes) -> bool:
    """Whether a rule that the kernel lists has all packets pass that leave otherwise: the first of `creation`."""
    listed = _listed(payload)
    if [_step(element)[0] for element in listed] != ["meta", "cmp", "immediate"]:
        return False
    meta, compared, verdict = (attributes(attributes(element)[_EXPRESSION_DATA]) for element in listed)
    accepts = attributes(attributes(verdict[2]).get(_DATA_VERDICT, b"")).get(_VERDICT_CODE)
    return (
        meta[2] == struct.pack(">I", _META_KEY_OIF)
        and compared[2] == struct.pack(">I", _NOT_EQUAL)
        and attributes(compared[3])[_DATA_VALUE] == _LOOPBACK
        and accepts == struct.pack(">I", _ACCEPT)
    )


def rewrite_of(payload: bytes) -> Rewrite | None:
    """What a rule that the kernel lists (its message's payload) does; None where it is another sort of rule."""
    listed = _listed(payload)
    steps = [_step(element) for element in listed]
    values = [value for _name, value in steps if value]
    if [name for name, _value in steps] != _STEPS or [len(value) for value in values] != [4, 1, 2, 2]:
        return None
    address, protocol, port, becomes = values
    return Rewrite(
        protocol[0],
        socket.inet_ntoa(address),
        int.from_bytes(port),
        int.from_bytes(becomes),
        source=_offset(listed[0]) == _SOURCE_ADDRESS,
    )


def _listed(payload: bytes) -> list[bytes]:
    """The expressions of a rule that the kernel lists."""
    rule = attributes(payload, len(_FAMILY_HEADER))
    return list(elements(rule.get(RULE_EXPRESSIONS, b"")))


def _offset(element: bytes) -> int:
    """Of a payload expression."""
    return int.from_bytes(attributes(attributes(element)[_EXPRESSION_DATA])[3])


@lru_cache(maxsize=256)
def _step(element: bytes) -> tuple[str, bytes]:
    """(name of the expression, the constant in it, empty where it has none). All but the ports are alike everywhere."""
    parts = attributes(element)
    name = parts[_EXPRESSION_NAME].rstrip(b"\0").decode()
    data = attributes(parts.get(_EXPRESSION_DATA, b""))
    constant = data.get({"cmp": 3, "immediate": 2}.get(name, 0), b"")
    return name, attributes(constant).get(_DATA_VALUE, b"") if constant else b""


def expressions(rewrite: Rewrite) -> bytes:
    address, port = (
        (_SOURCE_ADDRESS, _SOURCE_PORT) if rewrite.source else (_DESTINATION_ADDRESS, _DESTINATION_PORT)
    )
    return b"".join(
        (
            _load(_NETWORK_HEADER, address, 4),
            _equals(socket.inet_aton(rewrite.address)),
            _expression("meta", _u32(2, _META_KEY_L4PROTO), _u32(1, _REGISTER)),
            _equals(bytes((rewrite.protocol,))),
            _load(_TRANSPORT_HEADER, port, 2),
            _equals(struct.pack(">H", rewrite.port)),
            _expression("notrack"),
            _expression(
                "immediate",
                _u32(1, _REGISTER),
                nested(2, attribute(_DATA_VALUE, struct.pack(">H", rewrite.becomes))),
            ),
            _write(port, rewrite.protocol),
        )
    )


def _only_loopback() -> bytes:
    """Whatever leaves otherwise passes at once: it costs each packet of the sandbox."""
    accept = nested(_DATA_VERDICT, _u32(_VERDICT_CODE, _ACCEPT))
    return b"".join(
        (
            _expression("meta", _u32(2, _META_KEY_OIF), _u32(1, _REGISTER)),
            _compares(_NOT_EQUAL, _LOOPBACK),
            _expression("immediate", _u32(1, _VERDICT_REGISTER), nested(2, accept)),
        )
    )


_STEPS = ["payload", "cmp", "meta", "cmp", "payload", "cmp", "notrack", "immediate", "payload"]
"""The names of what `expressions` packs."""


def _chain(table: str, chain: str) -> bytes:
    hook = nested(
        _CHAIN_HOOK,
        _u32(_HOOK_NUMBER, _LOCAL_OUT),
        attribute(_HOOK_PRIORITY, struct.pack(">i", RAW_PRIORITY)),
    )
    return b"".join(
        (
            text(_CHAIN_TABLE, table),
            text(_CHAIN_NAME, chain),
            hook,
            _u32(_CHAIN_POLICY, _ACCEPT),
            text(_CHAIN_TYPE, "filter"),
        )
    )


def _rule(table: str, chain: str, does: bytes) -> bytes:
    return text(RULE_TABLE, table) + text(RULE_CHAIN, chain) + nested(RULE_EXPRESSIONS, does)


def _expression(name: str, *data: bytes) -> bytes:
    return nested(
        _LIST_ELEMENT, text(_EXPRESSION_NAME, name), nested(_EXPRESSION_DATA, *data) if data else b""
    )


@lru_cache(maxsize=64)
def _load(base: int, offset: int, length: int) -> bytes:
    return _expression("payload", _u32(1, _REGISTER), _u32(2, base), _u32(3, offset), _u32(4, length))


@lru_cache(maxsize=64)
def _write(offset: int, protocol: int) -> bytes:
    return _expression(
        "payload",
        _u32(5, _REGISTER),
        _u32(2, _TRANSPORT_HEADER),
        _u32(3, offset),
        _u32(4, 2),
        _u32(6, _CHECKSUM_INET),
        _u32(7, _CHECKSUM_OFFSETS[protocol]),
        _u32(8, 0),
    )


def _equals(value: bytes) -> bytes:
    return _compares(_EQUAL, value)


def _compares(how: int, value: bytes) -> bytes:
    return _expression("cmp", _u32(1, _REGISTER), _u32(2, how), nested(3, attribute(_DATA_VALUE, value)))


def _u32(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack(">I", value))
