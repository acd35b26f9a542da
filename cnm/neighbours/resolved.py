"""systemd-resolved, which the host's programs ask for names: it is told to ask us for NAME.NETWORK, and only for that.

It knows servers by link. The link of a network is its bridge, so what it was told goes with the network. It keeps
that over a restart of its own in /run, where it is told again nevertheless: whoever cleans up there tells nobody.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from cnm.neighbours import resolve1
from cnm.neighbours.bus import Bus, BusAway, BusRefused
from cnm.neighbours.neighbour import Report, State

SOCKET = "/run/systemd/resolve/io.systemd.Resolve"
"""resolved makes it anew whenever it starts."""

_NAME = "systemd-resolved"
_NOT_LISTENING = "cnmd listens nowhere (dns-listen)"
_LONGEST = 251
"""Of a domain that has a name below it (RFC 1035: 253 characters in all)."""
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")


def _system_bus() -> AbstractContextManager[Bus]:
    """Imported on the way, and jeepney with it: not every cnmd needs it."""
    from cnm.neighbours.system_bus import system_bus

    return system_bus()


@dataclass(frozen=True)
class _Link:
    """A link of ours and its network's name."""

    index: int
    name: str
    network: str

    @property
    def domain(self) -> str:
        """Empty where names on the network can be no names of DNS."""
        domain = self.network.lower()
        fits = len(domain) <= _LONGEST and all(map(_LABEL.fullmatch, domain.split(".")))
        return domain if fits else ""


@dataclass(frozen=True)
class _Place:
    """What came of one link."""

    problem: str = ""
    changed: bool = False


class Resolved:
    """Implements `cnm.neighbours.neighbour.Neighbour`.

    `listening` tells the loopback address at which names are answered now, "" while none is; `named` the networks that
    have names, by their links on the host. Both are called from the neighbours' thread.
    """

    in_tables = False

    def __init__(
        self,
        listening: Callable[[], str],
        named: Callable[[], Mapping[str, str]],
        connect: Callable[[], AbstractContextManager[Bus]] = _system_bus,
        path: str = SOCKET,
    ) -> None:
        self._listening = listening
        self._named = named
        self._connect = connect
        self._path = path

    def close(self) -> None:
        """Connections are closed as soon as they are of no use."""

    def detect(self) -> Hashable | None:
        try:
            found = os.stat(self._path)
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_ctime_ns

    def needs(self, bridges: Collection[str]) -> Hashable:
        address = self._listening()
        return address, tuple(self._links()) if address else ()

    def allow(self, bridges: Collection[str]) -> Report | None:
        address = self._listening()
        if not address:
            return self.undo(_NOT_LISTENING)
        links = list(self._links())
        usable = [link for link in links if link.domain]
        unusable = [_no_domain(link) for link in links if not link.domain]
        if not usable:
            return Report(_NAME, State.UNUSED, "no network has names that it could ask for", tuple(unusable))
        try:
            with self._connect() as bus:
                places = [_tell(bus, link, address) for link in usable]
        except BusAway as error:
            return _unreached(f"it is not asked for names of networks: {error}")
        told = f"asks {address} for names of {_counted(places)}"
        return _report(State.OPEN, told, places, unusable)

    def undo(self, why: str) -> Report | None:
        """Nothing is said of it where nobody wanted it and nothing had to be undone."""
        wanted = bool(self._listening())
        quiet = Report(_NAME, State.UNUSED, why) if wanted else None
        links = list(self._links())
        if not links:
            return quiet
        try:
            with self._connect() as bus:
                places = [_untell(bus, link) for link in links]
        except BusAway as error:
            return _unreached(f"what it was told was not taken back: {error}") if wanted else None
        report = _report(State.UNUSED, why, places)
        return report if report.changed or report.failed else quiet

    def _links(self) -> Iterator[_Link]:
        """In an order of their own; those that are not there (yet) are left out."""
        for name, network in sorted(self._named().items()):
            try:
                yield _Link(socket.if_nametoindex(name), name, network)
            except OSError:
                continue


# One link


def _tell(bus: Bus, link: _Link, address: str) -> _Place:
    wanted = resolve1.only_below(link.domain, address)
    try:
        if resolve1.read(bus, link.index) == wanted:
            return _Place()
        resolve1.write(bus, link.index, wanted)
    except BusRefused as error:
        return _Place(f"names of network {link.network} are not asked for: {_remedy(link, error)}")
    return _Place(changed=True)


def _untell(bus: Bus, link: _Link) -> _Place:
    """What others have set there stays."""
    try:
        if not resolve1.read(bus, link.index).is_local:
            return _Place()
        resolve1.revert(bus, link.index)
    except BusRefused as error:
        if error.name == resolve1.NO_SUCH_LINK:
            return _Place()
        return _Place(
            f"what it was told of network {link.network} was not taken back: {_remedy(link, error)}"
        )
    return _Place(changed=True)


# In words


def _remedy(link: _Link, error: BusRefused) -> str:
    if error.name == resolve1.LINK_BUSY:
        return f"systemd-networkd manages {link.name}: let it leave the link alone (packaging/README.md)"
    return f"{link.name}: {error} (resolvectl status {link.name})"


def _no_domain(link: _Link) -> str:
    return (
        f'names of network "{link.network}" cannot be asked for: it takes a network whose name is made of letters, '
        'digits, "-" and "_", up to 63 between dots'
    )


def _counted(places: Sequence[_Place]) -> str:
    told, number = sum(not place.problem for place in places), len(places)
    networks = "1 network" if number == 1 else f"{number} networks"
    return networks if told == number else f"{told} of {networks}"


def _report(state: State, detail: str, places: Sequence[_Place], unusable: Sequence[str] = ()) -> Report:
    problems = tuple(place.problem for place in places if place.problem)
    return Report(
        _NAME,
        State.BLOCKED if problems else state,
        detail,
        warnings=(*problems, *unusable),
        changed=any(place.changed for place in places),
        failed=bool(problems),
    )


def _unreached(warning: str) -> Report:
    return Report(_NAME, State.BLOCKED, "was not reached", (warning,), failed=True)
