"""Ports that a container exposes and publishes: what `-p`, `-P` and an image say, as cnmd is asked for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cnm.errors import InvalidParameter
from cnm.wire.containers import HostConfig, PortBinding
from cnm.wire.engine import PortRequest

_PROTOCOLS = ("tcp", "udp", "sctp")


def split_port(text: str) -> tuple[int, str]:
    """(number, protocol) of Docker's "80/tcp". Raises InvalidParameter."""
    number, _, protocol = text.partition("/")
    protocol = (protocol or "tcp").lower()
    if not number.isdecimal() or not 0 < int(number) < 65536:
        raise InvalidParameter(f"invalid port specification: {text!r}")
    if protocol not in _PROTOCOLS:
        raise InvalidParameter(f"invalid proto: {protocol!r}")
    return int(number), protocol


def port_requests(host: HostConfig, exposed: Mapping[str, Any]) -> list[PortRequest]:
    """With `publish_all_ports` every exposed port too, at any free port of the host. Raises InvalidParameter."""
    bindings: dict[str, list[PortBinding] | None] = dict(host.port_bindings or {})
    if host.publish_all_ports:
        for port in exposed:
            bindings.setdefault(port, [PortBinding()])
    return [request for port, bound in bindings.items() for request in _requests(port, bound)]


def _requests(port: str, bound: list[PortBinding] | None) -> Iterator[PortRequest]:
    number, protocol = split_port(port)
    for binding in bound or [PortBinding()]:
        first, last = _range(binding.host_port or "")
        yield PortRequest(
            protocol=protocol,
            container_port=number,
            host_port=first,
            host_port_end=last,
            host_ip=binding.host_ip or "",
        )


def _range(text: str) -> tuple[int, int]:
    """(first, last) of "8000-8010"; 0 for any. Raises InvalidParameter."""
    first, dash, last = text.partition("-")
    numbers = [first or "0", *([last] if dash else [])]
    if not all(number.isdecimal() and int(number) < 65536 for number in numbers):
        raise InvalidParameter(f"invalid hostPort: {text}")
    return int(numbers[0]), int(numbers[-1]) if dash else 0
