"""What is served: names, scopes and their sockets, as cnmd told them."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from cnm.resolver.messages import Message, Verb
from cnm.resolver.records import Book, Link, Member, Record, Scope, Server

Sockets = dict[str, socket.socket]
"""By name: "udp" and "tcp" are listened on by all workers; "N/udp4", "N/tcp6-1" and the like are worker N's own, to
ask servers from inside the sandbox."""


class Settings(NamedTuple):
    """What holds for all scopes."""

    resolv_conf: str = "/etc/resolv.conf"
    """The host's file, read when it changed."""
    cache: bool = True
    not_servers: tuple[str, ...] = ()
    """Addresses that are ourselves: asking them would ask us."""


def _nothing(_ident: str) -> None:
    return


class State:
    """Applies messages. Whoever serves is told of scopes that were `opened`, are `closing`, or have `changed`."""

    def __init__(self) -> None:
        self.book = Book()
        self.settings = Settings()
        self.sockets: dict[str, Sockets] = {}
        """By scope."""
        self.opened: Callable[[str], None] = _nothing
        self.closing: Callable[[str], None] = _nothing
        self.changed: Callable[[str], None] = _nothing
        self._members: dict[str, set[str]] = {}
        """Their ids, by zone."""
        self._told: set[tuple[str, str]] | None = None
        """Of a snapshot that is being told: ("zone" or "scope", id), or a member as (zone, id)."""

    def apply(self, message: Message, carried: Mapping[str, socket.socket]) -> None:
        """`carried` are the sockets of a scope, by name. Raises ValueError for what is no message of cnmd's."""
        try:
            self._apply(message, carried)
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"{message.verb.value} is malformed: {error!r}") from None

    def _apply(self, message: Message, carried: Mapping[str, socket.socket]) -> None:
        verb, ident, body = message
        if verb is Verb.BEGIN:
            self._told = set()
        elif verb is Verb.COMMIT:
            self._drop_untold()
        elif verb is Verb.ZONE:
            self._note("zone", ident)
            self._members.setdefault(ident, set())
            self.book.set_zone(ident, body)
        elif verb is Verb.UNZONE:
            self._drop_zone(ident)
        elif verb is Verb.MEMBER:
            self._set_member(ident, body)
        elif verb is Verb.UNMEMBER:
            self._members.get(ident, set()).discard(body)
            self.book.drop_member(ident, body)
        elif verb is Verb.RECORDS:
            self.book.set_records(ident, [Record(*record) for record in body])
        elif verb is Verb.SCOPE:
            self._set_scope(_scope(body["scope"]), carried)
        elif verb is Verb.UNSCOPE:
            self._drop_scope(ident)
        elif verb is Verb.SETTINGS:
            self._set_settings(body)
        else:
            raise ValueError(f"{verb.value} changes nothing")

    def _note(self, kind: str, ident: str) -> None:
        if self._told is not None:
            self._told.add((kind, ident))

    def _set_member(self, zone: str, body: Any) -> None:
        ident, names, ipv4, ipv6 = body
        self._note(zone, ident)
        self._members[zone].add(ident)
        self.book.set_member(zone, Member(ident, tuple(names), ipv4, ipv6))

    def _set_scope(self, scope: Scope, carried: Mapping[str, socket.socket]) -> None:
        self._note("scope", scope.id)
        if carried and scope.id in self.sockets:
            self._close(scope.id)
        self.book.set_scope(scope)
        if carried:
            self.sockets[scope.id] = dict(carried)
            self.opened(scope.id)
        else:
            self.changed(scope.id)

    def _set_settings(self, body: Any) -> None:
        resolv_conf, cache, not_servers = body
        self.settings = Settings(resolv_conf, cache, tuple(not_servers))

    def _drop_zone(self, ident: str) -> None:
        self._members.pop(ident, None)
        self.book.drop_zone(ident)

    def _drop_scope(self, ident: str) -> None:
        if ident in self.sockets:
            self._close(ident)
        self.book.drop_scope(ident)

    def _close(self, ident: str) -> None:
        self.closing(ident)
        for each in self.sockets.pop(ident).values():
            each.close()

    def _drop_untold(self) -> None:
        told, self._told = self._told or set(), None
        for ident in [scope for scope in self.sockets if ("scope", scope) not in told]:
            self._drop_scope(ident)
        for zone in [zone for zone in self._members if ("zone", zone) not in told]:
            self._drop_zone(zone)
        for zone, members in self._members.items():
            for gone in [member for member in members if (zone, member) not in told]:
                members.discard(gone)
                self.book.drop_member(zone, gone)


def _scope(body: Any) -> Scope:
    ident, zones, links, servers, external, ndots, everywhere = body
    return Scope(
        ident,
        tuple(zones),
        tuple(Link(*link) for link in links),
        tuple(Server(*server) for server in servers),
        external,
        ndots,
        everywhere,
    )
