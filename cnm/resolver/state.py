"""What is served: names, scopes and their sockets, as cnmd told them."""

from __future__ import annotations

import os
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
    """Applies messages. Whoever serves is told of scopes that were `opened`, or are `closing`."""

    def __init__(self) -> None:
        self.book = Book()
        self.settings = Settings()
        self.sockets: dict[str, Sockets] = {}
        """By scope."""
        self.opened: Callable[[str], None] = _nothing
        self.closing: Callable[[str], None] = _nothing
        self._members: dict[str, set[str]] = {}
        """Their ids, by zone."""
        self._told: set[tuple[str, str]] | None = None
        """Of a snapshot that is being told: ("zone" or "scope", id), or a member as (zone, id)."""
        self._changes: dict[Verb, Callable[[str, Any], None]] = {
            Verb.BEGIN: self._begin,
            Verb.COMMIT: self._drop_untold,
            Verb.ZONE: self._set_zone,
            Verb.UNZONE: self._drop_zone,
            Verb.MEMBER: self._set_member,
            Verb.UNMEMBER: self._drop_member,
            Verb.RECORDS: self._set_records,
            Verb.UNSCOPE: self._drop_scope,
            Verb.SETTINGS: self._set_settings,
        }

    def apply(self, message: Message, carried: Mapping[str, socket.socket]) -> None:
        """`carried` are the sockets of a scope, by name. Raises ValueError for what is no message of cnmd's."""
        try:
            if message.verb is Verb.SCOPE:
                self._set_scope(_scope(message.body["scope"]), carried)
            elif message.verb in self._changes:
                self._changes[message.verb](message.id, message.body)
            else:
                raise ValueError(f"{message.verb.value} changes nothing")
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"{message.verb.value} is malformed: {error!r}") from None

    def close_spare(self, scope: str, carried: Mapping[str, socket.socket]) -> None:
        """Of sockets that came with a message, those that are not served."""
        served = self.sockets.get(scope, {})
        for name, each in carried.items():
            if served.get(name) is not each:
                each.close()

    def _begin(self, _ident: str, _body: Any) -> None:
        self._told = set()

    def _set_zone(self, ident: str, name: str) -> None:
        self._note("zone", ident)
        self._members.setdefault(ident, set())
        self.book.set_zone(ident, name)

    def _drop_member(self, zone: str, ident: str) -> None:
        self._members.get(zone, set()).discard(ident)
        self.book.drop_member(zone, ident)

    def _set_records(self, zone: str, body: Any) -> None:
        records = [Record(*record) for record in body]
        _texts(*(record.name for record in records))
        self.book.set_records(zone, records)

    def _note(self, kind: str, ident: str) -> None:
        if self._told is not None:
            self._told.add((kind, ident))

    def _set_member(self, zone: str, body: Any) -> None:
        ident, names, ipv4, ipv6 = body
        _texts(ident, *names)
        self._note(zone, ident)
        self._members[zone].add(ident)
        self.book.set_member(zone, Member(ident, tuple(names), ipv4, ipv6))

    def _set_scope(self, scope: Scope, carried: Mapping[str, socket.socket]) -> None:
        self._note("scope", scope.id)
        self.book.set_scope(scope)
        if not carried or _are_same(carried, self.sockets.get(scope.id, {})):
            return  # whoever is connected, or waits for an answer of others, stays
        if scope.id in self.sockets:
            self._close(scope.id)
        self.sockets[scope.id] = dict(carried)
        self.opened(scope.id)

    def _set_settings(self, _ident: str, body: Any) -> None:
        resolv_conf, cache, not_servers = body
        self.settings = Settings(resolv_conf, cache, tuple(not_servers))

    def _drop_zone(self, ident: str, _body: Any = None) -> None:
        self._members.pop(ident, None)
        self.book.drop_zone(ident)

    def _drop_scope(self, ident: str, _body: Any = None) -> None:
        if ident in self.sockets:
            self._close(ident)
        self.book.drop_scope(ident)

    def _close(self, ident: str) -> None:
        self.closing(ident)
        for each in self.sockets.pop(ident).values():
            each.close()

    def _drop_untold(self, _ident: str, _body: Any) -> None:
        if self._told is None:
            raise ValueError("nothing was begun")
        told, self._told = self._told, None
        for ident in [scope for scope in self.book.scopes() if ("scope", scope) not in told]:
            self._drop_scope(ident)
        for zone in [zone for zone in self._members if ("zone", zone) not in told]:
            self._drop_zone(zone)
        for zone, members in self._members.items():
            for gone in [member for member in members if (zone, member) not in told]:
                members.discard(gone)
                self.book.drop_member(zone, gone)


def _are_same(some: Mapping[str, socket.socket], others: Mapping[str, socket.socket]) -> bool:
    """Whether they are duplicates."""
    return some.keys() == others.keys() and all(
        os.path.sameopenfile(some[name].fileno(), others[name].fileno()) for name in some
    )


def _texts(*values: object) -> None:
    """Raises ValueError for what is none."""
    for value in values:
        if not isinstance(value, str):
            raise ValueError(f"malformed: {value!r} is no text")


def _scope(body: Any) -> Scope:
    ident, zones, links, servers, *settings = body
    _texts(ident, *zones)
    return Scope(
        ident,
        tuple(zones),
        tuple(Link(*link) for link in links),
        tuple(Server(*server) for server in servers),
        *settings,
    )
