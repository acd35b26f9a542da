"""Names that sandboxes find each other by, and what is asked of others: real queries from inside."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.reversename
import pytest

from tests.support.dns_server import BIG, DnsServer, serving
from tests.support.names_lab import SECOND, SERVER, UPSTREAM, NamesLab, eventually, running_names_lab

MORE_THAN_WAIT = 4000
"""Queries: more than all workers together let wait."""
NOTICED = 0.3
"""Seconds until a change of the host's resolv.conf counts."""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NamesLab]:
    """Networks web (dual stack), db (internal), old (the default network); sandboxes on them; no server outside."""
    with running_names_lab(tmp_path_factory.mktemp("names")) as made:
        made.cnmd.create_network("web", EnableIPv6=True)
        made.cnmd.create_network("db", Internal=True)
        made.sandbox("front", "web", Hostname="front-host")
        made.sandbox("back", "web", "db")
        made.sandbox("store", "db")
        made.sandbox("lone", "bridge")
        yield made


@pytest.fixture
def upstream(lab: NamesLab) -> Iterator[DnsServer]:
    """The host's server, that knows www.example."""
    lab.say(UPSTREAM)
    names = {"www.example": "198.51.100.7", "six.example": "2001:db8::7"}
    time.sleep(NOTICED)
    with serving(lab.outside, DnsServer(UPSTREAM, names, ttl=0)) as server:
        yield server


# Names of sandboxes


def test_a_renamed_sandbox_is_found_by_its_new_name_only(lab: NamesLab) -> None:
    address = lab.address("back", "web")
    lab.cnmd.ask("POST", "/cnm/v1/sandboxes/back/rename", {"Name": "rear"})
    try:
        assert lab.addresses("front", "rear") == [address]
        assert lab.code("front", "back") == "SERVFAIL"  # nobody outside to ask
    finally:
        lab.cnmd.ask("POST", "/cnm/v1/sandboxes/rear/rename", {"Name": "back"})
    assert lab.addresses("front", "back") == [address]


def test_a_sandbox_finds_another_by_name_in_both_families(lab: NamesLab) -> None:
    assert lab.addresses("front", "back") == [lab.address("back", "web")]
    assert lab.addresses("front", "back", "AAAA") == [lab.address("back", "web", "IPv6Address")]


def test_a_sandbox_finds_itself(lab: NamesLab) -> None:
    assert lab.addresses("front", "front") == [lab.address("front", "web")]


def test_a_name_is_found_over_tcp_too(lab: NamesLab) -> None:
    assert lab.addresses("front", "back", tcp=True) == [lab.address("back", "web")]


def test_short_id_and_hostname_are_names(lab: NamesLab) -> None:
    for name in (lab.inspect("front")["Id"][:12], "front-host", "FRONT-HOST"):
        assert lab.addresses("back", name) == [lab.address("front", "web")]


def test_a_network_s_names_are_known_on_it_only(lab: NamesLab, upstream: DnsServer) -> None:
    assert lab.addresses("store", "back") == [lab.address("back", "db")]
    assert lab.code("front", "store") == "NXDOMAIN"
    assert lab.code("store", "front") == "SERVFAIL"
    assert lab.addresses("back", "store.db") == [lab.address("store", "db")]
    assert lab.code("store", "front.web") == "SERVFAIL"


def test_an_address_has_a_name(lab: NamesLab) -> None:
    for key in ("IPv4Address", "IPv6Address"):
        reverse = dns.reversename.from_address(lab.address("back", "web", key))
        (rrset,) = lab.ask("front", str(reverse), "PTR").answer
        assert str(rrset[0].target) == "back.web."


def test_a_known_name_has_no_other_records(lab: NamesLab) -> None:
    answer = lab.ask("front", "back", "MX")

    assert (answer.rcode(), answer.answer) == (dns.rcode.NOERROR, [])


