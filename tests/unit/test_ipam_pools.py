"""Which subnet is allocated, refused and released."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Network, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from cnm.errors import InvalidParameter
from cnm.ipam import Allocator, PoolExhausted, PoolOverlap, PoolsExhausted
from cnm.ipam.cidr import Subnet, parse_cidr
from cnm.ipam.defaults import ula_pool
from cnm.ipam.pools import AddressPool, AddressSpace, PoolId
from tests.support.cost import lines_run_by
from tests.unit.strategies import address_pools, subnets_of

LOCAL = "LocalDefault"
GLOBAL = "GlobalDefault"


@pytest.fixture
def ipam() -> Allocator:
    return Allocator("host")


@pytest.fixture
def eager_threads() -> Iterator[None]:
    """Threads take turns every microsecond instead of every five milliseconds, so that races show."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def every_pool(ipam: Allocator, space: str, *, v6: bool = False, limit: int = 1000) -> list[str]:
    """The subnets a space gives until it has no more."""
    subnets: list[str] = []
    try:
        while len(subnets) < limit:
            subnets.append(ipam.request_pool(space, v6=v6).subnet)
    except PoolsExhausted:
        pass
    return subnets


def test_default_local_pools_are_docker_s_without_the_one_of_docker0(ipam: Allocator) -> None:
    expected = [f"172.{n}.0.0/16" for n in range(18, 32)] + [f"192.168.{n}.0/20" for n in range(0, 256, 16)]

    assert every_pool(ipam, LOCAL) == expected
    assert len(expected) == 30


def test_default_global_pools_are_cut_from_ten_slash_eight(ipam: Allocator) -> None:
    assert every_pool(ipam, GLOBAL, limit=300)[-1] == "10.1.43.0/24"


def test_there_are_no_default_global_ipv6_pools(ipam: Allocator) -> None:
    with pytest.raises(InvalidParameter, match=r"GlobalDefault \(IPv6\) is configured"):
        ipam.request_pool(GLOBAL, v6=True)


@pytest.mark.parametrize(
    ("host_id", "base"),
    [("", "fd42:98fc:1c14::/48"), ("499d4bc0-b0b3-416f-b1ee-cf6486315593", "fd62:fb69:18af::/48")],
)
def test_ipv6_pool_is_derived_from_the_host_id_as_docker_does(host_id: str, base: str) -> None:
    subnets = every_pool(Allocator(host_id), LOCAL, v6=True, limit=3)

    assert ula_pool(host_id) == (base, 64)
    assert subnets == [
        str(s) for _, s in zip(range(3), ip_network(base).subnets(new_prefix=64), strict=False)
    ]


def test_configured_pools_replace_the_default_ones_of_their_family_only() -> None:
    ipam = Allocator("", [("175.30.0.0/16", 16), ("175.33.0.0/16", 24)])

    assert every_pool(ipam, LOCAL, limit=3) == ["175.30.0.0/16", "175.33.0.0/24", "175.33.1.0/24"]
    assert ipam.request_pool(LOCAL, v6=True).subnet == "fd42:98fc:1c14::/64"


def test_pools_are_used_in_the_order_given() -> None:
    ipam = Allocator("", [("192.168.0.0/24", 25), ("10.0.0.0/24", 24), ("fd00:5::/64", 96)])

    assert every_pool(ipam, LOCAL) == ["192.168.0.0/25", "192.168.0.128/25", "10.0.0.0/24"]
    assert ipam.request_pool(LOCAL, v6=True).subnet == "fd00:5::/96"


@pytest.mark.parametrize(
    ("base", "size", "fault"),
    [
        ("10.0.0.0", 24, "invalid CIDR block notation"),
        ("10.0.0.0/255.0.0.0", 24, "invalid CIDR block notation"),
        ("10.0.0.0/16", 8, "size /8 must be from /16 to /32"),
        ("fd00::/48", 129, "size /129 must be from /48 to /128"),
    ],
)
def test_a_bad_default_pool_is_refused_by_name(base: str, size: int, fault: str) -> None:
    with pytest.raises(InvalidParameter, match=f"^invalid default address pool {base}: {fault}$"):
        Allocator("", [(base, size)])


