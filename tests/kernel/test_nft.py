"""Elements in the kernel: as nft(8) lists what we wrote, and as we read back what it wrote."""

from __future__ import annotations

import json
import os
import resource
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from cnm.endpoint import PortMapping, Protocol
from cnm.errors import InvalidParameter, KernelError
from cnm.firewall import ruleset, sets
from cnm.firewall.elements import attach_elements, host_elements, network_elements, publish_elements
from cnm.firewall.modes import GatewayMode
from cnm.kernel import nft as nft_module
from cnm.kernel.nft import Nft
from cnm.kernel.state import FirewallElement
from netns_fixtures import Host, Topology
from tests.support.thorough import THOROUGH

pytestmark = pytest.mark.topology({"hosts": {"host": {}}})

OF_EACH_SET = (
    FirewallElement(sets.FROM, ("ipv4", "cnm-0123456789a"), ("goto from_nat",)),
    FirewallElement(sets.TO, ("ipv6", "b"), ("goto to_open",)),
    FirewallElement(sets.SAME, ("cnm-1", "cnm-1")),
    FirewallElement(sets.ICC, ("cnm-1", "cnm-1")),
    FirewallElement(sets.TRUSTED, ("eth0", "cnm-1")),
    FirewallElement(sets.MASQ, ("ipv4", "cnm-1")),
    FirewallElement(sets.SNAT4, ("cnm-1",), ("192.0.2.7",)),
    FirewallElement(sets.SNAT6, ("cnm-1",), ("2001:db8::7",)),
    FirewallElement(sets.PUBLISH4, ("127.0.0.1", "tcp", 8080), ("10.0.0.2", 80)),
    FirewallElement(sets.PUBLISH6, ("::1", "udp", 8080), ("fd00::2", 80)),
    FirewallElement(sets.PUBLISH_ANY4, ("sctp", 65535), ("10.0.0.2", 1)),
    FirewallElement(sets.PUBLISH_ANY6, ("tcp", 256), ("fd00::2", 443)),
    FirewallElement(sets.SELF4, ("10.0.0.2", "10.0.0.2")),
    FirewallElement(sets.SELF6, ("fd00::2", "fd00::2")),
    FirewallElement(sets.OPEN4, ("10.0.0.2", "tcp", 80)),
    FirewallElement(sets.OPEN6, ("fd00::2", "udp", 53)),
    FirewallElement(sets.ROUTING, ("ipv4",)),
    FirewallElement(sets.LOOPBACK_NAT, ("ipv6",)),
    FirewallElement(sets.PORTS, ("cv0123456789ab",), ("goto guard",)),
    FirewallElement(sets.PORTS, ("cv1",), ("accept",)),
    FirewallElement(sets.GUARD4, ("cv1", "02:42:0a:00:00:02", "10.0.0.2")),
    FirewallElement(sets.GUARD6, ("cv1", "02:42:0a:00:00:02", "fe80::42:aff:fe00:2")),
    FirewallElement(sets.GUARD_NA, ("cv1", "02:42:0a:00:00:02", "fd00::2")),
)


@pytest.fixture
def host(topology: Topology) -> Host:
    return topology.hosts["host"]


@pytest.fixture
def nft(host: Host) -> Iterator[Nft]:
    with host.enter():
        made = Nft()
    made.start(ruleset.start_text(()))
    yield made
    made.close()


def ports(first: int, count: int) -> tuple[FirewallElement, ...]:
    """Published on one container, both families."""
    mapping = PortMapping(protocol=Protocol.TCP, container_port=first, host_port=first, count=count)
    return publish_elements(
        [mapping], ipv4="10.0.0.2", ipv6="fd00::2", mode_ipv4=GatewayMode.NAT, mode_ipv6=GatewayMode.NAT
    )


def listed(host: Host, element: FirewallElement) -> list[Any]:
    """The set's elements as nft's JSON has them."""
    kind = "map" if element.set.is_map else "set"
    text = host.run(["nft", "-j", "list", kind, element.set.family, "cnm", element.set.name]).stdout
    (found,) = (item[kind] for item in json.loads(text)["nftables"] if kind in item)
    return list(found.get("elem", []))


