"""systemd keeps sockets for a service that ends, and hands them to the next one (sd_pid_notify_with_fds(3), FDSTORE).

Without systemd, or where the unit allows none, nothing is kept; nobody waits for an answer.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress

_FIRST = 3
"""Descriptor of the first socket that is handed over (sd_listen_fds(3))."""


class FdStore:
    """What the service manager keeps of this process."""

    def __init__(self, address: str) -> None:
        """`address` is NOTIFY_SOCKET, "" for no service manager."""
        self._channel: socket.socket | None = None
        if address:
            channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            try:
                channel.connect("\0" + address[1:] if address.startswith("@") else address)
                self._channel = channel
            except OSError:
                channel.close()

    def keep(self, name: str, one: socket.socket) -> None:
        self._say(f"FDSTORE=1\nFDNAME={name}\n", one)

    def drop(self, name: str) -> None:
        """All that is kept under this name."""
        self._say(f"FDSTOREREMOVE=1\nFDNAME={name}\n")

    def _say(self, text: str, *sockets: socket.socket) -> None:
        if self._channel is not None:
            with suppress(OSError):
                socket.send_fds(self._channel, [text.encode()], [each.fileno() for each in sockets])


def handed_over(environment: Mapping[str, str]) -> dict[str, int]:
    """Descriptors by their names, if they are for this process; the first sockets' names are their units'."""
    if environment.get("LISTEN_PID") != str(os.getpid()):
        return {}
    count = environment.get("LISTEN_FDS", "")
    names = environment.get("LISTEN_FDNAMES", "").split(":")
    if not count.isdecimal():
        return {}
    numbers = range(_FIRST, _FIRST + int(count))
    named = names if len(names) == len(numbers) else [f"unknown{number}" for number in numbers]
    return dict(zip(named, numbers, strict=True))
