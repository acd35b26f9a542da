"""What was asked for of a sandbox's files in /etc, checked as Docker checks it (docker/cli, opts).

All functions raise InvalidParameter naming the value.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence

from cnm.errors import InvalidParameter
from cnm.sandbox import HOST_GATEWAY, Etc
from cnm.wire import control

_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\Z", re.IGNORECASE)
_LONGEST_HOSTNAME = 63
"""Bytes, less than the kernel's 64 (sethostname(2))."""
_LONGEST_DOMAIN = 255
_OPTION = re.compile(r"[a-zA-Z0-9_:.-]+\Z")


def etc(body: control.SandboxCreate) -> Etc:
    return Etc(
        hostname=_hostname(body.hostname or ""),
        dns=tuple(_server(text) for text in body.dns or ()),
        dns_search=_search(body.dns_search or ()),
        dns_options=tuple(_option(text) for text in body.dns_options or ()),
        extra_hosts=tuple(_extra_host(text) for text in body.extra_hosts or ()),
    )


def _hostname(text: str) -> str:
    if text and (len(text) > _LONGEST_HOSTNAME or not _is_domain(text)):
        raise InvalidParameter(
            f"invalid hostname {text[:80]!r}: letters, digits and hyphens between dots, at most 63 in all"
        )
    return text


def _server(text: str) -> str:
    try:
        if "%" in text:
            raise ValueError
        return str(ipaddress.ip_address(text.strip()))
    except ValueError:
        raise InvalidParameter(f"IP address is not correctly formatted: {text}") from None


def _search(domains: Sequence[str]) -> tuple[str, ...]:
    """ "." alone stands for none, whatever else is given."""
    if "." in domains:
        return (".",)
    for domain in domains:
        if not _is_domain(domain.rstrip(".")):
            raise InvalidParameter(f"{domain} is not a valid domain")
    return tuple(domains)


def _option(text: str) -> str:
    if not _OPTION.match(text):
        raise InvalidParameter(f"invalid DNS option {text!r}: it is one word, as ndots:2")
    return text


def _extra_host(text: str) -> tuple[str, str]:
    """NAME:ADDRESS or NAME=ADDRESS; an IPv6 address may stand in brackets."""
    name, separator, address = _split(text)
    if not separator or not name or not _is_domain(name):
        raise InvalidParameter(f"bad format for add-host: {text!r}: give NAME:ADDRESS")
    if address == HOST_GATEWAY:
        return name, address
    try:
        return name, str(ipaddress.ip_address(address.removeprefix("[").removesuffix("]")))
    except ValueError:
        raise InvalidParameter(f"invalid IP address in add-host: {address!r}") from None


def _split(text: str) -> tuple[str, str, str]:
    return text.partition("=") if "=" in text else text.partition(":")


def _is_domain(text: str) -> bool:
    labels = text.split(".")
    return len(text) <= _LONGEST_DOMAIN and all(_LABEL.match(label) for label in labels)