# (default pools, allocated subnets, excluded ones, what comes next or None where all is used up)
DYNAMIC = {
    "allocated at the end": (["192.168.0.0/16 24"], ["192.168.255.0/24"], [], "192.168.0.0/24"),
    "first pool inside an excluded one": (
        ["10.0.0.0/8 24", "192.168.0.0/16 24"],
        ["10.0.0.0/8"],
        ["10.0.0.0/7"],
        "192.168.0.0/24",
    ),
    "first pool inside an allocated one": (
        ["10.20.0.0/16 24", "192.168.0.0/16 24"],
        ["10.0.0.0/8", "192.168.128.0/24"],
        [],
        "192.168.0.0/24",
    ),
    "next pool begun and holed": (
        ["10.20.0.0/16 24", "192.168.0.0/16 24"],
        ["10.0.0.0/8", "192.168.0.0/24", "192.168.128.0/24"],
        [],
        "192.168.1.0/24",
    ),
    "first pool filled by allocated and excluded": (
        ["10.20.0.0/22 24", "192.168.0.0/16 24"],
        ["10.20.0.0/24", "10.20.1.0/24", "10.20.2.0/24", "192.168.128.0/24"],
        ["10.20.3.0/24"],
        "192.168.0.0/24",
    ),
    "excluded one after all pools": (
        ["10.20.0.0/16 24", "192.168.0.0/16 24"],
        ["10.20.0.0/17", "10.20.128.0/17"],
        ["200.1.2.0/24"],
        "192.168.0.0/24",
    ),
    "excluded is what is allocated": (
        ["10.10.0.0/22 24", "192.168.0.0/16 24"],
        ["10.10.0.0/24", "10.10.1.0/24", "10.10.2.0/24", "10.10.3.0/24"],
        ["10.10.3.0/24"],
        "192.168.0.0/24",
    ),
    "allocated of many sizes": (
        ["192.168.0.0/16 24"],
        ["192.168.0.0/24", "192.168.1.0/24", "192.168.2.0/23", "192.168.4.3/30"],
        [],
        "192.168.5.0/24",
    ),
    "half of a two-address pool": (
        ["10.0.0.0/31 31", "192.168.0.0/16 24"],
        ["10.0.0.0/32", "100.0.0.0/32", "200.0.0.0/32"],
        [],
        "192.168.0.0/24",
    ),
    "allocated and excluded of many sizes": (
        ["192.168.0.0/16 24"],
        ["192.168.0.0/24", "192.168.1.0/24", "192.168.2.3/30"],
        ["192.168.2.4/30", "192.168.3.0/30", "192.168.4.0/23"],
        "192.168.6.0/24",
    ),
    "same one allocated and excluded": (
        ["192.168.0.0/16 24"],
        ["192.168.0.0/24"],
        ["192.168.0.0/24"],
        "192.168.1.0/24",
    ),
    "excluded in the second pool": (
        ["10.0.0.0/8 24", "192.168.0.0/16 24"],
        ["10.0.0.0/24"],
        ["192.168.0.0/24"],
        "10.0.1.0/24",
    ),
    "pools inside another are left out": (
        ["10.0.0.0/16 24", "10.0.0.0/8 24", "10.10.0.0/16 24", "192.168.0.0/16 24"],
        [],
        ["10.0.0.0/8"],
        "192.168.0.0/24",
    ),
    "second half": (["172.16.0.0/15 16"], ["172.16.0.0/16"], [], "172.17.0.0/16"),
    "rest too small, next pool": (
        ["172.16.0.0/15 16", "192.168.0.0/16 24"],
        ["172.16.0.0/16", "172.17.0.0/17"],
        [],
        "192.168.0.0/24",
    ),
    "rest too small, no next pool": (["172.16.0.0/15 16"], ["172.16.0.0/16", "172.17.0.0/17"], [], None),
    "all used, others allocated": (
        ["172.16.0.0/15 16"],
        ["172.16.0.0/16", "172.17.0.0/16", "192.168.0.0/24"],
        [],
        None,
    ),
    "all used, others excluded": (
        ["172.16.0.0/15 16"],
        ["172.16.0.0/16", "172.17.0.0/16"],
        ["192.168.0.0/24"],
        None,
    ),
    "single addresses in the way": (
        ["172.16.0.0/15 16", "192.168.0.0/23 24"],
        ["172.16.0.0/16", "172.17.128.0/17", "192.168.0.1/32", "192.168.1.0/24"],
        [],
        None,
    ),
    "an address of a name server is excluded": (["192.168.0.0/16 24"], [], ["192.168.0.9"], "192.168.1.0/24"),
    "a route with host bits is excluded": (["192.168.0.0/16 24"], [], ["192.168.0.9/24"], "192.168.1.0/24"),
    "a default route excludes nothing": (["192.168.0.0/16 24"], [], ["0.0.0.0/0"], "192.168.0.0/24"),
    "the other family excludes nothing": (["192.168.0.0/16 24"], [], ["::/1", "fd00::1"], "192.168.0.0/24"),
}


