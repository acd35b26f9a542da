"""A real systemd-resolved is told of our networks: programs of the host that ask it find our names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dns.message
import dns.query
import dns.rcode
import pytest

from tests.support.dns_server import DnsServer, serving
from tests.support.names_lab import UPSTREAM, NamesLab, eventually, running_names_lab
from tests.support.resolved import PROGRAMS, STUB, Resolved, running_resolved
from tests.support.unpacked import lacking

pytestmark = pytest.mark.skipif(bool(lacking(*PROGRAMS)), reason=lacking(*PROGRAMS))

LISTEN = "127.0.0.12"
CONFIG = f'dns-listen = "{LISTEN}"\n'


class Place:
    """A host with cnmd and resolved, whose usual server knows www.example."""

    def __init__(self, lab: NamesLab, bridge: str, resolved: Resolved, upstream: DnsServer) -> None:
        self.lab = lab
        self.bridge = bridge
        """Of the network web."""
        self.resolved = resolved
        self.upstream = upstream

    def ask(self, name: str) -> dns.message.Message:
        """What a program of the host that asks resolved is answered."""
        with self.lab.host.enter():
            return dns.query.udp(dns.message.make_query(name, "A"), STUB, timeout=10)

    def found(self, name: str) -> list[str]:
        return [data.address for rrset in self.ask(name).answer for data in rrset]

    def address(self, sandbox: str, network: str) -> str:
        return self.lab.address(sandbox, network)

    def says(self, state: str, detail: str) -> bool:
        """In its line of `cnmctl status`."""
        neighbours = self.lab.cnmd.ask("GET", "/cnm/v1/status")["Neighbours"]
        return {"Name": "systemd-resolved", "State": state, "Detail": detail} in neighbours

    def warnings(self) -> list[str]:
        found = self.lab.cnmd.ask("GET", "/cnm/v1/status")["Warnings"]
        return [warning for warning in found if "names of network" in warning]

    def tells_of(self, networks: int) -> bool:
        return self.says("open", f"asks {LISTEN} for names of {networks} network{'s' * (networks > 1)}")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """One network, web, with the sandbox front on it."""
    with running_names_lab(tmp_path, CONFIG) as lab:
        upstream = DnsServer(UPSTREAM, {"www.example": "198.51.100.7"}, ttl=0)
        with serving(lab.outside, upstream), running_resolved(lab.host, tmp_path, UPSTREAM) as resolved:
            bridge = f"cnm-{lab.cnmd.create_network('web')[:11]}"
            lab.sandbox("front", "web")
            made = Place(lab, bridge, resolved, upstream)
            eventually(lambda: made.tells_of(1))
            yield made
        lab.cnmd.config = ""
        lab.cnmd.restart()  # and the host is served no more: the resolver may end


def test_names_of_a_network_are_found_by_the_host(place: Place) -> None:
    assert place.found("front.web") == [place.address("front", "web")]
    assert place.upstream.asked == []


def test_other_names_are_asked_of_the_host_s_usual_server(place: Place) -> None:
    assert place.found("www.example") == ["198.51.100.7"]
    assert dns.rcode.to_text(place.ask("nobody.example").rcode()) == "NXDOMAIN"
    assert {name for name, _ in place.upstream.asked} == {"www.example", "nobody.example"}


def test_what_comes_and_goes_is_found_at_once_and_no_more(place: Place) -> None:
    before = place.found("front.web")
    place.lab.remove("front")
    assert place.found("front.web") == []

    place.lab.sandbox("other", "web")
    place.lab.sandbox("front", "web")

    assert place.found("front.web") == [place.address("front", "web")] != before


def test_networks_that_come_and_go_are_told(place: Place) -> None:
    lab = place.lab
    lab.cnmd.create_network("Db_2.shop", Internal=True)
    lab.sandbox("store", "Db_2.shop")
    eventually(lambda: place.tells_of(2))

    assert place.found("store.db_2.shop") == [place.address("store", "Db_2.shop")]
    assert place.found("front.web") == [place.address("front", "web")]

    lab.remove("store")
    lab.cnmd.ask("DELETE", "/networks/Db_2.shop")
    eventually(lambda: place.tells_of(1))
    assert place.found("front.web") == [place.address("front", "web")]
    assert place.found("store.db_2.shop") == []
    assert "store.db_2.shop" in {name for name, _ in place.upstream.asked}


def test_a_name_that_dns_cannot_ask_for_stops_no_other(place: Place) -> None:
    place.lab.cnmd.create_network("two words")

    eventually(lambda: len(place.warnings()) == 1)
    assert place.tells_of(1)
    assert '"two words" cannot be asked for' in place.warnings()[0]
    assert place.found("front.web") == [place.address("front", "web")]


def test_resolved_that_starts_anew_is_told_again(place: Place) -> None:
    place.lab.cnmd.restart()
    eventually(lambda: place.tells_of(1))  # having written nothing: it has no reason of its own to look again
    place.resolved.stop()
    place.resolved.forget()
    place.resolved.start()

    eventually(lambda: place.found("front.web") == [place.address("front", "web")])


def test_resolved_that_comes_later_is_told(place: Place) -> None:
    place.resolved.stop()
    place.resolved.forget()
    place.lab.cnmd.restart()
    eventually(lambda: place.says("blocked", "was not reached"))
    assert any("it does not run: start it" in warning for warning in place.warnings())

    place.resolved.start()

    eventually(lambda: place.tells_of(1))
    assert place.found("front.web") == [place.address("front", "web")]


def test_names_are_found_while_cnmd_is_down(place: Place) -> None:
    place.lab.cnmd.stop()

    found = place.found("front.web")

    place.lab.cnmd.start()
    assert found == [place.address("front", "web")]


@pytest.mark.parametrize("config", ["", f"neighbours = false\n{CONFIG}"])
def test_switched_off_it_is_taken_back(place: Place, config: str) -> None:
    assert "~web" in place.resolved.resolvectl("domain")
    place.lab.cnmd.config = config

    place.lab.cnmd.restart()

    eventually(lambda: "~web" not in place.resolved.resolvectl("domain"))
    assert LISTEN not in place.resolved.resolvectl("dns")
    assert dns.rcode.to_text(place.ask("front.web").rcode()) == "NXDOMAIN"


def test_what_somebody_else_set_on_a_link_is_not_taken_back(place: Place) -> None:
    place.lab.cnmd.create_network("db")
    eventually(lambda: place.tells_of(2))
    place.lab.cnmd.stop()
    place.resolved.resolvectl("dns", place.bridge, UPSTREAM)
    place.lab.cnmd.config = ""

    place.lab.cnmd.start()
    eventually(lambda: "systemd-resolved: unused" in place.lab.cnmd.log)

    assert UPSTREAM in place.resolved.resolvectl("dns", place.bridge)
    assert LISTEN not in place.resolved.resolvectl("dns")


def test_a_sandbox_hears_nothing_of_other_networks_through_resolved(place: Place) -> None:
    lab = place.lab
    lab.cnmd.create_network("db")
    lab.sandbox("store", "db")
    eventually(lambda: place.tells_of(2))
    lab.say(STUB)
    eventually(lambda: lab.code("store", "www.example") == "NOERROR")

    assert lab.code("store", "front.web") == "NXDOMAIN"
    assert lab.addresses("front", "front.web") == place.found("front.web")


def test_a_link_that_networkd_manages_is_told_of(place: Place) -> None:
    place.resolved.let_networkd_manage(place.bridge)
    place.lab.cnmd.restart()

    eventually(lambda: place.says("blocked", "asks 127.0.0.12 for names of 0 of 1 network"))

    assert f"systemd-networkd manages {place.bridge}" in place.warnings()[0]
