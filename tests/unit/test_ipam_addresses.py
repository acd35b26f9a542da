"""Which address is issued, refused and given back."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cnm.errors import CnmError, InvalidParameter, NotFound
from cnm.ipam import AddressInUse, AddressOutOfRange, Allocator, PoolExhausted, PoolStatus
from cnm.ipam.addresses import Addresses
from cnm.ipam.cidr import Subnet, span
from cnm.ipam.contract import GATEWAY, REQUEST_ADDRESS_TYPE, SERIAL
from tests.support.cost import lines_run_by
from tests.unit.strategies import small_subnets

LOCAL = "LocalDefault"
IN_SERIES = {SERIAL: "true"}


@pytest.fixture
def ipam() -> Allocator:
    return Allocator("host")


def pool(ipam: Allocator, subnet: str, ip_range: str = "") -> str:
    return ipam.request_pool(LOCAL, subnet, ip_range).pool_id


def drain(ipam: Allocator, pool_id: str, options: dict[str, str] | None = None) -> list[str]:
    """Every address the pool still has, as bare text."""
    issued = []
    while True:
        try:
            issued.append(ipam.request_address(pool_id, "", options).partition("/")[0])
        except PoolExhausted:
            return issued


@pytest.mark.parametrize(
    ("subnet", "requests", "last"),
    [
        ("192.168.59.0/24", 254, "192.168.59.254/24"),
        ("192.168.240.0/20", 255, "192.168.240.255/20"),
        ("192.168.0.0/16", 256, "192.168.1.0/16"),
        ("10.128.0.0/12", 255, "10.128.0.255/12"),
        ("10.0.0.0/8", 256, "10.0.1.0/8"),
        ("192.168.128.0/18", 1023, "192.168.131.255/18"),
        ("2001:db8::/64", 255, "2001:db8::ff/64"),
        ("2001:db8::/48", 256, "2001:db8::100/48"),
    ],
)
def test_addresses_are_issued_from_the_bottom_up(
    ipam: Allocator, subnet: str, requests: int, last: str
) -> None:
    pool_id = pool(ipam, subnet)

    issued = [ipam.request_address(pool_id) for _ in range(requests)]

    assert issued[-1] == last
    assert len(set(issued)) == requests


@pytest.mark.parametrize(
    ("subnet", "issued"),
    [
        ("192.168.0.0/29", [f"192.168.0.{n}" for n in range(1, 7)]),
        ("192.168.0.0/30", ["192.168.0.1", "192.168.0.2"]),
        ("192.168.0.2/31", ["192.168.0.2", "192.168.0.3"]),
        ("192.168.0.7/32", ["192.168.0.7"]),
        ("fd00::/126", ["fd00::1", "fd00::2", "fd00::3"]),
        ("fd00::/127", ["fd00::1"]),
        ("fd00::/128", []),
    ],
)
def test_all_but_the_reserved_addresses_are_issued_and_then_the_pool_is_exhausted(
    ipam: Allocator, subnet: str, issued: list[str]
) -> None:
    pool_id = pool(ipam, subnet)

    assert drain(ipam, pool_id) == issued
    with pytest.raises(PoolExhausted, match=f"^no available addresses on this pool: {subnet}$") as raised:
        ipam.request_address(pool_id)
    assert raised.value.status == 503


@pytest.mark.parametrize("options", [None, IN_SERIES])
@pytest.mark.parametrize(
    ("subnet", "ip_range", "last", "released"),
    [
        ("172.28.0.0/16", "172.28.30.0/24", "172.28.30.255", "172.28.30.97"),
        ("10.0.0.0/16", "10.0.0.0/24", "10.0.0.255", "10.0.0.79"),
        ("fd00::/32", "fd00:0:1::/120", "fd00:0:1::ff", "fd00:0:1::61"),
    ],
)
def test_ip_range_is_used_to_its_last_address_and_a_released_one_again(
    ipam: Allocator, options: dict[str, str] | None, subnet: str, ip_range: str, last: str, released: str
) -> None:
    pool_id = pool(ipam, subnet, ip_range)

    assert drain(ipam, pool_id, options)[-1] == last
    ipam.release_address(pool_id, released)

    assert drain(ipam, pool_id, options) == [released]


def test_ip_range_reaches_the_very_end_of_an_ipv6_subnet(ipam: Allocator) -> None:
    pool_id = pool(ipam, "fd00:1::/63", "fd00:1:0:1:ffff:ffff:ffff:fffe/127")

    assert drain(ipam, pool_id) == ["fd00:1:0:1:ffff:ffff:ffff:fffe", "fd00:1:0:1:ffff:ffff:ffff:ffff"]


def test_ip_range_of_the_whole_subnet_leaves_out_the_reserved_addresses(ipam: Allocator) -> None:
    assert drain(ipam, pool(ipam, "172.18.0.0/30", "172.18.0.0/30")) == ["172.18.0.1", "172.18.0.2"]


def test_a_static_address_outside_the_ip_range_is_given(ipam: Allocator) -> None:
    pool_id = pool(ipam, "10.2.0.0/16", "10.2.2.0/24")

    assert ipam.request_address(pool_id, "10.2.200.7") == "10.2.200.7/16"


def test_an_ipv4_address_written_as_ipv6_is_the_ipv4_address(ipam: Allocator) -> None:
    assert ipam.request_address(pool(ipam, "10.2.0.0/16"), "::ffff:10.2.0.7") == "10.2.0.7/16"


def test_without_serial_the_lowest_free_address_comes_next(ipam: Allocator) -> None:
    pool_id = pool(ipam, "10.2.0.0/16", "10.2.2.0/24")
    ipam.request_address(pool_id, "10.2.2.1")

    assert ipam.request_address(pool_id) == "10.2.2.0/16"
    assert ipam.request_address(pool_id) == "10.2.2.2/16"
    ipam.release_address(pool_id, "10.2.2.0")
    assert ipam.request_address(pool_id) == "10.2.2.0/16"
    ipam.release_address(pool_id, "10.2.2.1")
    assert ipam.request_address(pool_id) == "10.2.2.1/16"


def test_with_serial_a_released_address_comes_only_after_a_wrap(ipam: Allocator) -> None:
    pool_id = pool(ipam, "10.2.0.0/16", "10.2.2.0/29")
    ipam.request_address(pool_id, "10.2.2.1", IN_SERIES)

    issued = [ipam.request_address(pool_id, "", IN_SERIES) for _ in range(2)]
    ipam.release_address(pool_id, "10.2.2.0")
    ipam.release_address(pool_id, "10.2.2.1")

    assert issued == ["10.2.2.0/16", "10.2.2.2/16"]
    assert drain(ipam, pool_id, IN_SERIES) == [f"10.2.2.{n}" for n in (3, 4, 5, 6, 7, 0, 1)]


def test_a_gateway_is_issued_like_any_other_address(ipam: Allocator) -> None:
    pool_id = pool(ipam, "10.2.0.0/16")

    assert ipam.request_address(pool_id, "", {REQUEST_ADDRESS_TYPE: GATEWAY}) == "10.2.0.1/16"


def test_an_address_in_use_is_refused_by_name(ipam: Allocator) -> None:
    pool_id = pool(ipam, "192.168.100.0/24")
    ipam.request_address(pool_id, "192.168.100.250")

    with pytest.raises(AddressInUse, match=r"^Address already in use: 192\.168\.100\.250 on") as raised:
        ipam.request_address(pool_id, "192.168.100.250")
    assert raised.value.status == 403


@pytest.mark.parametrize("reserved", ["192.168.100.0", "192.168.100.255"])
def test_a_reserved_address_is_refused_and_cannot_be_released(ipam: Allocator, reserved: str) -> None:
    pool_id = pool(ipam, "192.168.100.0/24")

    ipam.release_address(pool_id, reserved)

    with pytest.raises(AddressInUse, match="reserved"):
        ipam.request_address(pool_id, reserved)


@pytest.mark.parametrize("outside", ["192.168.0.1", "192.168.0.4", "10.0.0.1", "fd00::1", "::c0a8:2"])
def test_an_address_outside_the_subnet_is_out_of_range(ipam: Allocator, outside: str) -> None:
    pool_id = pool(ipam, "192.168.0.2/31")

    for call in (ipam.request_address, ipam.release_address, ipam.restore_address):
        with pytest.raises(AddressOutOfRange, match=r"^requested address is out of range: ") as raised:
            call(pool_id, outside)
        assert raised.value.status == 400


@pytest.mark.parametrize("text", ["10.0.0", "10.0.0.01", "fe80::1%eth0", "10.0.0.1/8", "name", "10.0.0.256"])
def test_malformed_addresses_are_refused_by_name(ipam: Allocator, text: str) -> None:
    pool_id = pool(ipam, "10.0.0.0/8")

    with pytest.raises(InvalidParameter, match=f"^invalid address: {text}$"):
        ipam.request_address(pool_id, text)
    with pytest.raises(InvalidParameter, match=r"^invalid address: $"):
        ipam.release_address(pool_id, "")


def test_requests_on_a_pool_that_is_not_allocated_are_refused(ipam: Allocator) -> None:
    unknown = f"{LOCAL}/10.9.0.0/16"

    for call in (ipam.request_address, ipam.pool_status):
        with pytest.raises(NotFound, match=f"^cannot find address pool for poolID:{unknown}$"):
            call(unknown)


def test_releasing_a_free_address_is_no_error(ipam: Allocator) -> None:
    pool_id = pool(ipam, "10.9.0.0/16")

    ipam.release_address(pool_id, "10.9.0.1")

    assert ipam.request_address(pool_id) == "10.9.0.1/16"


def test_restoring_an_address_twice_holds_it_once(ipam: Allocator) -> None:
    pool_id = pool(ipam, "10.9.0.0/16")
    ipam.restore_address(pool_id, "10.9.0.1")
    ipam.restore_address(pool_id, "10.9.0.1")

    assert ipam.request_address(pool_id) == "10.9.0.2/16"
    ipam.release_address(pool_id, "10.9.0.1")
    assert ipam.request_address(pool_id) == "10.9.0.1/16"


@pytest.mark.parametrize(
    ("subnet", "status"),
    [
        ("10.0.0.0/24", PoolStatus(2, 254)),
        ("10.0.0.0/31", PoolStatus(0, 2)),
        ("fd00::/64", PoolStatus(1, 2**64 - 1)),
        ("fd00::/65", PoolStatus(1, 2**63 - 1)),
        ("fd00::/56", PoolStatus(1, 2**64 - 1)),
    ],
)
def test_status_counts_reserved_addresses_and_saturates(
    ipam: Allocator, subnet: str, status: PoolStatus
) -> None:
    assert ipam.pool_status(pool(ipam, subnet)) == status


class AddressesAgainstSet(RuleBasedStateMachine):
    """However addresses are asked for, issued and given back, the allocator answers as a naive list does."""

    @initialize(subnet=small_subnets())
    def begin(self, subnet: Subnet) -> None:
        self.addresses = Addresses(subnet)
        self.first, self.last = span(subnet)
        reserved = {self.first} if subnet.version == 6 else set()
        if subnet.version == 4 and subnet.prefixlen < 31:
            reserved = {self.first, self.last}
        self.reserved = reserved
        self.used = set(reserved)
        self.after_issued = self.first

    def within(self, offset: int) -> int:
        return self.first + offset % (self.last - self.first + 1)

    def range_of(self, one: int, other: int) -> tuple[int, int]:
        ends = self.within(one), self.within(other)
        return min(ends), max(ends)

    @rule(one=st.integers(0, 31), other=st.integers(0, 31), serial=st.booleans())
    def take_next(self, one: int, other: int, serial: bool) -> None:
        first, last = self.range_of(one, other)
        order = list(range(first, last + 1))
        if serial and first < self.after_issued <= last:
            order = [n for n in order if n >= self.after_issued] + [n for n in order if n < self.after_issued]
        expected = next((n for n in order if n not in self.used), None)
        if expected is None:
            with pytest.raises(PoolExhausted):
                self.addresses.take_next(first, last, serial)
            return
        assert self.addresses.take_next(first, last, serial) == expected
        self.used.add(expected)
        self.after_issued = expected + 1

    @rule(offset=st.integers(0, 31))
    def take(self, offset: int) -> None:
        address = self.within(offset)
        if address in self.used:
            with pytest.raises(AddressInUse):
                self.addresses.take(address)
        else:
            self.addresses.take(address)
            self.used.add(address)

    @rule(offset=st.integers(0, 31))
    def give_back(self, offset: int) -> None:
        address = self.within(offset)
        self.addresses.give_back(address)
        if address not in self.reserved:
            self.used.discard(address)

    @rule(offset=st.integers(0, 31))
    def restore(self, offset: int) -> None:
        self.addresses.restore(self.within(offset))
        self.used.add(self.within(offset))

    @precondition(lambda self: hasattr(self, "addresses"))
    @invariant()
    def counts_agree(self) -> None:
        whole = self.last - self.first + 1
        assert self.addresses.status(self.first, self.last) == PoolStatus(
            len(self.used), whole - len(self.used)
        )


TestAddressesAgainstSet = AddressesAgainstSet.TestCase


@given(small_subnets(), st.sets(st.integers(0, 31)))
def test_static_and_dynamic_addresses_never_collide(subnet: Subnet, offsets: set[int]) -> None:
    ipam = Allocator("host")
    pool_id = pool(ipam, str(subnet))
    static = set()
    for offset in offsets:
        try:
            static.add(ipam.request_address(pool_id, str(subnet[offset % subnet.num_addresses])))
        except CnmError:
            continue

    dynamic = drain(ipam, pool_id)

    assert len(set(dynamic)) == len(dynamic)
    assert static.isdisjoint(f"{address}/{subnet.prefixlen}" for address in dynamic)


@pytest.mark.parametrize("subnet", ["10.0.0.0/8", "fd00::/64"])
def test_the_next_address_of_a_full_pool_costs_what_it_costs_in_an_empty_one(
    ipam: Allocator, subnet: str
) -> None:
    pool_id = pool(ipam, subnet)
    network = ip_network(subnet)
    empty = lines_run_by(ipam.request_address, pool_id)
    for _ in range(20_000):
        ipam.request_address(pool_id)
    for offset in range(3, 20_000, 2):
        ipam.release_address(pool_id, str(network[offset]))

    full_of_gaps = lines_run_by(ipam.request_address, pool_id)
    drain_to = [ipam.request_address(pool_id) for _ in range(9_998)]
    full = lines_run_by(ipam.request_address, pool_id)

    assert drain_to[-1] == f"{network[19_999]}/{network.prefixlen}"
    assert full_of_gaps <= empty + 5
    assert full <= empty + 5


def test_memory_of_a_pool_is_one_entry_a_gap() -> None:
    addresses = Addresses(ip_network("fd00::/48"))
    first, last = span(addresses.subnet)
    for _ in range(10_000):
        addresses.take_next(first, last)
    taken_in_order = len(addresses._used)

    addresses.take(int(ip_address("fd00:0:0:8000::1")))

    assert taken_in_order == 1
    assert len(addresses._used) == 2