@pytest.mark.parametrize(("pools", "allocated", "excluded", "expected"), DYNAMIC.values(), ids=DYNAMIC.keys())
def test_a_dynamic_pool_is_the_first_gap_in_the_order_of_the_default_pools(
    pools: list[str], allocated: list[str], excluded: list[str], expected: str | None
) -> None:
    pairs = [(base, int(size)) for base, size in (pool.split() for pool in pools)]
    ipam = Allocator("", pairs)
    for subnet in allocated:
        ipam.request_pool(LOCAL, subnet)

    if expected is None:
        with pytest.raises(
            PoolsExhausted, match=r"^all predefined address pools have been fully subnetted: "
        ):
            ipam.request_pool(LOCAL, exclude=excluded)
    else:
        assert ipam.request_pool(LOCAL, exclude=excluded).subnet == expected


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ("0.0.0.0/24", "172.18.0.0/24"),
        ("0.0.0.0/0", "172.18.0.0/16"),
        ("0.0.0.0/15", "172.20.0.0/15"),
        ("0.0.0.0/32", "172.18.0.0/32"),
        ("::/64", "fd42:98fc:1c14::/64"),
        ("::/120", "fd42:98fc:1c14::/120"),
        ("::/0", "fd42:98fc:1c14::/64"),
    ],
)
def test_a_size_alone_asks_for_any_subnet_of_that_size(asked: str, given: str) -> None:
    assert Allocator("").request_pool(LOCAL, asked).subnet == given


@pytest.mark.parametrize("asked", ["0.0.0.0/8", "::/47"])
def test_a_size_that_no_pool_has_is_refused(ipam: Allocator, asked: str) -> None:
    with pytest.raises(
        InvalidParameter, match=r"^invalid address pool: no default address pool of LocalDefault"
    ):
        ipam.request_pool(LOCAL, asked)


def test_released_pools_are_given_again_lowest_first(ipam: Allocator) -> None:
    leases = [ipam.request_pool(LOCAL) for _ in range(4)]
    ipam.release_pool(leases[2].pool_id)
    ipam.release_pool(leases[1].pool_id)

    again = [ipam.request_pool(LOCAL).subnet for _ in range(3)]

    assert again == [leases[1].subnet, leases[2].subnet, "172.22.0.0/16"]


def test_pool_id_is_space_subnet_and_range(ipam: Allocator) -> None:
    assert ipam.request_pool(LOCAL, "172.27.0.0/16").pool_id == "LocalDefault/172.27.0.0/16"
    sub = ipam.request_pool(GLOBAL, "172.27.9.9/16", "172.27.3.7/24")
    assert sub.pool_id == "GlobalDefault/172.27.0.0/16/172.27.3.0/24"
    assert sub.subnet == "172.27.0.0/16"


@given(subnets_of("fd00::/8", range(8, 64)), st.booleans(), st.sampled_from([LOCAL, GLOBAL]))
def test_pool_ids_are_read_back_as_they_were_written(subnet: Subnet, ranged: bool, space: str) -> None:
    ip_range = parse_cidr(f"{subnet.network_address}/80").network if ranged else None
    pool_id = PoolId(space, subnet, ip_range)

    assert PoolId.parse(str(pool_id)) == pool_id


@pytest.mark.parametrize(
    "text",
    [
        "",
        "LocalDefault",
        "LocalDefault/",
        "LocalDefault/10.0.0.0",
        "LocalDefault/10.0.0.0/33",
        "LocalDefault/10.0.0.0/8/10.1.0.0",
        "LocalDefault/10.0.0.0/8/11.0.0.0/16",
        "LocalDefault/10.0.0.0/8/fd00::/16",
        "LocalDefault/10.0.0.0/8/10.1.0.0/16/1",
        "/10.0.0.0/8",
    ],
)
def test_malformed_pool_ids_are_refused(ipam: Allocator, text: str) -> None:
    with pytest.raises(InvalidParameter):
        ipam.request_address(text)
    with pytest.raises(InvalidParameter):
        ipam.release_pool(text)
    with pytest.raises(InvalidParameter):
        ipam.restore_pool(text, "10.0.0.0/8")


