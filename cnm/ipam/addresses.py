"""The addresses of one subnet: which are taken, and which comes next."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from cnm.ipam.cidr import Subnet, span
from cnm.ipam.contract import AddressInUse, AddressOutOfRange, PoolExhausted, PoolStatus
from cnm.ipam.runs import Runs

_SATURATED = 2**64 - 1


class Addresses:
    """Addresses are numbers here. Not safe for threads by itself: the address space holds the lock."""

    def __init__(self, subnet: Subnet) -> None:
        self.subnet = subnet
        self._first, self._last = span(subnet)
        self._used = Runs()
        self._after_issued = self._first
        self._reserved = self._never_issued()
        for address in self._reserved:
            self._used.add(address, address)

    def _never_issued(self) -> frozenset[int]:
        """IPv4: network and broadcast address, but not in /31 (RFC 3021) and /32; IPv6: the subnet-router
        anycast address (RFC 4291 section 2.6.1)."""
        if self.subnet.version == 6:
            return frozenset({self._first})
        return frozenset({self._first, self._last}) if self.subnet.prefixlen < 31 else frozenset()

    def cidr(self, address: int) -> str:
        """The address as text with the subnet's prefix length."""
        return f"{self._text(address)}/{self.subnet.prefixlen}"

    def take(self, address: int) -> None:
        """Raises AddressInUse, AddressOutOfRange."""
        self._check(address)
        if address in self._used:
            why = "is reserved in" if address in self._reserved else "on"
            raise AddressInUse(f"Address already in use: {self._text(address)} {why} {self.subnet}")
        self._used.add(address, address)

    def take_next(self, first: int, last: int, serial: bool = False) -> int:
        """Take the lowest free address of `first`..`last`. Raises PoolExhausted.

        Serial: the first free one after the last one issued here, wrapping. Addresses that were asked for by
        name do not count as issued.
        """
        start = self._after_issued if serial and first < self._after_issued <= last else first
        address = self._used.first_free(start, last)
        if address is None and start > first:
            address = self._used.first_free(first, start - 1)
        if address is None:
            raise PoolExhausted(f"no available addresses on this pool: {self.subnet}")
        self._used.add(address, address)
        self._after_issued = address + 1
        return address

    def restore(self, address: int) -> None:
        """Take an address that may be taken already. Raises AddressOutOfRange."""
        self._check(address)
        self._used.add(address, address)

    def give_back(self, address: int) -> None:
        """Reserved addresses stay reserved, free ones free. Raises AddressOutOfRange."""
        self._check(address)
        if address not in self._reserved:
            self._used.remove(address, address)

    def status(self, first: int, last: int) -> PoolStatus:
        """`first`..`last` is the ip-range."""
        free = last - first + 1 - self._used.count(first, last)
        return PoolStatus(min(self._used.size, _SATURATED), min(free, _SATURATED))

    def _check(self, address: int) -> None:
        if not self._first <= address <= self._last:
            raise AddressOutOfRange(
                f"requested address is out of range: {self._text(address)} is not in {self.subnet}"
            )

    def _text(self, address: int) -> str:
        return str(IPv4Address(address) if self.subnet.version == 4 else IPv6Address(address))
