"""Who is called what on which network, and which sandboxes get answers: told to the resolver as verbs change it.

A sandbox of ours is served while it is on a user-defined network; those of dockerd's have Docker's own resolver.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import socket
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_address
from typing import Any, NamedTuple

from cnm.config import Settings
from cnm.endpoint import Endpoint
from cnm.errors import CnmError, NotFound
from cnm.kernel.contract import Kernel
from cnm.kernel.name_sockets import ADDRESS, PORT, NameSockets
from cnm.model import SHORT
from cnm.network import EGRESS_NETWORK, Network, Owner
from cnm.resolver import state
from cnm.resolver.client import Told
from cnm.resolver.messages import Message, Verb
from cnm.resolver.records import Link, Member, Record, Scope, Server, visitor
from cnm.resolvers import Resolver
from cnm.sandbox import Sandbox, SandboxKind

log = logging.getLogger(__name__)

_SERVED = (SandboxKind.OWN, SandboxKind.GIVEN)
_HOST = "host "
"""What the ids of scopes begin with that are the host's own, at an address each; no sandbox has such an id."""
_CONNECTIONS_INSIDE = 2
"""TCP sockets of a worker and a family, to ask a sandbox's own servers with at the same time."""
_NDOTS = re.compile(r"ndots:(\d{1,2})")

Sockets = dict[str, socket.socket]


class Attached(NamedTuple):
    """A joined endpoint and its network."""

    endpoint: Endpoint
    network: Network


def is_nameable(network: Network) -> bool:
    """Whether names are known on a network: Docker's rule leaves out the predefined ones, and the way out."""
    named = not network.predefined and network.name != EGRESS_NETWORK
    return named and network.owner is Owner.CNM and bool(network.pools)


def names_of(sandbox: Sandbox, endpoint: Endpoint) -> tuple[str, ...]:
    """What a sandbox is called on the endpoint's network: its name first, then in Docker's order.

    Of dockerd's, what dockerd told, as far as it was asked yet.
    """
    if sandbox.kind is SandboxKind.DOCKERD:
        return endpoint.aliases
    generated = f"ep-{endpoint.id[:SHORT]}"
    own = () if endpoint.name == generated else (endpoint.name,)
    names = (sandbox.name, *own, *endpoint.aliases, sandbox.id[:SHORT], sandbox.hostname)
    return tuple(dict.fromkeys(name.lower() for name in names if name))