def test_the_other_family_of_a_known_name_is_empty(lab: NamesLab) -> None:
    answer = lab.ask("store", "back", "AAAA")

    assert (answer.rcode(), answer.answer) == (dns.rcode.NOERROR, [])


def test_nothing_answers_on_the_default_network(lab: NamesLab) -> None:
    with pytest.raises((dns.exception.Timeout, OSError)):
        lab.ask("lone", "front", seconds=0.5)


def test_aliases_are_of_their_network_and_shared(lab: NamesLab, upstream: DnsServer) -> None:
    for name in ("one", "two"):
        lab.sandbox(name)
        lab.cnmd.connect("web", name, Aliases=["www", "*.shop", "a.b"])
    both = sorted(lab.address(name, "web") for name in ("one", "two"))
    firsts = [lab.ask("front", "www").answer[0][0].address for _ in range(8)]

    assert (
        lab.addresses("front", "www")
        == lab.addresses("front", "x.shop")
        == lab.addresses("front", "a.b.web")
        == both
    )
    assert len(set(firsts)) == 2
    assert lab.code("store", "www") == "SERVFAIL"
    lab.remove("two")
    assert lab.addresses("front", "www") == [lab.address("one", "web")]
    lab.cnmd.ask("POST", "/networks/web/disconnect", {"Container": "one"})
    assert lab.code("front", "www") == "NXDOMAIN"
    lab.remove("one")


def test_a_name_goes_with_its_sandbox_and_comes_with_the_next(lab: NamesLab, upstream: DnsServer) -> None:
    lab.sandbox("brief", "web")
    before = lab.addresses("front", "brief")
    lab.remove("brief")
    assert lab.code("front", "brief") == "NXDOMAIN"
    lab.sandbox("brief")
    lab.cnmd.connect("web", "brief", IPAMConfig={"IPv4Address": str(_later(before[0]))})
    assert lab.addresses("front", "brief") == [str(_later(before[0]))]
    lab.remove("brief")


def _later(address: str) -> str:
    return str(ipaddress.ip_address(address) + 100)


def test_a_link_is_a_name_for_one_sandbox_only(lab: NamesLab, upstream: DnsServer) -> None:
    lab.sandbox("linked")
    lab.cnmd.connect("web", "linked", Links=["back:database", "later:next"])

    assert lab.addresses("linked", "database") == [lab.address("back", "web")]
    assert lab.code("front", "database") == "NXDOMAIN"
    assert lab.code("linked", "next") == "NXDOMAIN"
    lab.sandbox("later", "web")
    assert lab.addresses("linked", "next") == [lab.address("later", "web")]
    for name in ("linked", "later"):
        lab.remove(name)


def test_a_service_is_found_at_its_port(lab: NamesLab) -> None:
    answer = lab.ask("front", "_8080._tcp.back", "SRV")

    assert [(data.port, str(data.target)) for data in answer.answer[0]] == [(8080, "back.")]


# Others are asked


def test_unknown_names_are_asked_of_the_host_s_server(lab: NamesLab, upstream: DnsServer) -> None:
    assert lab.addresses("front", "www.example") == ["198.51.100.7"]
    assert lab.addresses("front", "six.example", "AAAA") == ["2001:db8::7"]
    assert lab.addresses("front", "www.example", tcp=True) == ["198.51.100.7"]
    assert upstream.asked == [("www.example", "udp"), ("six.example", "udp"), ("www.example", "tcp")]


def test_that_a_name_does_not_exist_is_passed_on_as_it_is(lab: NamesLab, upstream: DnsServer) -> None:
    answer = lab.ask("front", "nobody.example")

    assert answer.rcode() == dns.rcode.NXDOMAIN
    assert "root.example." in str(answer.authority[0])


def test_a_failing_server_is_a_failure_after_it_was_asked_twice(lab: NamesLab, upstream: DnsServer) -> None:
    upstream.rcode = dns.rcode.SERVFAIL

    assert lab.code("front", "www.example") == "SERVFAIL"
    assert len(upstream.asked) == 2


