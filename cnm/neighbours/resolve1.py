"""What systemd-resolved is told of a link, as data, and the calls that read and change it.

Source: org.freedesktop.resolve1(5).
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cnm.neighbours.bus import Bus, BusAway, BusRefused, Call

NO_SUCH_LINK = "org.freedesktop.resolve1.NoSuchLink"
LINK_BUSY = "org.freedesktop.resolve1.LinkBusy"
"""systemd-networkd says what holds for the link."""

_ABSENT = ("org.freedesktop.DBus.Error.ServiceUnknown", "org.freedesktop.DBus.Error.NameHasNoOwner")
_NAME = "org.freedesktop.resolve1"
_PATH = "/org/freedesktop/resolve1"
_MANAGER = f"{_NAME}.Manager"
_PROPERTIES = "org.freedesktop.DBus.Properties"


@dataclass(frozen=True)
class LinkDns:
    """Whom resolved asks over a link, and what for. Another program's settings may be any of this."""

    servers: tuple[str, ...]
    """Bare addresses."""
    domains: tuple[tuple[str, bool], ...]
    """(name in lower case, whether it only routes: what is below it is asked here, and it is no search domain)."""
    default_route: bool
    """Asked for names that no link has a domain for."""
    dnssec: str
    dns_over_tls: str

    @property
    def is_local(self) -> bool:
        """Nobody but servers on the host itself is asked, and one there is: such as we set it."""
        return bool(self.servers) and all(
            server.startswith("127.") or server == "::1" for server in self.servers
        )


def only_below(domain: str, server: str) -> LinkDns:
    """Names below `domain`, and no others, are asked of a server on the host, in clear."""
    return LinkDns((server,), ((domain, True),), default_route=False, dnssec="no", dns_over_tls="no")


def read(bus: Bus, index: int) -> LinkDns:
    """What holds for the link with an index. Raises BusAway, BusRefused."""
    (path,) = _manager(bus, "GetLink", "i", index)
    (values,) = _call(bus, Call(_NAME, path, _PROPERTIES, "GetAll", "s", (f"{_NAME}.Link",)))
    found = {name: value for name, (_signature, value) in values.items()}
    try:
        return LinkDns(
            servers=tuple(socket.inet_ntop(family, bytes(packed)) for family, packed in found["DNS"]),
            domains=tuple((name.lower(), routes) for name, routes in found["Domains"]),
            default_route=found["DefaultRoute"],
            dnssec=found["DNSSEC"],
            dns_over_tls=found["DNSOverTLS"],
        )
    except KeyError as error:
        raise BusRefused("", f"it is too old: it has no {error} for a link") from None


def write(bus: Bus, index: int, dns: LinkDns) -> None:
    """The servers come last: before that, nothing is asked of them. Raises BusAway, BusRefused."""
    _manager(bus, "SetLinkDefaultRoute", "ib", index, dns.default_route)
    _manager(bus, "SetLinkDomains", "ia(sb)", index, list(dns.domains))
    _manager(bus, "SetLinkDNSSEC", "is", index, dns.dnssec)
    _manager(bus, "SetLinkDNSOverTLS", "is", index, dns.dns_over_tls)
    _manager(bus, "SetLinkDNS", "ia(iay)", index, list(_packed(dns.servers)))


def revert(bus: Bus, index: int) -> None:
    """Forget whatever any program has said of the link. Raises BusAway, BusRefused."""
    _manager(bus, "RevertLink", "i", index)


def _packed(servers: tuple[str, ...]) -> Iterator[tuple[int, bytes]]:
    for server in servers:
        family = socket.AF_INET6 if ":" in server else socket.AF_INET
        yield int(family), socket.inet_pton(family, server)


def _manager(bus: Bus, method: str, signature: str, *body: Any) -> tuple[Any, ...]:
    return _call(bus, Call(_NAME, _PATH, _MANAGER, method, signature, body))


def _call(bus: Bus, call: Call) -> tuple[Any, ...]:
    try:
        return bus.call(call)
    except BusRefused as error:
        if error.name in _ABSENT:
            raise BusAway("it does not run: start it") from None
        raise
