"""Who is called what: zones (one a network) and scopes (one a sandbox, what it sees). Data and lookups.

Names are lower case without a trailing dot everywhere in here. Looked up as Docker does it (libnetwork, sandbox.go,
ResolveName): a name may hold dots, and NAME.NETWORK means NAME on that network.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator, Sequence
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
    """The host's own: all zones, by NAME.NETWORK only."""
    alone: bool = False
    """What is not known here is refused: nothing is asked of others."""
    by_client: bool = False
    """Whoever asks from an address that has a scope of its own (`visitor`) is answered as that says."""


def visitor(scope: str, address: str) -> str:
    """The id of the scope of those who ask at the sockets of `scope` from a bare address; it has no sockets."""
    return f"{scope} {address}"


class Found(NamedTuple):
    """What a name stands for: addresses, or another name. Neither for a name that only has other records."""

    ipv4: tuple[bytes, ...] = ()
    ipv6: tuple[bytes, ...] = ()
    """Packed, in no order that matters."""
    alias: str = ""
    """The target of a CNAME."""


class _Listed(NamedTuple):
    """A member as lookups need it: its addresses packed, empty for none."""

    names: tuple[str, ...]
    ipv4: bytes
    ipv6: bytes

    @property
    def first(self) -> str:
        """That is no wildcard; "" where there is none."""
        return next((name for name in self.names if not name.startswith("*.")), "")


class _Zone:
    def __init__(self, name: str) -> None:
        self.name = name
        self._members: dict[str, _Listed] = {}
        self._of_name: dict[str, dict[str, _Listed]] = {}
        """Members by their names, wildcards among them, and by their ids."""
        self._of_address: dict[bytes, _Listed] = {}
        self._records: dict[str, Found] = {}
        self._has_wildcards = False

    def add(self, member: Member) -> None:
        """In place of the one with its id. Raises ValueError, having changed nothing, for what is no address."""
        listed = _Listed(member.names, _packed(member.ipv4), _packed(member.ipv6))
        self.remove(member.id)
        self._members[member.id] = listed
        for name in listed.names:
            self._of_name.setdefault(name, {})[member.id] = listed
            self._has_wildcards |= name.startswith("*.")
        for address in filter(None, (listed.ipv4, listed.ipv6)):
            self._of_address[address] = listed

    def remove(self, ident: str) -> None:
        listed = self._members.pop(ident, None)
        if listed is None:
            return
        for name in set(listed.names):
            having = self._of_name[name]
            del having[ident]
            if not having:
                del self._of_name[name]
        for address in (listed.ipv4, listed.ipv6):
            if self._of_address.get(address) is listed:
                del self._of_address[address]

    def set_records(self, records: Sequence[Record]) -> None:
        """Raises ValueError, having changed nothing, for what is no address."""
        by_name: dict[str, list[Record]] = {}
        for record in records:
            by_name.setdefault(record.name, []).append(record)
        self._records = {name: _meant(own) for name, own in by_name.items()}
        self._has_wildcards |= any(name.startswith("*.") for name in by_name)

    def find(self, name: str) -> Found | None:
        """By the name itself, else by the closest wildcard above it (RFC 4592)."""
        if self._has(name) or not self._has_wildcards:
            return self._exactly(name)
        rest = name
        while "." in rest:
            rest = rest.partition(".")[2]
            if self._has(f"*.{rest}"):
                return self._exactly(f"*.{rest}")
            if self._has(rest):
                return None
        return None

    def name_of(self, address: bytes) -> str:
        listed = self._of_address.get(address)
        return listed.first if listed else ""

    def _has(self, name: str) -> bool:
        return name in self._of_name or name in self._records

    def _exactly(self, name: str) -> Found | None:
        own = self._records.get(name)
        having = self._of_name.get(name)
        if not having:
            return own
        ipv4 = [each.ipv4 for each in having.values() if each.ipv4]
        ipv6 = [each.ipv6 for each in having.values() if each.ipv6]
        if own:
            ipv4 += own.ipv4
            ipv6 += own.ipv6
        return Found(_unique(ipv4), _unique(ipv6))