@pytest.mark.parametrize("rcode", [dns.rcode.SERVFAIL, dns.rcode.REFUSED])
def test_the_next_server_is_asked_where_one_fails(
    lab: NamesLab, upstream: DnsServer, rcode: dns.rcode.Rcode
) -> None:
    upstream.rcode = rcode
    lab.say(UPSTREAM, SECOND)
    time.sleep(NOTICED)

    with serving(lab.outside, DnsServer(SECOND, {"www.example": "198.51.100.8"}, ttl=0)):
        assert lab.addresses("front", "www.example") == ["198.51.100.8"]


def test_the_next_server_is_asked_where_one_is_silent(lab: NamesLab, upstream: DnsServer) -> None:
    upstream.silent = True
    lab.say(UPSTREAM, SECOND)
    time.sleep(NOTICED)

    with serving(lab.outside, DnsServer(SECOND, {"www.example": "198.51.100.8"}, ttl=0)):
        began = time.monotonic()
        assert lab.addresses("front", "www.example") == ["198.51.100.8"]
        assert time.monotonic() - began > 0.9


def test_a_server_that_is_not_there_is_passed_over_at_once(lab: NamesLab, upstream: DnsServer) -> None:
    lab.say("192.0.2.1", UPSTREAM)  # the host itself, where nobody listens
    time.sleep(NOTICED)

    assert lab.addresses("front", "www.example") == ["198.51.100.7"]
    assert lab.addresses("front", "www.example", tcp=True) == ["198.51.100.7"]


def test_a_large_answer_is_said_to_be_and_comes_over_tcp(lab: NamesLab, upstream: DnsServer) -> None:
    short = lab.ask("front", "big.example", "TXT")
    whole = lab.ask("front", "big.example", "TXT", tcp=True)

    assert short.flags & dns.flags.TC
    assert len(whole.to_wire()) > BIG


def test_a_sandbox_on_internal_networks_only_asks_nobody(lab: NamesLab, upstream: DnsServer) -> None:
    assert lab.code("store", "www.example") == "SERVFAIL"
    assert upstream.asked == []
    lab.cnmd.connect("web", "store")
    assert lab.addresses("store", "www.example") == ["198.51.100.7"]
    lab.cnmd.ask("POST", "/networks/web/disconnect", {"Container": "store"})
    assert lab.code("store", "www.example") == "SERVFAIL"


def test_a_sandbox_s_own_servers_are_asked_from_inside(lab: NamesLab, upstream: DnsServer) -> None:
    """On an internal network, where only a sibling can be reached."""
    helper = lab.sandbox("helper", "db")
    address = lab.address("helper", "db")
    names = {"www.example": "198.51.100.9"}
    with serving(helper, DnsServer(address, names, ttl=0)) as server:
        lab.sandbox("asker", "db", Dns=[address])
        assert lab.addresses("asker", "www.example") == ["198.51.100.9"]
        assert lab.code("asker", "nobody.example") == "NXDOMAIN"
        for _ in range(6):
            assert lab.addresses("asker", "www.example", tcp=True) == ["198.51.100.9"]
        assert len(server.asked) == 8
    assert upstream.asked == []
    for name in ("asker", "helper"):
        lab.remove(name)


def test_a_sandbox_without_ipv4_asks_the_host_s_server(lab: NamesLab, upstream: DnsServer) -> None:
    lab.cnmd.create_network("six", EnableIPv4=False, EnableIPv6=True)
    lab.sandbox("six-only", "six")

    assert lab.addresses("six-only", "www.example") == ["198.51.100.7"]
    lab.remove("six-only")


@pytest.mark.parametrize("servers", [[SERVER], [SERVER, UPSTREAM]])
def test_a_sandbox_never_asks_itself(lab: NamesLab, upstream: DnsServer, servers: list[str]) -> None:
    lab.sandbox("loop", "web", Dns=servers)

    code = "NOERROR" if UPSTREAM in servers else "SERVFAIL"
    assert lab.code("loop", "www.example") == code
    lab.remove("loop")


