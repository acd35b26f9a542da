"""Our rules in Docker's chain as data: their order, when they are written, and that everybody else's stay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from cnm.errors import KernelError
from cnm.kernel.filter_tables import Backend, FilterTable
from cnm.neighbours.docker import Docker
from cnm.neighbours.docker_user import Listing, by_group, by_name
from cnm.neighbours.neighbour import Report, State

BRIDGES = frozenset({"cnm-0123456789a"})
_NOT_TO_OURS = (
    "-m devgroup --src-group 0x636e6d01 ! --dst-group 0x636e6d01 -m comment --comment cnm -j RETURN"
)
RULES = [
    f"-o docker0 {_NOT_TO_OURS}",
    f"-o br-+ {_NOT_TO_OURS}",
    "-m devgroup --src-group 0x636e6d01 -m comment --comment cnm -j ACCEPT",
    "-m devgroup --dst-group 0x636e6d01 -m comment --comment cnm -j ACCEPT",
]
RETURN = "-j RETURN"


@dataclass
class FakeTable:
    """A filter table: DOCKER-USER (None: not there), FORWARD's policy and the lines of other chains."""

    chain: list[str] | None = field(default_factory=lambda: [RETURN])
    drops: bool = True
    others: list[str] = field(default_factory=lambda: ["-A FORWARD -j DOCKER-USER"])


class FakeHost:
    """Both the cheap look and the programs, over tables in memory; it counts what is run."""

    def __init__(self, **tables: FakeTable) -> None:
        self._tables = {(Backend(name[:-1]), int(name[-1])): table for name, table in tables.items()}
        self.nft_chains: set[tuple[int, str, str]] = set()
        self.listed = 0
        self.changed = 0
        self.lacks_devgroup = False
        self.refuses = ""
        self.quotes = False

    def close(self) -> None:
        pass

    def look(self, chain: str) -> tuple[FilterTable, ...]:
        assert chain == "DOCKER-USER"
        return tuple(
            FilterTable(backend, version, table.chain is not None, table.drops, str(table.chain).encode())
            for (backend, version), table in self._tables.items()
            if table.chain is not None or table.drops
        )

    def has_nft_chain(self, version: int, table: str, chain: str) -> bool:
        return (version, table, chain) in self.nft_chains

    def rules(self, table: FilterTable) -> list[str]:
        self.listed += 1
        if self.refuses:
            raise KernelError(self.refuses)
        found = self._tables[table.backend, table.version]
        lines = [f"-A DOCKER-USER {rule}" for rule in found.chain or ()]
        if self.quotes:
            lines = [line.replace("--comment cnm", '--comment "cnm"') for line in lines]
        return [f"-P FORWARD {'DROP' if found.drops else 'ACCEPT'}", *found.others, *lines]

    def change(self, table: FilterTable, commands: Sequence[str]) -> None:
        """As iptables-restore does: all or none."""
        self.changed += 1
        found = self._tables[table.backend, table.version]
        chain = list(found.chain or ())
        for command in (each.replace('"cnm"', "cnm") for each in commands):
            if self.lacks_devgroup and "devgroup" in command:
                raise KernelError("couldn't load match `devgroup'")
            action, name, rest = command.split(" ", 2)
            assert name == "DOCKER-USER"
            if action == "-D":
                chain.remove(rest)
            else:
                position, rule = rest.split(" ", 1)
                chain.insert(int(position) - 1, rule)
        found.chain = chain


def allow(docker: Docker, bridges: frozenset[str] = BRIDGES) -> Report:
    report = docker.allow(bridges)
    assert report is not None
    return report


def test_ours_to_docker_return_before_anything_of_ours_is_accepted() -> None:
    assert list(by_group()) == RULES


def test_bridges_of_docker_with_other_names_return_too() -> None:
    assert list(by_group(["lan", "swarm"])) == [
        *RULES[:2],
        f"-o lan {_NOT_TO_OURS}",
        f"-o swarm {_NOT_TO_OURS}",
        *RULES[2:],
    ]


