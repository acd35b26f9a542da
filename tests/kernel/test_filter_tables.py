"""Tables of iptables are seen without a program: whether they are there, drop what is forwarded, and have changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from cnm.kernel import legacy_tables
from cnm.kernel.filter_tables import Backend, FilterTable, FilterTables
from netns_fixtures import Host, Topology
from tests.support.unpacked import environment, lacking

_NEEDED = ("xtables-legacy-multi", "xtables-nft-multi")
pytestmark = pytest.mark.skipif(lacking(*_NEEDED) != "", reason=lacking(*_NEEDED))

Iptables = Callable[..., str]
EACH = pytest.mark.parametrize(
    ("backend", "version"), [(backend, version) for backend in Backend for version in (4, 6)]
)


@pytest.fixture
def host() -> Iterator[Host]:
    with Topology({"hosts": {"host": {}}}) as topology:
        yield topology.hosts["host"]


@pytest.fixture
def tables(host: Host) -> Iterator[FilterTables]:
    """Of the host, which the test's thread is in."""
    with host.enter():
        made = FilterTables()
        yield made
        made.close()


@pytest.fixture
def iptables(host: Host) -> Iptables:
    """Run a program of the host: iptables("nft", 6, "-N", "X")."""

    def run(backend: str, version: int, *arguments: str) -> str:
        program = f"{'iptables' if version == 4 else 'ip6tables'}-{backend}"
        return host.run([program, *arguments], env=environment()).stdout

    return run


def test_without_tables_nothing_is_seen_and_none_is_made(tables: FilterTables, iptables: Iptables) -> None:
    assert tables.look("X") == ()

    assert legacy_tables.read(4) is None
    assert "legacy tables present" not in iptables("nft", 4, "-S")


@EACH
def test_chain_and_policy_are_seen(
    tables: FilterTables, iptables: Iptables, backend: Backend, version: int
) -> None:
    iptables(backend, version, "-N", "DOCKER-USER")
    (with_chain,) = tables.look("DOCKER-USER")
    iptables(backend, version, "-P", "FORWARD", "DROP")
    (with_both,) = tables.look("DOCKER-USER")
    iptables(backend, version, "-X", "DOCKER-USER")
    (with_policy,) = tables.look("DOCKER-USER")
    iptables(backend, version, "-P", "FORWARD", "ACCEPT")

    assert _seen(with_chain) == (backend, version, True, False)
    assert _seen(with_both) == (backend, version, True, True)
    assert _seen(with_policy) == (backend, version, False, True)
    assert tables.look("DOCKER-USER") == ()


def _seen(table: FilterTable) -> tuple[Backend, int, bool, bool]:
    return table.backend, table.version, table.has_chain, table.forward_drops


@pytest.mark.parametrize("version", [4, 6])
def test_legacy_table_is_the_same_while_packets_are_counted(
    tables: FilterTables, host: Host, iptables: Iptables, version: int
) -> None:
    iptables("legacy", version, "-N", "X")
    iptables("legacy", version, "-A", "INPUT", "-j", "ACCEPT")
    before = tables.look("X")

    assert host.ping("127.0.0.1" if version == 4 else "::1")

    assert " 0     0 ACCEPT" not in iptables("legacy", version, "-vnL", "INPUT")
    assert tables.look("X") == before


@pytest.mark.parametrize("version", [4, 6])
def test_legacy_rule_replaced_by_another_is_a_change(
    tables: FilterTables, iptables: Iptables, version: int
) -> None:
    iptables("legacy", version, "-N", "X")
    iptables("legacy", version, "-A", "X", "-i", "eth0", "-j", "ACCEPT")
    before = tables.look("X")

    iptables("legacy", version, "-R", "X", "1", "-i", "eth1", "-j", "ACCEPT")

    assert tables.look("X") != before


def test_chain_of_nftables_is_seen_by_its_name(tables: FilterTables, host: Host) -> None:
    host.run(["nft", "add table ip docker-bridges; add chain ip docker-bridges filter-FORWARD"])

    assert tables.has_nft_chain(4, "docker-bridges", "filter-FORWARD")
    assert not tables.has_nft_chain(6, "docker-bridges", "filter-FORWARD")
    assert not tables.has_nft_chain(4, "docker-bridges", "other")