def test_the_host_s_file_is_read_again_when_it_changes(lab: NamesLab, upstream: DnsServer) -> None:
    with serving(lab.outside, DnsServer(SECOND, {"www.example": "198.51.100.8"}, ttl=0)):
        assert lab.addresses("front", "www.example") == ["198.51.100.7"]
        lab.say(SECOND)
        time.sleep(NOTICED)
        assert lab.addresses("front", "www.example") == ["198.51.100.8"]


def test_answers_are_kept_for_as_long_as_they_say(lab: NamesLab, upstream: DnsServer) -> None:
    upstream.ttl = 60
    upstream.names["kept.example"] = "198.51.100.1"

    for _ in range(20):
        assert lab.addresses("front", "kept.example") == ["198.51.100.1"]
    assert 1 <= len(upstream.asked) <= 4  # once by each worker


def test_systemd_resolved_s_stub_is_a_server_like_others(lab: NamesLab, upstream: DnsServer) -> None:
    """It is on the host's loopback, and the host's file leads there."""
    with serving(lab.host, DnsServer("127.0.0.53", {"www.example": "198.51.100.53"}, ttl=0)) as stub:
        lab.say("127.0.0.53", options="edns0 trust-ad", search=".")
        time.sleep(NOTICED)
        assert lab.addresses("front", "www.example") == ["198.51.100.53"]
        assert lab.addresses("front", "www.example", tcp=True) == ["198.51.100.53"]
    assert [protocol for _, protocol in stub.asked] == ["udp", "tcp"]
    assert upstream.asked == []


@pytest.mark.parametrize(("room", "whole"), [(0, False), (1232, False), (4096, True)])
def test_an_answer_is_as_large_as_its_client_takes_it(
    lab: NamesLab, upstream: DnsServer, room: int, whole: bool
) -> None:
    options = {"use_edns": True, "payload": room} if room else {}
    answer = lab.ask("front", "wide.example", "TXT", **options)

    assert bool(answer.flags & dns.flags.TC) is not whole
    assert len(answer.to_wire()) <= max(room, 512)
    assert bool(answer.answer) is whole


def test_without_a_cache_everything_is_asked(tmp_path: Path) -> None:
    with running_names_lab(tmp_path, "dns-cache = false\n") as lab:
        lab.cnmd.create_network("web")
        lab.sandbox("front", "web")
        names = {"www.example": "198.51.100.7"}
        with serving(lab.outside, DnsServer(UPSTREAM, names, ttl=60)) as server:
            for _ in range(5):
                assert lab.addresses("front", "www.example") == ["198.51.100.7"]
            assert len(server.asked) == 5
        lab.remove("front")


def test_what_cannot_wait_any_more_is_refused_and_names_are_answered(
    lab: NamesLab, upstream: DnsServer
) -> None:
    upstream.silent = True
    refused = 0
    with lab._boxes["front"].socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect((SERVER, 53))
        client.settimeout(0)
        for number in range(MORE_THAN_WAIT):
            client.send(dns.message.make_query(f"name{number}.example", "A").to_wire())
            if number % 50 == 0:
                time.sleep(0.005)  # so that its queue holds them
            with contextlib.suppress(BlockingIOError):
                while answer := client.recv(512):
                    refused += dns.message.from_wire(answer).rcode() == dns.rcode.REFUSED
        assert lab.addresses("front", "back") == [lab.address("back", "web")]
    assert refused > 0
    upstream.silent = False
    eventually(lambda: lab.code("front", "www.example") == "NOERROR", seconds=20)


def test_nobody_else_can_ask(lab: NamesLab) -> None:
    """At the sandbox's own address, from a neighbour and from the host."""
    for box in (lab._boxes["back"], lab.host):
        with box.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(1)
            client.connect((lab.address("front", "web"), 53))
            client.send(dns.message.make_query("front", "A").to_wire())
            with pytest.raises((ConnectionRefusedError, TimeoutError)):
                client.recv(512)


