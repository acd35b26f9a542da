"""Who is called what: zones (one a network) and scopes (one a sandbox, what it sees). Data and lookups.

Names are lower case without a trailing dot everywhere in here. Looked up as Docker does it (libnetwork, sandbox.go,
ResolveName): a name may hold dots, and NAME.NETWORK means NAME on that network.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple


class Member(NamedTuple):
    """An endpoint on a network; addresses are bare text, "" for none."""

    id: str
    names: tuple[str, ...]
    """The first is what PTR answers with; "*.shop" stands for everything below "shop"."""
    ipv4: str
    ipv6: str


class Record(NamedTuple):
    """Somebody's own record on a network."""

    name: str
    kind: str
    """"A", "AAAA" or "CNAME"."""
    value: str
    """An address, or the name that is meant."""


class Link(NamedTuple):
    """A private alias: only one scope sees it."""

    zone: str
    alias: str
    target: str
    """A name on that zone, whoever has it."""


class Server(NamedTuple):
    """Whom to ask what is not known here."""

    address: str
    inside: bool
    """Asked from the sandbox's namespace, else from the host's."""


class Scope(NamedTuple):
    """What one sandbox sees."""

    id: str
    zones: tuple[str, ...]
    """In the order in which they are asked."""
    links: tuple[Link, ...] = ()
    servers: tuple[Server, ...] = ()
    """Its own; none for the host's."""
    external: bool = True
    """The host's servers may be asked: it is not on internal networks only."""
    ndots: int = 0
    everywhere: bool = False
    """The host's own: all zones, by NAME.NETWORK only, and nothing is asked of others."""


class Found(NamedTuple):
    """What a name stands for: addresses, or another name. Neither for a name that only has other records."""

    ipv4: tuple[bytes, ...] = ()
    ipv6: tuple[bytes, ...] = ()
    """Packed, in no order that matters."""
    alias: str = ""
    """The target of a CNAME."""


class _Zone:
    def __init__(self, name: str) -> None:
        self.name = name
        self.members: dict[str, Member] = {}
        self.of_name: dict[str, dict[str, None]] = {}
        """Ids of the members with a name, wildcards among them."""
        self.of_address: dict[str, str] = {}
        """Id of the member with an address."""
        self.records: dict[str, list[Record]] = {}
        self.has_wildcards = False

    def add(self, member: Member) -> None:
        self.members[member.id] = member
        for name in member.names:
            self.of_name.setdefault(name, {})[member.id] = None
            self.has_wildcards = self.has_wildcards or name.startswith("*.")
        for address in filter(None, (member.ipv4, member.ipv6)):
            self.of_address[_canonical(address)] = member.id

    def remove(self, ident: str) -> None:
        member = self.members.pop(ident, None)
        if member is None:
            return
        for name in member.names:
            having = self.of_name.get(name, {})
            having.pop(ident, None)
            if not having:
                self.of_name.pop(name, None)
        for address in filter(None, (member.ipv4, member.ipv6)):
            if self.of_address.get(_canonical(address)) == ident:
                del self.of_address[_canonical(address)]

    def set_records(self, records: Sequence[Record]) -> None:
        self.records = {}
        for record in records:
            self.records.setdefault(record.name, []).append(record)
            self.has_wildcards = self.has_wildcards or record.name.startswith("*.")

    def find(self, name: str) -> Found | None:
        """By the name itself, else by the closest wildcard above it (RFC 4592)."""
        found = self._exactly(name)
        if found is not None or not self.has_wildcards:
            return found
        rest = name
        while "." in rest:
            rest = rest.partition(".")[2]
            found = self._exactly(f"*.{rest}")
            if found is not None or self._exactly(rest) is not None:
                return found
        return None

    def _exactly(self, name: str) -> Found | None:
        members = [self.members[ident] for ident in self.of_name.get(name, ())]
        records = self.records.get(name, ())
        if not members and not records:
            return None
        alias = next((record.value for record in records if record.kind == "CNAME"), "")
        if alias and not members:
            return Found(alias=alias)
        ipv4 = [member.ipv4 for member in members] + [r.value for r in records if r.kind == "A"]
        ipv6 = [member.ipv6 for member in members] + [r.value for r in records if r.kind == "AAAA"]
        return Found(_packed(ipv4), _packed(ipv6))