class Naming:
    """Thread-safe. Callers hold the locks of the sandbox and the network that they tell of."""

    def __init__(self, kernel: Kernel, resolver: Resolver, settings: Settings) -> None:
        self._kernel = kernel
        self._settings = settings
        self._resolver = resolver
        self.lock = threading.Lock()
        resolver.source = self
        self._zones: dict[str, Network] = {}
        """Networks with names, by their ids."""
        self._members: dict[str, dict[str, Member]] = {}
        """By the network's and the endpoint's id."""
        self._scopes: dict[str, Scope] = {}
        """By the sandbox's id."""
        self._sockets: dict[str, Sockets] = {}
        """Of each scope."""
        self._held: dict[str, Sockets] = {}
        """Of the resolver that was adopted, until `start`."""

    def stats(self) -> Mapping[str, Any]:
        """The resolver's counters (`resolver.stats`), none where it does not run."""
        return self._resolver.stats()

    def listens_at(self) -> tuple[str, ...]:
        """Bare addresses: a loopback's for the host's own programs, others for those who visit (`visited_by`)."""
        return tuple(each for each in self._settings.dns_addresses if _HOST + each in self._scopes)

    def close(self) -> None:
        """The resolver serves on; the next daemon takes it up."""
        self._resolver.close()
        with self.lock:
            for sockets in self._sockets.values():
                _close(sockets)
            self._sockets.clear()

    # At start-up

    def adopt(self, sandboxes: Iterable[Sandbox]) -> None:
        """Take up what a running resolver has; sockets of namespaces that are no sandbox's any more would keep those
        alive, with the addresses of links in them, and are closed."""
        with self.lock:
            held = self._resolver.adopt()
            paths = {sandbox.id: sandbox.netns for sandbox in sandboxes}
            lost = [
                ident
                for ident, sockets in held.items()
                if not ident.startswith(_HOST)
                and not (
                    ident in paths
                    and {"udp", "tcp"} <= sockets.keys()
                    and self._kernel.is_in(paths[ident], sockets["udp"])
                )
            ]
            if lost:
                self._resolver.release(lost)
            for ident in lost:
                _close(held.pop(ident))
            self._held = held

    def start(
        self,
        networks: Iterable[Network],
        sandboxes: Sequence[tuple[Sandbox, Sequence[Attached]]],
    ) -> None:
        """All networks, and all sandboxes with what they are joined to. Sockets that a running resolver has are taken
        up."""
        with self.lock:
            self._zones = {network.id: network for network in networks if network.records}
            held, self._held = self._held, {}
            for sandbox, attached in sandboxes:
                for each in attached:
                    if is_nameable(each.network):
                        self._note(sandbox, each)
            for sandbox, attached in sandboxes:
                if is_served(sandbox, attached):
                    self._take_up(sandbox, attached, held.pop(sandbox.id, {}))
            for address in self._settings.dns_addresses:
                self._listen_on_host(address, held.pop(_HOST + address, {}))
            for sockets in held.values():
                _close(sockets)
            if self._scopes or self._resolver.pid:
                self._resolver.tell(())  # and it is told everything

    def _listen_on_host(self, address: str, held: Sockets) -> None:
        """Where the settings want it. Networks come first: a failure is logged."""
        ident = _HOST + address
        if {each.getsockname()[:2] for each in held.values()} == {(address, PORT)}:
            self._sockets[ident] = held
        else:
            _close(held)
            try:
                opened = self._kernel.open_host_name_sockets(address)
            except CnmError as error:
                log.error("%s: choose another dns-listen in the settings", error)
                return
            self._sockets[ident] = {"udp": opened.udp, "tcp": opened.tcp}
        own = ip_address(address).is_loopback
        self._scopes[ident] = Scope(id=ident, zones=(), everywhere=own, alone=True, by_client=not own)

    def _take_up(self, sandbox: Sandbox, attached: Sequence[Attached], held: Sockets) -> None:
        """One sandbox that cannot be served does not stop the start."""
        try:
            self._scopes[sandbox.id] = _scope(sandbox, attached)
            self._sockets[sandbox.id] = held or self._opened(sandbox)
        except CnmError as error:
            log.error("sandbox %s resolves no names: %s", sandbox.name, error)
            self._scopes.pop(sandbox.id, None)

    def look_after(self, sandboxes: Iterable[Sandbox]) -> None:
        """Behind the start: lead port 53 of those that are answered to us, whatever somebody did there meanwhile."""
        for sandbox in sandboxes:
            try:
                with self.lock:
                    if sandbox.id in self._scopes and not self._is_led(sandbox):
                        self._lead(sandbox)
            except CnmError as error:
                log.error("sandbox %s resolves no names: %s", sandbox.name, error)

    # Verbs

    def joined(self, sandbox: Sandbox, joined: Attached, others: Sequence[Attached]) -> None:
        """Names are answered from now on. Raises KernelError, having changed nothing."""
        attached = (*others, joined)
        with self.lock:
            told = []
            if is_served(sandbox, attached):
                told.append(self._serve(sandbox, attached))
            if is_nameable(joined.network):
                told[:0] = self._note(sandbox, joined)
            if told:
                self._resolver.tell(told)

    def left(self, sandbox: Sandbox, left: Attached, others: Sequence[Attached]) -> None:
        """The endpoint's names are gone, and with its last user-defined network the sandbox's server."""
        with self.lock:
            told = []
            if self._members.get(left.network.id, {}).pop(left.endpoint.id, None):
                told.append(Told(Message(Verb.UNMEMBER, left.network.id, left.endpoint.id)))
            if is_served(sandbox, others):
                told.append(self._serve(sandbox, others))
            elif sandbox.id in self._scopes:
                told.append(self._unserved(sandbox.id))
            if told:
                self._resolver.tell(told)
            if not is_served(sandbox, others):
                self._let_go(sandbox)

    def forget(self, sandbox: Sandbox) -> None:
        """Before its namespace goes, which an open socket would keep."""
        with self.lock:
            if sandbox.id in self._scopes:
                self._resolver.tell([self._unserved(sandbox.id)])
                self._let_go(sandbox)

    def renew(self, sandbox: Sandbox) -> None:
        """Its namespace was made anew: the sockets are of the one before. Raises KernelError."""
        with self.lock:
            if sandbox.id not in self._scopes:
                return
            old = self._sockets[sandbox.id]
            self._sockets[sandbox.id] = self._opened(sandbox)
            _close(old)
            self._resolver.tell([self._told_scope(sandbox.id, whole=True)])

    def is_astray(self, sandbox: Sandbox, attached: Sequence[Attached]) -> bool:
        """Whether a sandbox should be answered, and its port 53 does not lead to the resolver."""
        with self.lock:
            return is_served(sandbox, attached) and not self._is_led(sandbox)

    def mend(self, sandbox: Sandbox, attached: Sequence[Attached]) -> None:
        """Lead port 53 of one that is astray to its sockets, new ones where it has none. Raises KernelError."""
        with self.lock:
            if sandbox.id in self._scopes:
                self._lead(sandbox)
            else:
                self._resolver.tell([self._serve(sandbox, attached)])

    def records_changed(self, network: Network) -> None:
        """Somebody added or removed names of the network."""
        with self.lock:
            told = list(self._told_zone(network))
            if self._scopes:
                self._resolver.tell(told)

    def elsewhere(self, network: Network, members: Mapping[str, Member | None]) -> None:
        """Endpoints of the network on other hosts, by id; None for one that is gone."""
        with self.lock:
            told = list(self._told_zone(network)) if network.id not in self._zones else []
            known = self._members.setdefault(network.id, {})
            for ident, member in members.items():
                if member is not None:
                    known[ident] = member
                    told.append(Told(Message(Verb.MEMBER, network.id, member)))
                elif known.pop(ident, None):
                    told.append(Told(Message(Verb.UNMEMBER, network.id, ident)))
            if told and (
                self._scopes or self._resolver.is_told()
            ):  # else it is told everything when it starts
                self._resolver.tell(told)

    def visited_by(self, listener: str, visitors: Mapping[str, Sequence[str]]) -> None:
        """Who asks at an address of the host's that is no loopback's: by bare address, the networks (ids) whose names
        are answered there. Nobody else is answered."""
        with self.lock:
            wanted = {visitor(_HOST + listener, address): zones for address, zones in visitors.items()}
            told = [
                self._unserved(ident)
                for ident in list(self._scopes)
                if ident.startswith(visitor(_HOST + listener, "")) and ident not in wanted
            ]
            for ident, zones in wanted.items():
                scope = Scope(id=ident, zones=tuple(zones), alone=True)
                if self._scopes.get(ident) != scope:
                    self._scopes[ident] = scope
                    told.append(self._told_scope(ident, whole=False))
            if told:
                self._resolver.tell(told)

    def network_gone(self, network: Network) -> None:
        with self.lock:
            if self._zones.pop(network.id, None) is not None:
                self._members.pop(network.id, None)
                if self._scopes:
                    self._resolver.tell([Told(Message(Verb.UNZONE, network.id))])

    # Under the lock

    def _note(self, sandbox: Sandbox, attached: Attached) -> Iterator[Told]:
        """The endpoint's names, and its zone where that is new."""
        network, endpoint = attached.network, attached.endpoint
        told: list[Told] = []
        if network.id not in self._zones:
            told += self._told_zone(network)
        addresses = (cidr.partition("/")[0] for cidr in (endpoint.ipv4, endpoint.ipv6))
        member = Member(endpoint.id, names_of(sandbox, endpoint), *addresses)
        self._members.setdefault(network.id, {})[endpoint.id] = member
        told.append(Told(Message(Verb.MEMBER, network.id, member)))
        return iter(told)

    def _serve(self, sandbox: Sandbox, attached: Sequence[Attached]) -> Told:
        new = sandbox.id not in self._scopes
        if new:
            self._sockets[sandbox.id] = self._opened(sandbox)
        self._scopes[sandbox.id] = _scope(sandbox, attached)
        return self._told_scope(sandbox.id, whole=new)

    def _is_led(self, sandbox: Sandbox) -> bool:
        if sandbox.id not in self._scopes:
            return False
        return self._kernel.names_led_to(sandbox.netns) == self._ports(sandbox.id)

    def _lead(self, sandbox: Sandbox) -> None:
        self._kernel.lead_names(sandbox.netns, self._ports(sandbox.id))

    def _ports(self, sandbox_id: str) -> tuple[int, int]:
        sockets = self._sockets[sandbox_id]
        return NameSockets(sockets["udp"], sockets["tcp"]).ports

    def _unserved(self, sandbox_id: str) -> Told:
        del self._scopes[sandbox_id]
        return Told(Message(Verb.UNSCOPE, sandbox_id))

    def _let_go(self, sandbox: Sandbox) -> None:
        if sockets := self._sockets.pop(sandbox.id, {}):
            _close(sockets)
            with contextlib.suppress(NotFound):  # the namespace may be gone
                self._kernel.mislead_names(sandbox.netns)

    def _opened(self, sandbox: Sandbox) -> Sockets:
        """Raises KernelError."""
        listening = self._kernel.open_name_sockets(sandbox.netns)
        try:
            asking = self._asking(sandbox)
        except BaseException:
            listening.close()
            raise
        return {"udp": listening.udp, "tcp": listening.tcp, **asking}

    def _asking(self, sandbox: Sandbox) -> Sockets:
        """For the sandbox's own servers: each worker has its own sockets, so that none gets another's answers."""
        wanted = dict(self._wanted_inside(sandbox))
        sockets = self._kernel.open_asking_sockets(sandbox.netns, list(wanted.values())) if wanted else []
        return dict(zip(wanted, sockets, strict=True))

    def _wanted_inside(
        self, sandbox: Sandbox
    ) -> Iterator[tuple[str, tuple[socket.AddressFamily, socket.SocketKind]]]:
        for version in sorted({6 if ":" in address else 4 for address in sandbox.resolution.servers}):
            family = socket.AF_INET6 if version == 6 else socket.AF_INET
            for worker in range(self._resolver.workers):
                yield f"{worker}/udp{version}", (family, socket.SOCK_DGRAM)
                for number in range(_CONNECTIONS_INSIDE):
                    yield f"{worker}/tcp{version}-{number}", (family, socket.SOCK_STREAM)

    # What is told

    def snapshot(self) -> Sequence[Told]:
        return list(self._everything())

    def needed(self) -> bool:
        return bool(self._scopes)

    def _everything(self) -> Iterator[Told]:
        yield Told(Message(Verb.BEGIN))
        resolv_conf = os.path.join(self._settings.etc, "resolv.conf")
        settings = state.Settings(
            resolv_conf, self._settings.dns_cache, (ADDRESS, *self._settings.dns_addresses)
        )
        yield Told(Message(Verb.SETTINGS, "", settings))
        for zone in self._zones:
            yield from self._told_zone(self._zones[zone])
            for member in self._members.get(zone, {}).values():
                yield Told(Message(Verb.MEMBER, zone, member))
        for scope in self._scopes:
            yield self._told_scope(scope, whole=True)
        yield Told(Message(Verb.COMMIT))

    def _told_zone(self, network: Network) -> Iterator[Told]:
        self._zones[network.id] = network
        yield Told(Message(Verb.ZONE, network.id, network.name.lower()))
        records = [Record(each.name, each.kind, each.value) for each in network.records]
        yield Told(Message(Verb.RECORDS, network.id, records))

    def _told_scope(self, ident: str, *, whole: bool) -> Told:
        sockets = self._sockets.get(ident, {}) if whole else {}
        body = {"scope": self._scopes[ident], "sockets": list(sockets)}
        return Told(Message(Verb.SCOPE, ident, body), list(sockets.values()))