def test_no_query_is_lost_while_others_come_and_go(lab: NamesLab) -> None:
    """With a thousand names known; the address that is asked for stays, the rest changes without a pause."""
    lab.sandbox("many")
    lab.cnmd.connect("web", "many", Aliases=[f"name{number}" for number in range(1000)])
    expected = [lab.address("many", "web")]
    lab.sandbox("guest")
    over, changes = threading.Event(), []

    def come_and_go() -> None:
        while not over.is_set():
            lab.cnmd.connect("web", "guest", Aliases=["visitor"])
            lab.cnmd.ask("POST", "/networks/web/disconnect", {"Container": "guest"})
            changes.append(1)

    changing = threading.Thread(target=come_and_go)
    changing.start()
    try:
        found = [lab.addresses("front", f"name{number}", seconds=1) for number in range(1000)]
    finally:
        over.set()
        changing.join()
    assert found == [expected] * 1000
    assert changes
    for name in ("many", "guest"):
        lab.remove(name)


def test_what_is_asked_and_answered_is_counted(lab: NamesLab, upstream: DnsServer) -> None:
    upstream.ttl = 60
    upstream.names["counted.example"] = "198.51.100.2"
    before = counters(lab)

    for tcp in (False, False, True):
        lab.ask("front", "back", tcp=tcp)
    lab.ask("front", "missing.example")
    for _ in range(20):  # more than there are workers, each of which has a cache
        lab.ask("front", "counted.example")

    grown = {name: value - before[name] for name, value in counters(lab).items()}
    assert (grown['queries_total{protocol="udp"}'], grown['queries_total{protocol="tcp"}']) == (23, 1)
    assert (grown['answers_total{code="NOERROR"}'], grown['answers_total{code="NXDOMAIN"}']) == (23, 1)
    assert grown["forwarded_total"] == len(upstream.asked)
    assert grown["forwarded_total"] + grown["cache_hits_total"] == 21
    assert grown["cache_hits_total"] > 0
    assert grown["seconds_count"] == 24


def counters(lab: NamesLab) -> dict[str, float]:
    """The resolver's, by their names without what all begin with."""
    lines = (line.split() for line in lab.cnmd.ask("GET", "/metrics").splitlines())
    return {
        name.removeprefix("cnm_dns_"): float(value)
        for name, value in (words for words in lines if len(words) == 2)
        if name.startswith("cnm_dns_")
    }


# What nobody should send


def test_garbage_stops_nobody(lab: NamesLab) -> None:
    box = lab._boxes["front"]
    with box.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        for garbage in (b"", b"\0", b"garbage", b"\xff" * 600, b"\0" * 12):
            client.sendto(garbage, (SERVER, 53))

    assert lab.addresses("front", "back") == [lab.address("back", "web")]


def test_a_slow_client_holds_up_nobody(lab: NamesLab) -> None:
    box = lab._boxes["front"]
    slow = [box.socket() for _ in range(20)]
    for each in slow:
        each.connect((SERVER, 53))
        each.send(b"\0")

    began = time.monotonic()
    assert lab.addresses("front", "back", tcp=True) == [lab.address("back", "web")]
    assert time.monotonic() - began < 1
    for each in slow:
        each.close()


def test_a_query_that_comes_byte_by_byte_is_answered_and_holds_up_nobody(lab: NamesLab) -> None:
    box = lab._boxes["front"]
    query = dns.message.make_query("back", "A")
    wire = query.to_wire()
    with box.socket() as slow:
        slow.settimeout(5)
        slow.connect((SERVER, 53))
        for byte in len(wire).to_bytes(2) + wire:
            slow.send(bytes([byte]))
            assert lab.addresses("front", "back", tcp=True) == [lab.address("back", "web")]
        length = int.from_bytes(slow.recv(2, socket.MSG_WAITALL))
        assert query.is_response(dns.message.from_wire(slow.recv(length, socket.MSG_WAITALL)))


