"""The filter tables of iptables, of both backends and both families, looked at without starting a program.

A look costs some system calls, so it may be repeated every few seconds; what changed is then read with iptables.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from cnm.kernel import legacy_tables
from cnm.kernel.netlink import NetlinkError, NetlinkSocket, Request, attributes, text
from cnm.kernel.nft_transaction import NETLINK_NETFILTER

_GET_CHAIN = 10 << 8 | 4  # NFNL_SUBSYS_NFTABLES, NFT_MSG_GETCHAIN
_CHAIN_TABLE, _CHAIN_NAME, _CHAIN_POLICY = 1, 3, 5  # NFTA_CHAIN_*
_NF_DROP = 0
_FAMILY_HEADER = struct.Struct("=BBH")  # struct nfgenmsg
_POLICY = struct.Struct(">I")
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}


class Backend(StrEnum):
    """Where iptables keeps its rules: two independent sets of tables, which packets pass both."""

    NFT = "nft"
    LEGACY = "legacy"


@dataclass(frozen=True)
class FilterTable:
    """What was seen of one filter table."""

    backend: Backend
    version: int
    """4 or 6."""
    has_chain: bool
    """The chain that was asked for is there."""
    forward_drops: bool
    """The policy of FORWARD is DROP."""
    entries: bytes = b""
    """Legacy only: all rules. Those of nftables are not in here: the kernel tells when they change."""

    @property
    def program(self) -> str:
        """As users call it: "ip6tables-legacy"."""
        return f"{'ip6tables' if self.version == 6 else 'iptables'}-{self.backend}"


class FilterTables:
    """Looks in the namespace that both the thread that makes it and the one that uses it are in."""

    def __init__(self) -> None:
        self._netlink = NetlinkSocket(NETLINK_NETFILTER)

    def close(self) -> None:
        self._netlink.close()

    def look(self, chain: str) -> tuple[FilterTable, ...]:
        """The filter tables that have `chain`, or drop what is forwarded. Raises KernelError."""
        return tuple(table for table in self._look(chain) if table.has_chain or table.forward_drops)

    def _look(self, chain: str) -> Iterator[FilterTable]:
        for version in _FAMILIES:
            forward = self._nft_chain(version, "filter", "FORWARD")
            drops = forward is not None and forward.get(_CHAIN_POLICY) == _POLICY.pack(_NF_DROP)
            yield FilterTable(Backend.NFT, version, self.has_nft_chain(version, "filter", chain), drops)
            if legacy := legacy_tables.read(version):
                yield FilterTable(
                    Backend.LEGACY, version, legacy.has_chain(chain), legacy.forward_drops, legacy.entries
                )

    def has_nft_chain(self, version: int, table: str, chain: str) -> bool:
        return self._nft_chain(version, table, chain) is not None

    def _nft_chain(self, version: int, table: str, chain: str) -> dict[int, bytes] | None:
        """The attributes of a chain of nftables, None where it is not there."""
        header = _FAMILY_HEADER.pack(_FAMILIES[version], 0, 0)
        payload = header + text(_CHAIN_TABLE, table) + text(_CHAIN_NAME, chain)
        try:
            found = self._netlink.get(Request(_GET_CHAIN, 0, payload, f"look for chain {table} {chain}"))
        except NetlinkError as error:
            if error.errno == errno.EOPNOTSUPP:  # nftables without this family
                return None
            raise
        return attributes(found.payload, _FAMILY_HEADER.size) if found else None