@pytest.mark.parametrize(
    ("space", "pool", "sub_pool", "v6", "message"),
    [
        ("", "10.0.0.0/8", "", False, "invalid address space"),
        ("Nowhere", "10.0.0.0/8", "", False, "cannot find address space Nowhere"),
        (LOCAL, "", "192.168.0.0/24", False, "invalid address subpool"),
        (LOCAL, "0.0.0.0/16", "192.168.0.0/24", False, "invalid address subpool"),
        (LOCAL, "10.0.0.0", "", False, "invalid address pool"),
        (LOCAL, "10.0.0.0/08", "", False, "invalid address pool"),
        (LOCAL, "::ffff:10.0.0.0/104", "", False, "invalid address pool"),
        (LOCAL, "10.0.0.0/8", "nonsense", False, "invalid address subpool"),
        (LOCAL, "10.0.0.0/8", "11.0.0.0/16", False, "invalid address subpool"),
        (LOCAL, "10.0.0.0/8", "fd00::/64", False, "pool and subpool are of incompatible address families"),
        (LOCAL, "10.0.0.0/8", "", True, "invalid address pool"),
    ],
)
def test_a_wrong_pool_request_is_refused_and_changes_nothing(
    ipam: Allocator, space: str, pool: str, sub_pool: str, v6: bool, message: str
) -> None:
    with pytest.raises(InvalidParameter, match=message):
        ipam.request_pool(space, pool, sub_pool, v6=v6)

    assert ipam.request_pool(LOCAL, "10.0.0.0/8").subnet == "10.0.0.0/8"


@pytest.mark.parametrize(
    ("allocated", "asked"),
    [
        ("10.0.0.0/8", "11.0.0.0/8"),
        ("74.0.0.0/7", "9.111.99.72/30"),
        ("110.192.0.0/10", "16.0.0.0/10"),
        ("fd00::/64", "fd00:0:0:1::/64"),
    ],
)
def test_disjoint_subnets_are_both_given(ipam: Allocator, allocated: str, asked: str) -> None:
    ipam.request_pool(LOCAL, allocated)

    assert ipam.request_pool(LOCAL, asked).subnet == asked


@pytest.mark.parametrize(
    ("allocated", "asked"),
    [
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("16.0.0.0/4", "17.11.66.0/23"),
        ("64.0.0.0/6", "64.0.0.0/3"),
        ("192.0.0.0/2", "128.0.0.0/1"),
        ("95.0.0.0/8", "92.0.0.0/6"),
        ("10.0.0.0/8", "10.0.0.0/6"),
        ("8000::/1", "8fe8:e7c4:5779::/49"),
        ("cf80::/9", "c000::/4"),
        ("9287:2e20:5134:fab6:9061:a0c6:bfe3:9400/119", "8000::/1"),
    ],
)
def test_an_overlapping_subnet_is_refused_and_the_other_one_named(
    ipam: Allocator, allocated: str, asked: str
) -> None:
    first = ipam.request_pool(LOCAL, allocated)

    with pytest.raises(PoolOverlap) as raised:
        ipam.request_pool(LOCAL, asked)

    text = str(raised.value)
    assert text.startswith("invalid pool request: Pool overlaps with other one on this address space: ")
    assert text.endswith(f"with {first.subnet}")
    assert raised.value.status == 403


def test_the_same_subnet_in_the_other_space_is_given(ipam: Allocator) -> None:
    ipam.request_pool(LOCAL, "10.0.0.0/8")

    assert ipam.request_pool(GLOBAL, "10.0.0.0/8").pool_id == "GlobalDefault/10.0.0.0/8"


def test_a_given_subnet_may_touch_a_route_of_the_host(ipam: Allocator) -> None:
    assert ipam.request_pool(LOCAL, "10.0.0.0/8", exclude=["10.0.0.0/8"]).subnet == "10.0.0.0/8"


def test_networks_share_a_subnet_with_different_ranges_but_not_with_the_same(ipam: Allocator) -> None:
    one = ipam.request_pool(LOCAL, "10.0.0.0/8", "10.10.0.0/16").pool_id
    other = ipam.request_pool(LOCAL, "10.0.0.0/8", "10.11.0.0/16").pool_id
    within = ipam.request_pool(LOCAL, "10.0.0.0/8", "10.10.0.0/17").pool_id

    with pytest.raises(PoolOverlap):
        ipam.request_pool(LOCAL, "10.0.0.0/8", "10.10.0.0/16")
    with pytest.raises(PoolOverlap):
        ipam.request_pool(LOCAL, "10.0.0.0/8")

    assert ipam.request_address(one) == "10.10.0.0/8"
    assert ipam.request_address(within) == "10.10.0.1/8"
    assert ipam.request_address(other) == "10.11.0.0/8"


