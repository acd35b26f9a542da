"""The ports of a container on one line, as Docker's lists show them: `0.0.0.0:8080->80/tcp, 90-92/udp`."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


def ports_text(ports: Sequence[dict[str, Any]]) -> str:
    """`ports` are of the Engine API's list of containers: PrivatePort, Type, and IP and PublicPort of published ones.

    Ports that are published under their own numbers, or not at all, are shown as ranges where they follow each other.
    """
    finished: list[str] = []
    mapped: list[str] = []
    open_ranges: dict[tuple[str, str], tuple[int, int]] = {}
    for port in sorted(ports, key=_order):
        inside, protocol, address = port["PrivatePort"], port.get("Type", ""), port.get("IP", "")
        outside = port.get("PublicPort", 0)
        if address and outside != inside:
            mapped.append(f"{_joined(address, str(outside))}->{inside}/{protocol}")
            continue
        key = (address, protocol)
        first, last = open_ranges.get(key, (inside, inside - 1))
        if last + 1 != inside:
            finished.append(_range_text(key, first, last))
            first = inside
        open_ranges[key] = (first, inside)
    return ", ".join([*finished, *(_range_text(key, *each) for key, each in open_ranges.items()), *mapped])


def _order(port: dict[str, Any]) -> tuple[int, tuple[bool, str], int, str]:
    address = port.get("IP", "")
    return port["PrivatePort"], (":" in address, address), port.get("PublicPort", 0), port.get("Type", "")


def _range_text(key: tuple[str, str], first: int, last: int) -> str:
    address, protocol = key
    span = str(first) if first == last else f"{first}-{last}"
    return f"{_joined(address, span)}->{span}/{protocol}" if address else f"{span}/{protocol}"


def _joined(address: str, port: str) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
