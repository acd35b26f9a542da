"""Checked strings: names of networks, sandboxes, endpoints, interfaces, and MAC addresses."""

from __future__ import annotations

import re

from cnm.errors import InvalidParameter
from cnm.network import PREDEFINED

PREDEFINED_NETWORKS = (*PREDEFINED, "default")

_LONGEST = 255
_SANDBOX = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+\Z")
_INTERFACE = re.compile(r"[^\s/:\0]{1,15}\Z")
_MAC = re.compile(r"[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}\Z")


def check_network(name: str) -> None:
    """Docker takes almost anything; a slash would make `NETWORK/NAME` ambiguous."""
    _check_text("network", name)


def check_endpoint(name: str) -> None:
    _check_text("endpoint", name)


def _check_text(kind: str, name: str) -> None:
    if not name.strip():
        raise InvalidParameter(f"invalid {kind} name: it must not be empty")
    if name != name.strip():
        raise InvalidParameter(
            f"invalid {kind} name: leading or trailing whitespace in {name!r} is not allowed"
        )
    if "/" in name or not name.isprintable():
        raise InvalidParameter(f"invalid {kind} name {name!r}: it must not contain '/' or control characters")
    if len(name) > _LONGEST:
        raise InvalidParameter(f"invalid {kind} name {name[:20]}…: it is longer than {_LONGEST} characters")


def check_sandbox(name: str) -> None:
    """Docker's rule for container names."""
    if not _SANDBOX.match(name) or len(name) > _LONGEST:
        raise InvalidParameter(
            f"invalid sandbox name {name[:40]!r}: only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed, two characters at least"
        )


def check_interface(name: str) -> None:
    """Linux's rule: at most 15 bytes, no slash, colon or space; "." and ".." are directories."""
    if not _INTERFACE.match(name) or name in (".", "..", "lo") or len(name.encode()) > 15:
        raise InvalidParameter(
            f"invalid interface name {name!r}: up to 15 bytes without '/', ':' or spaces, and not lo"
        )


def parse_mac(text: str) -> str:
    """The address in lower case with colons. Raises InvalidParameter for a malformed or a multicast one."""
    if not _MAC.match(text):
        raise InvalidParameter(
            f"invalid MAC address: {text}: six pairs of hex digits, as in 02:42:ac:12:00:02"
        )
    mac = text.replace("-", ":").lower()
    if int(mac[:2], 16) & 1:
        raise InvalidParameter(f"invalid MAC address: {text} is a multicast address")
    if mac == "00:00:00:00:00:00":
        raise InvalidParameter(f"invalid MAC address: {text} is all zeros")
    return mac