def test_a_subnet_with_a_range_may_overlap_another_subnet(ipam: Allocator) -> None:
    ipam.request_pool(LOCAL, "10.0.0.0/8", "10.0.0.0/16")

    assert ipam.request_pool(LOCAL, "10.0.0.0/16", "10.0.0.0/24").subnet == "10.0.0.0/16"


def test_a_range_bigger_than_its_subnet_means_the_whole_subnet(ipam: Allocator) -> None:
    lease = ipam.request_pool(LOCAL, "10.0.0.0/16", "10.0.0.0/8")

    assert lease.pool_id == "LocalDefault/10.0.0.0/16/10.0.0.0/16"
    assert ipam.request_address(lease.pool_id) == "10.0.0.1/16"


def test_a_shared_subnet_is_free_only_when_its_last_lease_is_released(ipam: Allocator) -> None:
    whole = ipam.request_pool(LOCAL, "10.0.0.0/8").pool_id
    ranged = ipam.request_pool(LOCAL, "10.0.0.0/8", "10.0.0.0/16").pool_id
    ipam.request_address(ranged, "10.0.0.9")

    ipam.release_pool(whole)
    with pytest.raises(PoolOverlap):
        ipam.request_pool(LOCAL, "10.0.0.0/8")
    ipam.release_pool(ranged)

    assert ipam.request_address(ipam.request_pool(LOCAL, "10.0.0.0/8").pool_id, "10.0.0.9") == "10.0.0.9/8"


def test_releasing_a_pool_keeps_what_overlaps_it_allocated(ipam: Allocator) -> None:
    ipam.request_pool(LOCAL, "172.18.0.0/15")
    inner = ipam.request_pool(LOCAL, "172.19.0.0/16", "172.19.0.0/24").pool_id

    ipam.release_pool(inner)

    assert ipam.request_pool(LOCAL).subnet == "172.20.0.0/16"


def test_a_pool_is_released_once(ipam: Allocator) -> None:
    pool_id = ipam.request_pool(LOCAL, "10.0.0.0/8").pool_id
    ipam.release_pool(pool_id)

    with pytest.raises(InvalidParameter, match=r"^address space does not contain specified address pool: "):
        ipam.release_pool(pool_id)


def test_a_released_pool_forgets_its_addresses(ipam: Allocator) -> None:
    pool_id = ipam.request_pool(LOCAL, "10.0.0.0/30").pool_id
    ipam.request_address(pool_id)
    ipam.release_pool(pool_id)

    again = ipam.request_pool(LOCAL, "10.0.0.0/30").pool_id

    assert ipam.request_address(again) == "10.0.0.1/30"


def test_a_restored_pool_is_held_though_it_overlaps_and_the_defaults_changed() -> None:
    ipam = Allocator("", [("10.0.0.0/8", 24)])
    ipam.request_pool(LOCAL, "172.18.0.0/15")

    for _ in range(2):
        ipam.restore_pool(f"{LOCAL}/172.18.0.0/16/172.18.1.0/24", "172.18.0.0/16", "172.18.1.0/24")

    assert ipam.request_address(f"{LOCAL}/172.18.0.0/16/172.18.1.0/24") == "172.18.1.0/16"
    ipam.release_pool(f"{LOCAL}/172.18.0.0/16/172.18.1.0/24")
    with pytest.raises(InvalidParameter):
        ipam.release_pool(f"{LOCAL}/172.18.0.0/16/172.18.1.0/24")


