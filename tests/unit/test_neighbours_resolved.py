"""What systemd-resolved is told of our links, over a bus that is played; and what a broken bus comes to."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cnm.neighbours.bus import Bus, BusAway, BusRefused, Call
from cnm.neighbours.neighbour import Report, State
from cnm.neighbours.resolved import Resolved
from cnm.neighbours.system_bus import system_bus

LISTEN = "127.0.0.12"
BRIDGES = frozenset({"cnm-web", "cnm-db"})
INDEXES = {"cnm-web": 65536, "cnm-db": 65540, "cnm-odd": 65550}
V4 = int(socket.AF_INET)


@dataclass
class FakeBus:
    """systemd-resolved at its other end: properties of links by index, as org.freedesktop.resolve1(5) has them."""

    links: dict[int, dict[str, tuple[str, Any]]] = field(default_factory=dict)
    refused: dict[tuple[str, int], str] = field(default_factory=dict)
    """Names of errors by method and index."""
    away: bool = False
    methods: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.links = {index: _untold() for index in INDEXES.values()}

    @contextlib.contextmanager
    def connected(self) -> Iterator[Bus]:
        if self.away:
            raise BusAway("the system bus cannot be reached")
        yield self

    def call(self, call: Call) -> tuple[Any, ...]:
        assert call.destination == "org.freedesktop.resolve1"
        self.methods.append(call.method)
        if call.method == "GetAll":
            assert call.body == ("org.freedesktop.resolve1.Link",)
            return (self.links[int(call.path.rpartition("_")[2])],)
        index, *rest = call.body
        if name := self.refused.get((call.method, index)):
            raise BusRefused(name, "it is so")
        if index not in self.links:
            raise BusRefused("org.freedesktop.resolve1.NoSuchLink", f"Link {index} not known")
        return self._manage(call, index, *rest)

    def _manage(self, call: Call, index: int, *rest: Any) -> tuple[Any, ...]:
        if call.method == "GetLink":
            return (f"/org/freedesktop/resolve1/link/_{index}",)
        if call.method == "RevertLink":
            self.links[index] = _untold()
            return ()
        name = call.method.removeprefix("SetLink")
        known = self.links[index]
        assert name in known, f"no such method: {call.method}"
        assert call.signature == "i" + known[name][0]
        (value,) = rest
        known[name] = (known[name][0], value)
        return ()

    @property
    def written(self) -> list[str]:
        return [method for method in self.methods if not method.startswith("Get")]


def _untold() -> dict[str, tuple[str, Any]]:
    return {
        "DNS": ("a(iay)", []),
        "Domains": ("a(sb)", []),
        "DefaultRoute": ("b", True),
        "DNSSEC": ("s", "allow-downgrade"),
        "DNSOverTLS": ("s", "opportunistic"),
    }


def told(domain: str) -> dict[str, tuple[str, Any]]:
    return {
        "DNS": ("a(iay)", [(V4, b"\x7f\0\0\x0c")]),
        "Domains": ("a(sb)", [(domain, True)]),
        "DefaultRoute": ("b", False),
        "DNSSEC": ("s", "no"),
        "DNSOverTLS": ("s", "no"),
    }


class Place:
    """cnmd that answers the host at `address`, with networks by their links; and resolved."""

    def __init__(self, path: Path) -> None:
        self.address = LISTEN
        self.networks = {"cnm-web": "web", "cnm-db": "db"}
        self.bus = FakeBus()
        self.path = path
        self.resolved = self.anew()

    def anew(self) -> Resolved:
        """As another cnmd would have it."""
        return Resolved(lambda: self.address, lambda: self.networks, self.bus.connected, str(self.path))

    def allow(self) -> Report | None:
        return self.resolved.allow(BRIDGES)

    def undo(self) -> Report | None:
        return self.resolved.undo("why not")

    def told(self, link: str) -> dict[str, tuple[str, Any]]:
        return self.bus.links[INDEXES[link]]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    def index(name: str) -> int:
        if name not in INDEXES:
            raise OSError(19, "No such device")
        return INDEXES[name]

    monkeypatch.setattr(socket, "if_nametoindex", index)
    return Place(tmp_path / "io.systemd.Resolve")


# What is told


def test_each_link_is_told_its_network_and_nothing_else(place: Place) -> None:
    report = place.allow()

    assert report == Report("systemd-resolved", State.OPEN, "asks 127.0.0.12 for names of 2 networks")
    assert report.changed
    assert place.told("cnm-web") == told("web")
    assert place.told("cnm-db") == told("db")
    assert place.told("cnm-odd") == _untold()


def test_the_server_comes_last(place: Place) -> None:
    place.networks = {"cnm-web": "web"}

    place.allow()

    assert place.bus.written[-1] == "SetLinkDNS"
    assert place.bus.written.index("SetLinkDefaultRoute") < place.bus.written.index("SetLinkDomains")


def test_nothing_is_written_twice(place: Place) -> None:
    before = place.allow()
    place.bus.methods.clear()

    for resolved in (place.resolved, place.anew()):
        report = resolved.allow(BRIDGES)
        assert (report, report and report.changed) == (before, False)
    assert place.bus.written == []


def test_what_somebody_changed_is_told_again(place: Place) -> None:
    place.allow()
    place.told("cnm-web")["Domains"] = ("a(sb)", [("elsewhere", False)])

    report = place.allow()

    assert report is not None
    assert report.changed
    assert place.told("cnm-web") == told("web")


def test_an_ipv6_address_is_told_too(place: Place) -> None:
    place.address = "::1"

    place.allow()

    assert place.told("cnm-web")["DNS"][1] == [(int(socket.AF_INET6), bytes(15) + b"\1")]


@pytest.mark.parametrize("name", ["web", "Web", "my_app_default", "a.b-c.d", "_x", "1", "a" * 63])
def test_networks_that_dns_has_names_for(place: Place, name: str) -> None:
    place.networks = {"cnm-web": name}

    report = place.allow()

    assert report is not None
    assert (report.state, report.warnings) == (State.OPEN, ())
    assert place.told("cnm-web") == told(name.lower())


@pytest.mark.parametrize(
    "name", ["two words", "a" * 64, "a..b", ".a", "a.", "-a", "a-", "ü", "a:b", ".".join(["a" * 63] * 4)]
)
def test_a_network_without_a_name_of_dns_is_left_out(place: Place, name: str) -> None:
    place.networks = {"cnm-odd": name, "cnm-web": "web"}

    report = place.allow()

    assert report is not None
    assert (report.state, report.failed) == (State.OPEN, False)
    assert report.detail == "asks 127.0.0.12 for names of 1 network"
    (warning,) = report.warnings
    assert f'network "{name}" cannot be asked for' in warning
    assert place.told("cnm-odd") == _untold()
    assert place.told("cnm-web") == told("web")


def test_without_a_network_that_has_names_nothing_is_asked(place: Place) -> None:
    place.networks = {}
    place.bus.away = True

    report = place.allow()

    assert report == Report("systemd-resolved", State.UNUSED, "no network has names that it could ask for")


def test_a_link_that_is_not_there_is_left_out(place: Place) -> None:
    place.networks["cnm-gone"] = "gone"

    report = place.allow()

    assert report == Report("systemd-resolved", State.OPEN, "asks 127.0.0.12 for names of 2 networks")


# What does not work


def test_a_link_of_networkd_is_told_of_and_the_others_are_served(place: Place) -> None:
    place.bus.refused["SetLinkDefaultRoute", INDEXES["cnm-db"]] = "org.freedesktop.resolve1.LinkBusy"

    report = place.allow()

    assert report is not None
    assert (report.state, report.failed) == (State.BLOCKED, True)
    assert report.detail == "asks 127.0.0.12 for names of 1 of 2 networks"
    assert report.warnings == (
        "names of network db are not asked for: systemd-networkd manages cnm-db: let it leave the link alone "
        "(packaging/README.md)",
    )
    assert place.told("cnm-web") == told("web")


@pytest.mark.parametrize("method", ["GetLink", "SetLinkDNS", "SetLinkDomains", "SetLinkDNSSEC"])
def test_any_other_refusal_is_told_with_its_link(place: Place, method: str) -> None:
    place.bus.refused[method, INDEXES["cnm-db"]] = "org.freedesktop.DBus.Error.AccessDenied"

    report = place.allow()

    assert report is not None
    assert (report.state, report.failed) == (State.BLOCKED, True)
    assert report.warnings == (
        "names of network db are not asked for: cnm-db: it is so (resolvectl status cnm-db)",
    )


def test_a_resolved_that_is_too_old_is_told_of(place: Place) -> None:
    place.networks = {"cnm-web": "web"}
    del place.told("cnm-web")["DNSOverTLS"]

    report = place.allow()

    assert report is not None
    assert "it is too old: it has no 'DNSOverTLS' for a link" in report.warnings[0]


def test_without_a_bus_there_is_one_warning(place: Place) -> None:
    place.bus.away = True

    report = place.allow()

    warning = "it is not asked for names of networks: the system bus cannot be reached"
    assert report == Report("systemd-resolved", State.BLOCKED, "was not reached", (warning,))
    assert report.failed


def test_a_resolved_that_ended_is_told_of(place: Place) -> None:
    for index in INDEXES.values():
        place.bus.refused["GetLink", index] = "org.freedesktop.DBus.Error.ServiceUnknown"

    report = place.allow()

    assert report is not None
    assert report.warnings == ("it is not asked for names of networks: it does not run: start it",)


# Taking back


@pytest.mark.parametrize("how", [Place.allow, Place.undo])
def test_switched_off_it_is_taken_back_once(place: Place, how: Callable[[Place], Report | None]) -> None:
    place.allow()
    place.address = ""
    place.resolved = place.anew()

    report = how(place)

    assert report is not None
    assert (report.state, report.changed) == (State.UNUSED, True)
    assert place.told("cnm-web") == place.told("cnm-db") == _untold()
    assert how(place) is None


def test_what_others_set_on_a_link_stays(place: Place) -> None:
    place.told("cnm-web")["DNS"] = ("a(iay)", [(V4, b"\x7f\0\0\x0c"), (V4, b"\xc0\0\2\1")])
    place.told("cnm-db")["Domains"] = ("a(sb)", [("corp", False)])

    place.undo()

    assert place.bus.written == []


def test_undone_while_it_is_wanted_it_is_shown_so(place: Place) -> None:
    place.allow()

    assert place.undo() == place.undo() == Report("systemd-resolved", State.UNUSED, "why not")
    place.networks = {}
    assert place.undo() == Report("systemd-resolved", State.UNUSED, "why not")


def test_whoever_never_wanted_it_hears_nothing_of_a_broken_bus(place: Place) -> None:
    place.address = ""
    place.bus.away = True

    assert place.allow() is None


def test_what_cannot_be_taken_back_is_told(place: Place) -> None:
    place.allow()
    place.bus.refused["RevertLink", INDEXES["cnm-db"]] = "org.freedesktop.resolve1.LinkBusy"
    place.bus.refused["GetLink", INDEXES["cnm-web"]] = "org.freedesktop.resolve1.NoSuchLink"
    place.address = ""

    report = place.allow()

    assert report is not None
    assert (report.state, report.failed, len(report.warnings)) == (State.BLOCKED, True, 1)
    assert "what it was told of network db was not taken back: systemd-networkd manages" in report.warnings[0]
    place.address, place.bus.away = LISTEN, True
    undone = place.undo()
    assert undone is not None
    assert "what it was told was not taken back: the system bus" in undone.warnings[0]


# When to look again


def test_it_is_there_when_it_has_made_its_socket(place: Place) -> None:
    assert place.resolved.detect() is None

    place.path.touch()
    first = place.resolved.detect()

    assert first == place.resolved.detect() is not None
    place.path.rename(place.path.with_suffix(".old"))
    place.path.touch()
    assert place.resolved.detect() not in (None, first)


def test_it_is_told_again_when_links_or_the_address_change(place: Place) -> None:
    seen = [place.resolved.needs(BRIDGES)]
    place.networks = {"cnm-web": "web"}
    seen.append(place.resolved.needs(BRIDGES))
    place.networks = {"cnm-odd": "web"}
    seen.append(place.resolved.needs(BRIDGES))
    place.address = "127.0.0.13"
    seen.append(place.resolved.needs(BRIDGES))
    place.address = ""
    seen.append(place.resolved.needs(BRIDGES))

    assert len(set(seen)) == len(seen)
    place.networks = {}
    assert place.resolved.needs(BRIDGES) == seen[-1]


# The bus itself


def test_no_bus_is_no_accident(tmp_path: Path) -> None:
    path = tmp_path / "none"

    with (
        pytest.raises(BusAway, match=f"cannot be reached at {path}: no such file or directory"),
        system_bus(str(path)),
    ):
        pass


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ([], "it hung up"),
        ([b"REJECTED EXTERNAL\r\n"], "authentication failed"),
        ([b"OK 1234\r\n"], "it hung up|reset|broken pipe"),
        ([b"OK 1234\r\n", b"?" * 64], "what came is no d-bus"),
    ],
)
def test_a_bus_that_makes_no_sense_is_away(tmp_path: Path, answers: list[bytes], said: str) -> None:
    path = str(tmp_path / "bus")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        thread = threading.Thread(target=_play, args=(listener, answers))
        thread.start()
        with pytest.raises(BusAway, match=said), system_bus(path):
            pass
        thread.join()


def _play(listener: socket.socket, answers: list[bytes]) -> None:
    channel, _peer = listener.accept()
    with channel, contextlib.suppress(ConnectionError):
        for answer in answers:
            channel.recv(4096)
            channel.sendall(answer)
        channel.recv(4096)


def test_who_needs_no_bus_does_not_pay_for_it() -> None:
    code = "import sys, cnm.daemon; sys.exit('jeepney' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], env=os.environ).returncode == 0