def test_by_name_every_return_comes_before_the_first_accept() -> None:
    rules = by_name(["cnm-0123456789a", "shop", "lan"])

    assert [rule.replace(" -m comment --comment cnm", "") for rule in rules] == [
        "-i cnm-+ -o docker0 -j RETURN",
        "-i lan -o docker0 -j RETURN",
        "-i shop -o docker0 -j RETURN",
        "-i cnm-+ -o br-+ -j RETURN",
        "-i lan -o br-+ -j RETURN",
        "-i shop -o br-+ -j RETURN",
        "-i cnm-+ -j ACCEPT",
        "-i lan -j ACCEPT",
        "-i shop -j ACCEPT",
        "-o cnm-+ -j ACCEPT",
        "-o lan -j ACCEPT",
        "-o shop -j ACCEPT",
    ]


@pytest.mark.parametrize("name", ["any+", "a b", 'a"b', "a'b"])
def test_names_that_iptables_would_read_otherwise_are_left_out(name: str) -> None:
    assert by_name([name]) == by_name([])


@pytest.mark.parametrize(
    "line",
    [
        "-A FORWARD -o lan -j DOCKER",
        "-A DOCKER-ISOLATION-STAGE-2 -o lan -j DROP",
        "-A DOCKER-BRIDGE -o lan -j DOCKER",
        "-A DOCKER-CT -o lan -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        "-A DOCKER ! -i lan -o lan -j DROP",
        "-A DOCKER-INTERNAL ! -s 10.1.0.0/16 -o lan -j DROP",
        "-A DOCKER -d 10.1.0.2/32 ! -i lan -o lan -p tcp -m tcp --dport 80 -j ACCEPT",
    ],
)
def test_bridges_are_known_by_the_rules_of_every_docker(line: str) -> None:
    assert Listing.parse([line]).docker_bridges == ("lan",)


@pytest.mark.parametrize(
    "line",
    [
        "-A FORWARD -o docker0 -j DOCKER",
        "-A DOCKER-BRIDGE -o br-8c942938d4b9 -j DOCKER",
        "-A FORWARD -o eth0 -j ACCEPT",
        "-A INPUT -i lan -j DOCKER",
        "-A DOCKER-USER -o eth0 -j DROP",
        "-A DOCKER-USER -i eth0 ! -o lan -j DROP",
        "-A DOCKERS -m comment --comment x-o -j DROP",
    ],
)
def test_other_rules_name_no_bridge_that_matters(line: str) -> None:
    assert Listing.parse([line]).docker_bridges == ()


def test_rules_come_first_and_those_of_others_stay() -> None:
    mine = "-s 198.51.100.1/32 -j DROP"
    table = FakeTable([mine, RETURN])

    report = allow(Docker(FakeHost(nft4=table), FakeHost(nft4=table)))

    assert table.chain == [*RULES, mine, RETURN]
    assert report == Report("docker", State.OPEN, "DOCKER-USER of iptables-nft")
    assert report.changed


def test_what_is_right_already_is_not_written_again() -> None:
    host = FakeHost(nft4=FakeTable(), legacy6=FakeTable())
    docker = Docker(host, host)
    allow(docker)

    again = allow(docker)

    assert host.changed == 2
    assert not again.changed
    assert not allow(Docker(host, host)).changed


DAMAGE = {
    "flushed": [],
    "one missing": [*RULES[:1], *RULES[2:], RETURN],
    "out of order": [*RULES[2:], *RULES[:2], RETURN],
    "one twice": [*RULES, RULES[3], RETURN],
    "an earlier version's": ["-i cnm-+ -m comment --comment cnm -j ACCEPT", RETURN],
}


@pytest.mark.parametrize("chain", DAMAGE.values(), ids=DAMAGE)
def test_damage_is_mended(chain: list[str]) -> None:
    table = FakeTable(list(chain))
    host = FakeHost(nft4=table)

    allow(Docker(host, host))

    assert table.chain == RULES + [rule for rule in chain if rule == RETURN]


def test_rules_above_ours_are_left_there_and_told() -> None:
    above = "-s 198.51.100.1/32 -j DROP"
    table = FakeTable([above, *RULES, RETURN])
    host = FakeHost(nft4=table)

    report = allow(Docker(host, host))

    assert host.changed == 0
    assert report.detail == "DOCKER-USER of iptables-nft, below 1 of others"