def test_the_largest_query_over_tcp_is_no_harm(lab: NamesLab) -> None:
    """65,535 bytes that are no query: an error or a closed connection, and others go on."""
    with lab._boxes["front"].socket() as client:
        client.settimeout(5)
        client.connect((SERVER, 53))
        client.sendall(b"\xff\xff" + dns.message.make_query("back", "A").to_wire().ljust(65535, b"\xaa"))
        length = client.recv(2, socket.MSG_WAITALL)
        if length:
            answer = client.recv(int.from_bytes(length), socket.MSG_WAITALL)
            assert answer[3] & 15 == dns.rcode.FORMERR
    assert lab.addresses("front", "back", tcp=True) == [lab.address("back", "web")]


@pytest.mark.parametrize(
    ("questions", "code"),
    [((), "FORMERR"), (("back. IN A", "front. IN A"), "FORMERR"), (("back. CH TXT",), "REFUSED")],
)
def test_odd_questions_are_told_so(lab: NamesLab, questions: tuple[str, ...], code: str) -> None:
    text = "id 7\nopcode QUERY\nflags RD\n;QUESTION\n" + "\n".join(questions)
    query = dns.message.from_text(text)
    with lab._boxes["front"].enter():
        answer = dns.query.udp(query, SERVER, timeout=5, ignore_errors=False)
    assert dns.rcode.to_text(answer.rcode()) == code


@pytest.mark.parametrize("kind", ["TYPE65280", "HTTPS", "SOA", "NS"])
def test_a_known_name_has_nothing_of_unusual_kinds(lab: NamesLab, kind: str) -> None:
    answer = lab.ask("front", "back", kind)
    assert (answer.rcode(), answer.answer) == (dns.rcode.NOERROR, [])


def test_many_queries_go_over_one_connection(lab: NamesLab) -> None:
    box = lab._boxes["front"]
    names = ("back", "front", "back") * 50
    queries = [dns.message.make_query(name, "A", id=ident) for ident, name in enumerate(names)]
    with box.socket() as client:
        client.settimeout(5)
        client.connect((SERVER, 53))
        wires = [query.to_wire() for query in queries]
        client.sendall(b"".join(len(wire).to_bytes(2) + wire for wire in wires))
        answers = {}
        for _ in queries:
            length = int.from_bytes(client.recv(2, socket.MSG_WAITALL))
            answer = dns.message.from_wire(client.recv(length, socket.MSG_WAITALL))
            answers[answer.id] = answer
    assert all(query.is_response(answers[query.id]) for query in queries)


# The host itself


def test_the_host_finds_names_of_networks(tmp_path: Path) -> None:
    with running_names_lab(tmp_path, 'dns-listen = "127.0.0.12"\n') as lab:
        lab.cnmd.create_network("web")
        lab.sandbox("front", "web")
        for restart in (False, True):
            if restart:
                lab.cnmd.restart()
            with lab.host.enter():
                answers = {
                    name: dns.query.udp(dns.message.make_query(name, "A"), "127.0.0.12", timeout=5)
                    for name in ("front.web", "front", "www.example")
                }
            assert answers["front.web"].answer[0][0].address == lab.address("front", "web")
            for name in ("front", "www.example"):
                assert answers[name].rcode() == dns.rcode.REFUSED
        lab.remove("front")
        lab.cnmd.stop()
        lab.cnmd.config = ""
        lab.cnmd.start()  # and the host is served no more: the resolver may end


def test_a_taken_address_is_told_and_networks_work(tmp_path: Path) -> None:
    with running_names_lab(tmp_path) as lab:
        lab.cnmd.stop()
        lab.cnmd.config += 'dns-listen = "127.0.0.12"\n'
        with lab.host.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
            taken.bind(("127.0.0.12", 53))
            lab.cnmd.start()
        assert "in the host, at 127.0.0.12: address already in use: choose another dns-listen" in lab.cnmd.log
        lab.cnmd.create_network("web")