def as_nft(element: FirewallElement) -> Any:
    """The element in the form of nft's JSON, as its schema describes it."""
    key = [_guard_na(v) if element.set is sets.GUARD_NA and i == 2 else v for i, v in enumerate(element.key)]
    left = key[0] if len(key) == 1 else {"concat": key}
    if not element.value:
        return left
    value = element.value[0]
    if element.set in (sets.FROM, sets.TO, sets.PORTS):
        verb, _, target = str(value).partition(" ")
        return [left, {verb: {"target": target} if target else None}]
    return [left, value if len(element.value) == 1 else {"concat": list(element.value)}]


def _guard_na(address: str | int) -> Any:
    return "0xfd000000000000000000000000000002" if address == "fd00::2" else address


@pytest.mark.parametrize("element", OF_EACH_SET, ids=lambda e: f"{e.set.name} {e.key[0]}")
def test_nft_lists_what_our_encoder_wrote(nft: Nft, host: Host, element: FirewallElement) -> None:
    nft.apply([element], ())

    assert listed(host, element) == [as_nft(element)]


@pytest.mark.parametrize("element", OF_EACH_SET, ids=lambda e: f"{e.set.name} {e.key[0]}")
def test_our_decoder_reads_what_nft_wrote(nft: Nft, element: FirewallElement) -> None:
    nft.run(ruleset.start_text([element]))

    assert nft.observe(sets.ELEMENT_SETS) == {element}


@pytest.mark.parametrize("element", OF_EACH_SET, ids=lambda e: f"{e.set.name} {e.key[0]}")
def test_our_encoder_and_nft_write_the_same_element(nft: Nft, host: Host, element: FirewallElement) -> None:
    nft.run(ruleset.start_text([element]))
    written_by_nft = listed(host, element)

    nft.apply([element], ())
    nft.apply((), [element])

    assert written_by_nft == [as_nft(element)]
    assert listed(host, element) == []


def test_elements_with_comments_and_counters_of_others_are_read(nft: Nft, host: Host) -> None:
    host.run(["nft", "add", "element", "inet", "cnm", "open4", '{ 10.0.0.9 . tcp . 80 comment "mine" }'])
    host.run(["nft", "add", "element", "inet", "cnm", "open4", "{ 10.0.0.9 . 47 . 0 }"])

    assert nft.observe([sets.OPEN4]) == {
        FirewallElement(sets.OPEN4, ("10.0.0.9", "tcp", 80)),
        FirewallElement(sets.OPEN4, ("10.0.0.9", 47, 0)),
    }


def test_adding_again_and_deleting_again_is_fine(nft: Nft) -> None:
    for _ in range(2):
        nft.apply(OF_EACH_SET, ())
    assert nft.observe(sets.ELEMENT_SETS) == frozenset(OF_EACH_SET)

    for _ in range(2):
        nft.apply((), OF_EACH_SET)
    assert nft.observe(sets.ELEMENT_SETS) == frozenset()


def test_a_changed_value_is_replaced(nft: Nft) -> None:
    nft.apply(OF_EACH_SET, ())
    changed = (
        FirewallElement(sets.TO, ("ipv6", "b"), ("goto to_nat",)),
        FirewallElement(sets.PUBLISH_ANY4, ("sctp", 65535), ("10.0.0.3", 1)),
        FirewallElement(sets.PORTS, ("cv1",), ("goto guard",)),
    )

    nft.apply(changed, ())

    gone = {(e.set, e.key) for e in changed}
    assert nft.observe(sets.ELEMENT_SETS) == {e for e in OF_EACH_SET if (e.set, e.key) not in gone} | set(
        changed
    )