def test_rules_that_iptables_words_otherwise_are_written_once() -> None:
    host = FakeHost(nft4=FakeTable())
    host.quotes = True
    docker = Docker(host, host)

    changes = [allow(docker).changed for _ in range(3)]

    assert changes == [True, False, False]


def test_without_devgroup_names_serve_and_later_bridges_are_followed() -> None:
    table = FakeTable()
    host = FakeHost(nft4=table)
    host.lacks_devgroup = True
    docker = Docker(host, host)
    needed = docker.needs(BRIDGES)

    allow(docker)
    more = BRIDGES | {"lan"}
    assert needed != docker.needs(BRIDGES) != docker.needs(more)
    allow(docker, more)

    assert table.chain == [*by_name(more), RETURN]


def test_with_devgroup_it_does_not_matter_which_bridges_there_are() -> None:
    host = FakeHost(nft4=FakeTable())
    docker = Docker(host, host)

    assert docker.needs(BRIDGES) == docker.needs(BRIDGES | {"lan"}) != docker.needs(frozenset())


def test_undo_takes_only_what_is_ours() -> None:
    commented = '-s 198.51.100.1/32 -m comment --comment "cnm is theirs" -j DROP'
    table = FakeTable([commented, RETURN])
    host = FakeHost(legacy4=table)
    docker = Docker(host, host)
    allow(docker)

    report = docker.undo("no network needs it")

    assert table.chain == [commented, RETURN]
    assert report == Report("docker", State.UNUSED, "no network needs it")
    docker.undo("no network needs it")
    assert host.changed == 2


def test_both_backends_and_families_are_opened_where_docker_is_in_them() -> None:
    tables = {name: FakeTable() for name in ("nft4", "nft6", "legacy4", "legacy6")}
    host = FakeHost(**tables)

    report = allow(Docker(host, host))

    assert all(table.chain == [*RULES, RETURN] for table in tables.values())
    assert "ip6tables-legacy" in report.detail


def test_family_without_the_chain_gets_nothing_and_is_no_trouble_if_it_accepts() -> None:
    host = FakeHost(nft4=FakeTable(), nft6=FakeTable(None, drops=False))

    report = allow(Docker(host, host))

    assert (report.state, report.warnings) == (State.OPEN, ())


def test_policy_that_nobody_can_open_is_a_warning() -> None:
    host = FakeHost(nft4=FakeTable(), nft6=FakeTable(None, drops=True))

    report = allow(Docker(host, host))

    assert report.state is State.BLOCKED
    (warning,) = report.warnings
    assert warning.startswith(
        "ip6tables-nft drops by the policy of FORWARD and has no chain DOCKER-USER: IPv6 "
    )


def test_policy_of_somebody_else_is_not_called_docker() -> None:
    host = FakeHost(nft4=FakeTable(None))

    report = allow(Docker(host, host))

    assert (report.name, report.state, host.listed) == ("iptables", State.BLOCKED, 0)


def test_chain_that_forward_does_not_reach_is_a_warning() -> None:
    host = FakeHost(nft4=FakeTable(others=[]))

    report = allow(Docker(host, host))

    assert report.state is State.BLOCKED
    assert "FORWARD does not jump to DOCKER-USER" in report.warnings[0]


def test_iptables_that_fails_is_told_and_worth_another_try() -> None:
    host = FakeHost(nft4=FakeTable())
    host.refuses = "iptables-nft refused: permission denied"
    docker = Docker(host, host)

    allowed, undone = allow(docker), docker.undo("no network needs it")

    assert allowed.state is State.BLOCKED
    assert undone is not None
    for report in (allowed, undone):
        assert report.failed
        assert "permission denied" in report.warnings[0]


def test_nftables_backend_of_docker_needs_nothing() -> None:
    host = FakeHost()
    host.nft_chains.add((4, "docker-bridges", "filter-FORWARD"))
    docker = Docker(host, host)

    report = allow(docker)

    assert docker.detect() is not None
    assert (report.state, report.warnings, host.listed) == (State.OPEN, (), 0)


def test_without_docker_there_is_nothing() -> None:
    host = FakeHost()
    docker = Docker(host, host)

    assert docker.detect() is None
    assert docker.undo("no network needs it") is None
    assert host.listed == 0