def is_served(sandbox: Sandbox, attached: Iterable[Attached]) -> bool:
    """Whether a sandbox that is joined to these has a name server of ours."""
    return sandbox.kind in _SERVED and any(is_nameable(each.network) for each in attached)


def _scope(sandbox: Sandbox, attached: Sequence[Attached]) -> Scope:
    ordered = sorted(attached, key=_rank)
    return Scope(
        id=sandbox.id,
        zones=tuple(each.network.id for each in ordered if is_nameable(each.network)),
        links=tuple(_links(ordered)),
        servers=tuple(Server(address, True) for address in sandbox.resolution.servers),
        external=any(not each.network.internal for each in attached),
        ndots=_ndots(sandbox),
    )


def _links(attached: Sequence[Attached]) -> Iterator[Link]:
    for endpoint, network in attached:
        for target, alias in endpoint.links:
            yield Link(network.id, alias.lower(), target.lower())


def _rank(attached: Attached) -> tuple[int, bool, str]:
    """As gateways are chosen: the networks of a sandbox are asked in this order."""
    return (-attached.endpoint.gw_priority, attached.network.internal, attached.network.name)


def _ndots(sandbox: Sandbox) -> int:
    found = (match for option in sandbox.resolution.options if (match := _NDOTS.fullmatch(option)))
    return next((int(match[1]) for match in found), 0)


def _close(sockets: Mapping[str, socket.socket]) -> None:
    for each in sockets.values():
        each.close()