def test_deleting_and_adding_in_one_go_moves_a_port(nft: Nft) -> None:
    before = FirewallElement(sets.PUBLISH_ANY4, ("tcp", 80), ("10.0.0.2", 80))
    after = FirewallElement(sets.PUBLISH_ANY4, ("tcp", 80), ("10.0.0.3", 80))
    nft.apply([before], ())

    nft.apply([after], [before])

    assert nft.observe([sets.PUBLISH_ANY4]) == {after}


@pytest.mark.parametrize("release", ["6.1.0-25-amd64", "6.18.44"])
def test_missing_elements_are_no_error_on_kernels_with_and_without_destroy(
    host: Host, monkeypatch: pytest.MonkeyPatch, release: str
) -> None:
    uname = os.uname()
    monkeypatch.setattr(
        nft_module.os, "uname", lambda: os.uname_result((*uname[:2], release, *uname[3:])), raising=True
    )
    with host.enter():
        nft = Nft()
    nft.start(ruleset.start_text(OF_EACH_SET[:5]))

    nft.apply(OF_EACH_SET[10:12], (*OF_EACH_SET[3:9], *OF_EACH_SET[3:9]))

    assert nft.observe(sets.ELEMENT_SETS) == {*OF_EACH_SET[:3], *OF_EACH_SET[10:12]}
    nft.close()


def test_deleting_from_tables_that_are_gone_is_fine_and_adding_is_not(nft: Nft) -> None:
    nft.run("delete table inet cnm")

    nft.apply((), OF_EACH_SET)

    with pytest.raises(
        KernelError, match=r"^cannot change set to of table inet cnm: no such file"
    ) as refused:
        nft.apply(OF_EACH_SET[1:2], ())
    assert refused.value.errno == 2
    assert nft.observe(sets.ELEMENT_SETS) == frozenset()


def test_a_transaction_with_a_fault_changes_nothing(nft: Nft) -> None:
    bad = FirewallElement(sets.TO, ("ipv4", "cnm-9"), ("goto nowhere",))

    with pytest.raises(KernelError, match="cannot change set to of table inet cnm"):
        nft.apply([*OF_EACH_SET, bad], ())

    assert nft.observe(sets.ELEMENT_SETS) == frozenset()


def test_nothing_to_change_is_no_transaction(nft: Nft) -> None:
    nft.run("delete table inet cnm")

    nft.apply((), ())


@pytest.mark.parametrize("count", [1000, 15000])
def test_thousands_of_ports_go_and_come_back_as_they_were(nft: Nft, count: int) -> None:
    wanted = ports(1000, count)

    nft.apply(wanted, ())
    assert nft.observe(sets.ELEMENT_SETS) == frozenset(wanted)

    nft.apply((), wanted)
    assert nft.observe(sets.ELEMENT_SETS) == frozenset()


def test_parallel_changes_all_arrive(nft: Nft) -> None:
    changes = [ports(1000 + 10 * n, 10) for n in range(64)]

    with ThreadPoolExecutor(64) as pool:
        list(pool.map(lambda change: nft.apply(change, ()), changes))

    assert nft.observe(sets.ELEMENT_SETS) == {element for change in changes for element in change}


def test_changes_that_wait_share_a_transaction(nft: Nft, monkeypatch: pytest.MonkeyPatch) -> None:
    commits = record_commits(nft, monkeypatch)
    with Waiting(nft, [ports(1000 + n, 1) for n in range(20)]) as outcomes:
        pass

    assert outcomes == [None] * 20
    assert len(commits) == 1


def test_only_the_caller_at_fault_sees_the_error_of_a_shared_transaction(nft: Nft) -> None:
    bad = (FirewallElement(sets.TO, ("ipv4", "cnm-9"), ("goto nowhere",)),)
    changes = [ports(1000 + n, 1) for n in range(10)]

    with Waiting(nft, [*changes, bad]) as outcomes:
        pass

    assert outcomes[:-1] == [None] * 10
    assert isinstance(outcomes[-1], KernelError)
    assert nft.observe(sets.ELEMENT_SETS) == {element for change in changes for element in change}