class SpaceAgainstList(RuleBasedStateMachine):
    """Pools given, chosen and released in any order: the space answers as a walk over every subnet does."""

    @initialize(pools=address_pools())
    def begin(self, pools: list[AddressPool]) -> None:
        self.pools = pools
        self.space = AddressSpace("space", False, pools)
        self.leases: list[PoolId] = []

    def next_free(self, size: int, excluded: list[Subnet]) -> Subnet | None:
        taken = [*(lease.subnet for lease in self.leases), *excluded]
        for i, pool in enumerate(self.pools):
            inside_another = any(
                (base.prefixlen < pool.base.prefixlen and base.overlaps(pool.base))
                or (base == pool.base and j < i)
                for j, (base, _) in enumerate(self.pools)
            )
            if inside_another or (size and size < pool.base.prefixlen):
                continue
            for candidate in pool.base.subnets(new_prefix=size or pool.size):
                if not any(candidate.overlaps(other) for other in taken):
                    return candidate
        return None

    @precondition(lambda self: hasattr(self, "space"))
    @rule(
        size=st.sampled_from([0, 0, 26, 28]),
        excluded=st.lists(subnets_of("10.0.0.0/20", range(20, 33)), max_size=3),
    )
    def request_any(self, size: int, excluded: list[Subnet]) -> None:
        expected = self.next_free(size, excluded)
        if expected is None:
            with pytest.raises((PoolsExhausted, InvalidParameter)):
                self.space.request_any(size, excluded)
            return
        lease = self.space.request_any(size, excluded)
        assert lease.subnet == expected
        self.leases.append(lease)

    @precondition(lambda self: hasattr(self, "space"))
    @rule(subnet=subnets_of("10.0.0.0/20", range(20, 33)), ranged=st.booleans())
    def request(self, subnet: IPv4Network, ranged: bool) -> None:
        asked = PoolId("space", subnet, subnet if ranged else None)
        if asked in self.leases or (not ranged and any(subnet.overlaps(held.subnet) for held in self.leases)):
            with pytest.raises(PoolOverlap):
                self.space.request(asked)
            return
        self.leases.append(self.space.request(asked))

    @precondition(lambda self: bool(getattr(self, "leases", None)))
    @rule(index=st.integers(0, 100))
    def release(self, index: int) -> None:
        self.space.release(str(self.leases.pop(index % len(self.leases))))


TestSpaceAgainstList = SpaceAgainstList.TestCase


def test_the_next_pool_of_a_full_space_costs_what_it_costs_in_an_empty_one() -> None:
    ipam = Allocator("", [("10.0.0.0/8", 24)])
    empty = lines_run_by(ipam.request_pool, LOCAL)
    for _ in range(5_000):
        ipam.request_pool(LOCAL)
    released = ipam.request_pool(LOCAL).pool_id

    full = lines_run_by(ipam.request_pool, LOCAL)
    release = lines_run_by(ipam.release_pool, released)

    assert full <= empty + 10
    assert release <= empty + 10


@pytest.mark.usefixtures("eager_threads")
def test_threads_are_given_every_pool_of_a_space_exactly_once() -> None:
    ipam = Allocator("", [("10.0.0.0/10", 24)])
    expected = {str(subnet) for subnet in ip_network("10.0.0.0/10").subnets(new_prefix=24)}

    with ThreadPoolExecutor(8) as threads:
        given = list(threads.map(lambda _: ipam.request_pool(LOCAL).subnet, range(len(expected))))

    assert len(given) == len(expected) == 2**14
    assert set(given) == expected
    with pytest.raises(PoolsExhausted):
        ipam.request_pool(LOCAL)


@pytest.mark.usefixtures("eager_threads")
@pytest.mark.parametrize("options", [{}, {"com.docker.network.ipam.serial": "true"}])
@pytest.mark.parametrize("order", ["all", "odd", "even", "reverse"])
def test_threads_never_share_an_address_and_leave_an_empty_pool(options: dict[str, str], order: str) -> None:
    ipam = Allocator("")
    pool_id = ipam.request_pool(LOCAL, "192.168.0.0/22").pool_id
    empty = ipam.pool_status(pool_id)

    with ThreadPoolExecutor(8) as threads:
        issued = list(threads.map(lambda _: ipam.request_address(pool_id, "", options), range(1022)))
        with pytest.raises(PoolExhausted):
            ipam.request_address(pool_id, "", options)
        by_order = {
            "all": issued,
            "odd": issued[1::2] + issued[::2],
            "even": issued[::2] + issued[1::2],
            "reverse": issued[::-1],
        }[order]
        released = [address.partition("/")[0] for address in by_order]
        list(threads.map(lambda address: ipam.release_address(pool_id, address), released))

    assert len(set(issued)) == 1022
    assert ipam.pool_status(pool_id) == empty


@pytest.mark.usefixtures("eager_threads")
def test_threads_that_take_and_give_back_never_hold_the_same_address() -> None:
    ipam = Allocator("")
    pool_id = ipam.request_pool(LOCAL, "192.168.0.0/28").pool_id
    holders: dict[str, int] = {}

    def hold(thread: int) -> None:
        for _ in range(500):
            address = ipam.request_address(pool_id)
            assert holders.setdefault(address, thread) == thread
            assert holders.pop(address) == thread
            ipam.release_address(pool_id, address.partition("/")[0])

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(hold, range(8)))

    assert ipam.pool_status(pool_id).ips_in_use == 2
