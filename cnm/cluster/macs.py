"""Which MAC the addresses of a network were last at: who remembers another one must be told when that changes.

A MAC follows from the address unless somebody gave one, so that only the exceptions are kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from cnm.mac import generate_mac


class Macs:
    """Of one network. Not safe for threads."""

    def __init__(self) -> None:
        self._unusual: dict[str, str] = {}
        """By bare address."""

    def heard(self, mac: str, addresses: Iterable[str]) -> list[tuple[str, str]]:
        """An endpoint has `addresses` (bare) at `mac`; returned are (address, MAC) of those that had another before."""
        addresses = tuple(addresses)
        usual = _derived(addresses)
        if mac == usual and not self._unusual:
            return []
        return list(self._changed(mac, usual, addresses))

    def _changed(self, mac: str, usual: str, addresses: Iterable[str]) -> Iterator[tuple[str, str]]:
        for address in addresses:
            before = self._unusual.get(address, usual)
            if mac == usual:
                self._unusual.pop(address, None)
            else:
                self._unusual[address] = mac
            if mac != before:
                yield address, mac


def _derived(addresses: tuple[str, ...]) -> str:
    """ "" where nothing follows from them: others may write what is no address."""
    ipv4 = next((address for address in addresses if ":" not in address), "")
    ipv6 = next((address for address in addresses if ":" in address), "")
    try:
        return generate_mac(ipv4, ipv6) if ipv4 or ipv6 else ""
    except OSError:
        return ""