def record_commits(nft: Nft, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Number of messages of each transaction from now on."""
    commits: list[int] = []
    commit = nft._socket.commit

    def counted(messages: Any) -> None:
        commits.append(len(messages))
        commit(messages)

    monkeypatch.setattr(nft._socket, "commit", counted)
    return commits


class Waiting:
    """Changes that wait for the lock together, until the block is left; the outcomes are complete then."""

    def __init__(self, nft: Nft, changes: list[tuple[FirewallElement, ...]]) -> None:
        self._nft = nft
        self._outcomes: list[KernelError | None] = [None] * len(changes)
        self._threads = [threading.Thread(target=self._run, args=pair) for pair in enumerate(changes)]

    def __enter__(self) -> list[KernelError | None]:
        self._nft._lock.acquire()
        for thread in self._threads:
            thread.start()
        while len(self._nft._waiting) < len(self._threads):
            threading.Event().wait(0.001)
        return self._outcomes

    def __exit__(self, *exc: object) -> None:
        self._nft._lock.release()
        for thread in self._threads:
            thread.join()

    def _run(self, index: int, change: tuple[FirewallElement, ...]) -> None:
        try:
            self._nft.apply(change, ())
        except KernelError as error:
            self._outcomes[index] = error


def test_a_change_that_does_not_fit_its_set_is_refused_before_it_is_sent(nft: Nft) -> None:
    with pytest.raises(InvalidParameter, match=r"\('10.0.0.2', 'tcp'\) does not fit"):
        nft.apply([*OF_EACH_SET, FirewallElement(sets.OPEN4, ("10.0.0.2", "tcp"))], ())

    assert nft.observe(sets.ELEMENT_SETS) == frozenset()


def test_a_listing_right_after_growth_is_complete(nft: Nft) -> None:
    """Growth makes the kernel resize the hash table, which moves elements while they are listed."""
    wanted: set[FirewallElement] = set()
    for first in range(1000, 31000 if THOROUGH else 13000, 1500):
        grown = ports(first, 1500)
        nft.apply(grown, ())
        wanted |= set(grown)
        assert nft.observe(sets.ELEMENT_SETS) == wanted


def test_a_script_with_a_fault_is_one_line(nft: Nft) -> None:
    with pytest.raises(KernelError) as refused:
        nft.run("add rule inet cnm forward nonsense\nadd table inet t")

    assert str(refused.value) == "nftables refused a change: syntax error, unexpected newline"


def test_a_context_that_would_abort_the_process_is_refused(host: Host) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (2000, limits[1]))
    filler: list[int] = []
    try:
        while not filler or filler[-1] < 1024:
            filler.append(os.dup(0))
        with host.enter(), pytest.raises(KernelError, match=r"libnftables with descriptor 10\d\d"):
            Nft()
    finally:
        for descriptor in filler:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_the_namespace_is_that_of_the_maker_whatever_thread_calls(nft: Nft, host: Host) -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(nft.apply, OF_EACH_SET[:1], ()).result()
        assert pool.submit(nft.observe, [sets.FROM]).result() == set(OF_EACH_SET[:1])

    assert listed(host, OF_EACH_SET[0]) == [as_nft(OF_EACH_SET[0])]


def test_a_network_and_its_endpoints_are_a_round_trip(nft: Nft) -> None:
    wanted = [*host_elements(routing_ipv4=True, routing_ipv6=True, bridge_nf_ipv6=False)]
    for mode in GatewayMode:
        wanted += network_elements(
            f"cnm-{mode.name[:9]}", mode_ipv4=mode, mode_ipv6=mode, icc=True, masquerade=True
        )
        wanted += attach_elements(
            f"cv-{mode.name[:9]}",
            mac="02:42:0a:00:00:02",
            ipv4="10.0.0.2",
            ipv6="fd00::2",
            guard=True,
            mode_ipv4=mode,
            mode_ipv6=mode,
        )

    nft.apply(wanted, ())

    assert nft.observe(sets.ELEMENT_SETS) == frozenset(wanted)
