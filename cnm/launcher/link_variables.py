"""The environment variables of a legacy link: where the linked container listens, and what its own variables say.

The names and their order are Docker's (daemon/links/links.go of 20.10).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

_NOT_TOLD = ("HOME", "PATH")
_SHORTEST_RUN = 3


class _Port(NamedTuple):
    number: int
    protocol: str

    @property
    def key(self) -> tuple[int, bool, str]:
        """TCP before others of the same number."""
        return self.number, self.protocol != "tcp", self.protocol


def variables(
    name: str, alias: str, address: str, exposed: Collection[str], environment: Collection[str]
) -> list[str]:
    """`name` is of the link, "/from/alias"; `exposed` ports as "80/tcp", `environment` the linked container's own."""
    prefix = alias.upper().replace("-", "_")
    ports = sorted(map(_port, exposed), key=lambda port: port.key)
    found = [f"{prefix}_PORT={_url(ports[0], address)}"] if ports else []
    found += _runs(prefix, ports, address)
    for port in ports:
        found += _of_port(_stem(prefix, port), port, address)
    return [*found, f"{prefix}_NAME={name}", *_of_environment(prefix, environment)]


def _port(text: str) -> _Port:
    number, _, protocol = text.partition("/")
    return _Port(int(number), protocol or "tcp")


def _url(port: _Port, address: str) -> str:
    return f"{port.protocol}://{address}:{port.number}"


def _stem(prefix: str, port: _Port) -> str:
    return f"{prefix}_PORT_{port.number}_{port.protocol.upper()}"


def _of_port(stem: str, port: _Port, address: str) -> list[str]:
    return [
        f"{stem}={_url(port, address)}",
        f"{stem}_ADDR={address}",
        f"{stem}_PORT={port.number}",
        f"{stem}_PROTO={port.protocol}",
    ]


def _runs(prefix: str, ports: list[_Port], address: str) -> Iterator[str]:
    """Of ports that follow each other: where they begin and end."""
    first = 0
    while first < len(ports):
        last = _last_of_run(ports, first)
        if last < first + _SHORTEST_RUN - 1:
            first += 1
            continue
        yield from _of_run(_stem(prefix, ports[first]), prefix, ports[first], ports[last], address)
        first = last + 1


def _last_of_run(ports: list[_Port], first: int) -> int:
    last = first
    while last + 1 < len(ports) and ports[last + 1].number <= ports[first].number + last + 1 - first:
        last += 1
    return last


def _of_run(stem: str, prefix: str, first: _Port, last: _Port, address: str) -> list[str]:
    ending = f"{prefix}_PORT_{first.number}_{last.protocol.upper()}"
    return [
        f"{stem}_START={_url(first, address)}",
        f"{stem}_ADDR={address}",
        f"{stem}_PROTO={first.protocol}",
        f"{stem}_PORT_START={first.number}",
        f"{ending}_END={_url(last, address)}",
        f"{ending}_PORT_END={last.number}",
    ]


def _of_environment(prefix: str, environment: Collection[str]) -> Iterator[str]:
    for entry in environment:
        name, separator, value = entry.partition("=")
        if separator and name not in _NOT_TOLD:
            yield f"{prefix}_ENV_{name}={value}"
