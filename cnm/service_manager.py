"""What a service manager is told of a daemon (sd_notify(3))."""

from __future__ import annotations

import logging
import os
import socket

log = logging.getLogger("cnm")


def notify(message: str) -> None:
    """Tell systemd, if it asked. Never fails: a daemon that cannot tell, as in its signal's handler, goes on."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifier:
            notifier.connect("\0" + address[1:] if address.startswith("@") else address)
            notifier.send(message.encode())
    except OSError as error:
        log.warning("cannot tell the service manager at %s %s: %s", address, message, error.strerror)