class Book:
    """All that is known. Whoever keeps ready-made answers is told by `stale` when they are to be made anew."""

    def __init__(self) -> None:
        self._zones: dict[str, _Zone] = {}
        self._scopes: dict[str, Scope] = {}
        self._seen_by: dict[str, set[str]] = {}
        """Scopes by zone."""
        self._everywhere: set[str] = set()
        self.stale: Callable[[str], None] = lambda _scope: None
        """Called with a scope whose answers may have changed."""

    # Changes

    def set_zone(self, ident: str, name: str) -> None:
        if ident in self._zones:
            self._zones[ident].name = name
        else:
            self._zones[ident] = _Zone(name)
        self._changed(ident)

    def drop_zone(self, ident: str) -> None:
        self._zones.pop(ident, None)
        self._changed(ident)

    def set_member(self, zone: str, member: Member) -> None:
        """Raises KeyError for an unknown zone."""
        self._zones[zone].remove(member.id)
        self._zones[zone].add(member)
        self._changed(zone)

    def drop_member(self, zone: str, ident: str) -> None:
        if zone in self._zones:
            self._zones[zone].remove(ident)
            self._changed(zone)

    def set_records(self, zone: str, records: Sequence[Record]) -> None:
        """All of the zone's own. Raises KeyError for an unknown zone."""
        self._zones[zone].set_records(records)
        self._changed(zone)

    def set_scope(self, scope: Scope) -> None:
        self.drop_scope(scope.id)
        self._scopes[scope.id] = scope
        for zone in scope.zones:
            self._seen_by.setdefault(zone, set()).add(scope.id)
        if scope.everywhere:
            self._everywhere.add(scope.id)
        self.stale(scope.id)

    def drop_scope(self, ident: str) -> None:
        scope = self._scopes.pop(ident, None)
        for zone in scope.zones if scope else ():
            self._seen_by[zone].discard(ident)
            if not self._seen_by[zone]:
                del self._seen_by[zone]
        self._everywhere.discard(ident)

    def _changed(self, zone: str) -> None:
        for scope in (*self._seen_by.get(zone, ()), *self._everywhere):
            self.stale(scope)

    # Lookups

    def scope(self, ident: str) -> Scope:
        """Raises KeyError."""
        return self._scopes[ident]

    def find(self, scope_id: str, name: str) -> Found | None:
        """What `name` means to a scope; None where nobody is called so there."""
        scope = self._scopes[scope_id]
        for part, network in _readings(name):
            if scope.everywhere and not network:
                continue
            found = self._linked(scope, part, network) or self._in_zones(scope, part, network)
            if found is not None:
                return found
        return None

    def _in_zones(self, scope: Scope, name: str, network: str) -> Found | None:
        zones = (zone for zone in self._seen(scope) if not network or zone.name == network)
        return next((found for zone in zones if (found := zone.find(name)) is not None), None)

    def name_of(self, scope_id: str, address: str) -> str:
        """NAME.NETWORK of whoever has an address (text in any form) where the scope sees it, "" for nobody."""
        wanted = _canonical(address)
        for zone in self._seen(self._scopes[scope_id]):
            ident = zone.of_address.get(wanted)
            if ident is not None:
                return f"{zone.members[ident].names[0]}.{zone.name}"
        return ""

    def _seen(self, scope: Scope) -> Iterator[_Zone]:
        idents = self._zones if scope.everywhere else scope.zones
        return (self._zones[ident] for ident in idents if ident in self._zones)

    def _linked(self, scope: Scope, alias: str, network: str) -> Found | None:
        for link in scope.links:
            zone = self._zones.get(link.zone)
            if link.alias != alias or zone is None or (network and zone.name != network):
                continue
            found = zone.find(link.target)
            if found is not None:
                return found
        return None


def _readings(name: str) -> Iterator[tuple[str, str]]:
    """(name, network) that a name may mean: a.b.c on any network, then a.b on c, then a on b.c."""
    yield name, ""
    at = name.rfind(".")
    while at > 0:
        yield name[:at], name[at + 1 :]
        at = name.rfind(".", 0, at)


def _canonical(address: str) -> str:
    return str(ipaddress.ip_address(address))


def _packed(addresses: Sequence[str]) -> tuple[bytes, ...]:
    unique = dict.fromkeys(filter(None, addresses))
    return tuple(ipaddress.ip_address(address).packed for address in unique)
