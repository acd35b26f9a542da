"""The servers that the host itself asks, from its resolv.conf; read again when that has changed."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable

from cnm.resolver.records import Server

log = logging.getLogger("cnm.resolver")

MOST_SERVERS = 3
"""As the C library has it (MAXNS)."""
_LOOK_SECONDS = 0.25


class HostServers:
    """`clock` gives seconds that never run backwards."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._path = ""
        self._looked = float("-inf")
        self._seen: tuple[int, int, int] | None = None
        self._servers: tuple[Server, ...] = ()

    def get(self, path: str, without: tuple[str, ...]) -> tuple[Server, ...]:
        """At most three; those `without` are ourselves. None where the file cannot be read."""
        now = self._clock()
        if path != self._path or now - self._looked >= _LOOK_SECONDS:
            self._path, self._looked = path, now
            self._look(path)
        mine = {_packed(address) for address in without}
        return tuple(server for server in self._servers if _packed(server.address) not in mine)[:MOST_SERVERS]

    def _look(self, path: str) -> None:
        try:
            status = os.stat(path)
            seen = (status.st_ino, status.st_mtime_ns, status.st_size)
            if seen == self._seen:
                return
            with open(path, encoding="utf-8", errors="replace") as file:
                self._servers = tuple(_parsed(file.read()))
            self._seen = seen
        except OSError as error:
            if self._servers or self._seen is None:
                log.warning("%s cannot be read: %s", path, (error.strerror or str(error)).lower())
            self._servers, self._seen = (), (0, 0, 0)


def _parsed(text: str) -> list[Server]:
    """resolv.conf(5); what is no address is passed over."""
    found = []
    for line in text.split("\n"):
        words = line.split() if line.startswith("nameserver") else []
        if len(words) >= 2 and words[0] == "nameserver" and is_address(words[1]):
            found.append(Server(words[1], False))
    return found


def is_address(text: str) -> bool:
    """A bare IPv4 or IPv6 address, the latter maybe with a zone ("fe80::1%eth0")."""
    return _packed(text) is not None


def _packed(text: str) -> bytes | None:
    """An address however it is spelt; None for what is none."""
    address, _, zone = text.partition("%") if ":" in text else (text, "", "")
    try:
        return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, address) + zone.encode()
    except OSError:
        return None