class Book:
    """All that is known.

    Whoever keeps ready-made answers compares `version`, then the stamp of his scope: a change costs the same however
    many scopes see it.
    """

    def __init__(self) -> None:
        self._zones: dict[str, _Zone] = {}
        self._called: dict[str, set[str]] = {}
        """Zones by the name of their network."""
        self._scopes: dict[str, Scope] = {}
        self._changed_at: dict[str, int] = {}
        """The versions in which zones and scopes changed last."""
        self._everywhere: set[str] = set()
        self.version = 0
        """Counts the changes."""

    # Changes

    def set_zone(self, ident: str, name: str) -> None:
        if ident in self._zones:
            self._uncall(ident)
            self._zones[ident].name = name
        else:
            self._zones[ident] = _Zone(name)
        self._called.setdefault(name, set()).add(ident)
        self._changed(ident)

    def drop_zone(self, ident: str) -> None:
        if ident in self._zones:
            self._uncall(ident)
            del self._zones[ident]
        self._forgotten(ident)

    def set_member(self, zone: str, member: Member) -> None:
        """Raises KeyError for an unknown zone, ValueError for what is no address."""
        self._zones[zone].add(member)
        self._changed(zone)

    def drop_member(self, zone: str, ident: str) -> None:
        if zone in self._zones:
            self._zones[zone].remove(ident)
            self._changed(zone)

    def set_records(self, zone: str, records: Sequence[Record]) -> None:
        """All of the zone's own. Raises KeyError for an unknown zone, ValueError for what is no address."""
        self._zones[zone].set_records(records)
        self._changed(zone)

    def set_scope(self, scope: Scope) -> None:
        self.drop_scope(scope.id)
        self._scopes[scope.id] = scope
        if scope.everywhere:
            self._everywhere.add(scope.id)
        self._changed(scope.id)

    def drop_scope(self, ident: str) -> None:
        self._scopes.pop(ident, None)
        self._everywhere.discard(ident)
        self._forgotten(ident)

    def _uncall(self, zone: str) -> None:
        name = self._zones[zone].name
        self._called[name].discard(zone)
        if not self._called[name]:
            del self._called[name]

    def _changed(self, ident: str) -> None:
        self.version += 1
        self._changed_at[ident] = self.version

    def _forgotten(self, ident: str) -> None:
        self.version += 1
        self._changed_at.pop(ident, None)

    # Lookups

    def has_scope(self, ident: str) -> bool:
        return ident in self._scopes

    def scope(self, ident: str) -> Scope:
        """Raises KeyError."""
        return self._scopes[ident]

    def stamp(self, scope_id: str) -> tuple[int, ...]:
        """Another one when something that the scope sees has changed. Raises KeyError."""
        scope = self._scopes[scope_id]
        if scope.everywhere:
            return (self.version,)
        return tuple(self._changed_at.get(ident, 0) for ident in (scope_id, *scope.zones))

    def scopes(self) -> Sequence[str]:
        """Their ids."""
        return list(self._scopes)

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

    def is_known_to_host(self, name: str) -> bool:
        """Whether the host's own programs find it here: whoever the host asks may then ask us in turn."""
        zones = (
            (part, self._zones[ident])
            for part, network in _readings(name)
            for ident in self._called.get(network, ())
        )
        return bool(self._everywhere) and any(zone.find(part) is not None for part, zone in zones)

    def name_of(self, scope_id: str, address: bytes) -> str:
        """NAME.NETWORK of whoever has a packed address where the scope sees it, "" for nobody."""
        for _ident, zone in self._seen(self._scopes[scope_id]):
            name = zone.name_of(address)
            if name:
                return f"{name}.{zone.name}"
        return ""

    def _linked(self, scope: Scope, alias: str, network: str) -> Found | None:
        for link in scope.links:
            zone = self._zones.get(link.zone)
            if link.alias != alias or zone is None or (network and zone.name != network):
                continue
            found = zone.find(link.target)
            if found is not None:
                return found
        return None

    def _in_zones(self, scope: Scope, name: str, network: str) -> Found | None:
        """Not where the name is a link's: while its target is away, it means nobody else there (as in Docker)."""
        linked = {link.zone for link in scope.links if link.alias == name}
        for ident, zone in self._seen(scope, network):
            if ident in linked:
                continue
            found = zone.find(name)
            if found is not None:
                return _qualified(found, zone) if scope.everywhere else found
        return None

    def _seen(self, scope: Scope, network: str = "") -> Iterator[tuple[str, _Zone]]:
        """With `network`, of that name only."""
        if scope.everywhere:
            idents: Iterable[str] = self._called.get(network, ()) if network else self._zones
            return ((ident, self._zones[ident]) for ident in idents)
        zones = ((ident, self._zones[ident]) for ident in scope.zones if ident in self._zones)
        return ((ident, zone) for ident, zone in zones if not network or zone.name == network)


def _readings(name: str) -> Iterator[tuple[str, str]]:
    """(name, network) that a name may mean: a.b.c on any network, then a.b on c, then a on b.c."""
    yield name, ""
    at = name.rfind(".")
    while at > 0:
        yield name[:at], name[at + 1 :]
        at = name.rfind(".", 0, at)


def _qualified(found: Found, zone: _Zone) -> Found:
    """An alias of a name on its own network, as those who see all networks know that name."""
    if found.alias and zone.find(found.alias) is not None:
        return Found(alias=f"{found.alias}.{zone.name}")
    return found


def _meant(records: Sequence[Record]) -> Found:
    """By records of one name; a CNAME stands alone (RFC 1034, 3.6.2)."""
    values = {kind: [r.value for r in records if r.kind == kind] for kind in ("A", "AAAA", "CNAME")}
    if values["CNAME"]:
        return Found(alias=values["CNAME"][0])
    return Found(_unique(map(_packed, values["A"])), _unique(map(_packed, values["AAAA"])))


def _unique(addresses: Iterable[bytes]) -> tuple[bytes, ...]:
    return tuple(dict.fromkeys(addresses))


def _packed(address: str) -> bytes:
    """Empty for "". Raises ValueError for what is no bare address."""
    if not address:
        return b""
    try:
        return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
    except OSError:
        raise ValueError(f"{address!r} is no address") from None
