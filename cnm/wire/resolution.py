"""The hostname, DNS settings and extra hosts that a client asks for, checked in the way and the words of Docker's CLI.

All functions raise InvalidParameter naming the value.
"""

from __future__ import annotations

import ipaddress
import re

from cnm.errors import InvalidParameter
from cnm.sandbox import HOST_GATEWAY, ExtraHost, Resolution
from cnm.wire import control

_LONGEST_HOSTNAME = 64
"""HOST_NAME_MAX, sethostname(2)."""
_LONGEST_DOMAIN = 254
_HOSTNAME = re.compile(r"(?!-)[a-zA-Z0-9_-]{1,63}(?<!-)(?:\.(?!-)[a-zA-Z0-9_-]{1,63}(?<!-))*\Z")
_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_DOMAIN = re.compile(rf"({_LABEL}(?:\.{_LABEL})*)\.?\s*\Z")
_LETTER = re.compile(r"[a-zA-Z]")
_WORD = re.compile(r"[^\s#\x00-\x1f\x7f]+\Z")
"""What can stand in a line of these files without being taken for two words or a comment."""


def resolution(body: control.SandboxCreate) -> Resolution:
    """What POST /cnm/v1/sandboxes asks for beyond the sandbox itself."""
    return Resolution(
        hostname=_hostname(body.hostname or ""),
        servers=tuple(map(_server, body.dns or ())),
        search=tuple(map(_domain, body.dns_search or ())),
        options=tuple(map(_option, body.dns_options or ())),
        extra_hosts=tuple(map(_extra_host, body.extra_hosts or ())),
    )


def _hostname(text: str) -> str:
    if text and (len(text) > _LONGEST_HOSTNAME or not _HOSTNAME.match(text)):
        raise InvalidParameter(
            f"invalid hostname {text[:80]!r}: letters, digits, '-' and '_' between dots, "
            f"{_LONGEST_HOSTNAME} characters at most"
        )
    return text


def _server(text: str) -> str:
    address = _address(text)
    if not address:
        raise InvalidParameter(f"IP address is not correctly formatted: {_shown(text)}")
    return address


def _domain(text: str) -> str:
    """Without the dot at its end; "." alone stands for no search domains at all."""
    text = text.strip(" ")
    if text == ".":
        return text
    found = _DOMAIN.match(text) if _LETTER.search(text) else None
    if not found or len(found[1]) > _LONGEST_DOMAIN:
        raise InvalidParameter(f"{_shown(text)} is not a valid domain")
    return found[1]


def _option(text: str) -> str:
    if not _WORD.match(text):
        raise InvalidParameter(f"invalid DNS option {text!r}: one word as in resolv.conf(5), such as ndots:2")
    return text


def _extra_host(text: str) -> ExtraHost:
    """`NAME=ADDRESS` or `NAME:ADDRESS`, the address perhaps in brackets."""
    name, separator, address = text.partition("=") if "=" in text else text.partition(":")
    if not separator or not _WORD.match(name):
        raise InvalidParameter(f'bad format for add-host: "{_shown(text)}"')
    if address == HOST_GATEWAY:
        return ExtraHost(name, HOST_GATEWAY)
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    canonical = _address(address)
    if not canonical:
        raise InvalidParameter(f'invalid IP address in add-host: "{_shown(address)}"')
    return ExtraHost(name, canonical)


def _shown(text: str) -> str:
    """On one line, and not too much of it."""
    return text[:80] if text.isprintable() else repr(text[:80])


def _address(text: str) -> str:
    """Canonical, an IPv4-mapped one as IPv4; "" for what is no address, or has a zone."""
    try:
        address = ipaddress.ip_address(text.strip())
    except ValueError:
        return ""
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id:
            return ""
        return str(address.ipv4_mapped or address)
    return str(address)
