"""The host's ephemeral ports: those to try when any free one will do."""

from __future__ import annotations

from collections.abc import Iterator

from cnm.kernel import sysctls

_FALLBACK = (49153, 65535)
"""Where the host does not say; RFC 6335, as Docker has it."""


class EphemeralPorts:
    """Gives ports out in turn, starting after the last one given, so that a port rests before it is used again."""

    def __init__(self) -> None:
        self._last = 0

    def candidates(self) -> Iterator[int]:
        """Every port of net.ipv4.ip_local_port_range once, without net.ipv4.ip_local_reserved_ports."""
        limits = (sysctls.read("net/ipv4/ip_local_port_range") or "").split()
        first, last = (int(limits[0]), int(limits[1])) if len(limits) == 2 else _FALLBACK
        reserved = frozenset(_listed(sysctls.read("net/ipv4/ip_local_reserved_ports") or ""))
        count = last - first + 1
        start = self._last + 1 - first if first <= self._last < last else 0
        for step in range(count):
            port = first + (start + step) % count
            if port not in reserved:
                self._last = port
                yield port


def _listed(ranges: str) -> Iterator[int]:
    for part in filter(None, ranges.split(",")):
        low, _, high = part.partition("-")
        yield from range(int(low), int(high or low) + 1)
