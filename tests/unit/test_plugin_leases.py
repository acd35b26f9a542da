"""What dockerd holds through our IPAM plugin: given once, replayed after its start, kept over ours."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cnm.errors import InvalidParameter, NotFound
from cnm.ipam import AddressInUse, Allocator, PoolExhausted, PoolOverlap, PoolsExhausted
from cnm.ipam.contract import GATEWAY, REQUEST_ADDRESS_TYPE
from cnm.lease import LeasedAddress, LeasedPool
from cnm.leases import Leases
from cnm.store import Store

SPACE = "LocalDefault"
SUBNET = "10.66.0.0/24"
POOL_ID = f"{SPACE}/{SUBNET}"
AS_GATEWAY = {REQUEST_ADDRESS_TYPE: GATEWAY}


class Host:
    """An allocator, a store, and the leases of two plugins over them; `clock` is in seconds."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.clock = 1000.0
        self.start()

    def start(self) -> None:
        self.store = Store(str(self.place / "cnm.db"))
        pools = [("10.80.0.0/23", 24), ("fd80::/56", 64)]
        self.ipam = Allocator("00" * 16, local_pools=pools)
        self.leases = Leases("cnm", self.ipam, self.store, lambda: self.clock)
        self.others = Leases("cnm-macvlan", self.ipam, self.store, lambda: self.clock)
        self.leases.restore()
        self.others.restore()

    def restart(self) -> None:
        self.store.close()
        self.start()

    def pool(self, subnet: str = SUBNET, ip_range: str = "", v6: bool = False, space: str = SPACE) -> str:
        return self.leases.request_pool(space, subnet, ip_range, {}, v6, ()).pool_id

    def address(self, address: str = "", pool_id: str = POOL_ID, gateway: bool = False) -> str:
        return self.leases.request_address(pool_id, address, AS_GATEWAY if gateway else {})

    @property
    def stored(self) -> list[str]:
        return [lease.id for kind in (LeasedPool, LeasedAddress) for lease in self.store.load(kind)]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    host = Host(tmp_path)
    yield host
    host.store.close()


@pytest.fixture
def held(host: Host) -> Host:
    """A network's pool with its gateway, an auxiliary address and a container's."""
    host.pool()
    host.address("10.66.0.1", gateway=True)
    host.address("10.66.0.9")
    host.address()
    return host


# Giving


def test_what_is_given_is_in_the_store_before_it_is_answered(held: Host) -> None:
    assert held.stored == [
        f"cnm {POOL_ID}",
        *(f"cnm {POOL_ID} 10.66.0.{n}" for n in (1, 2, 9)),
    ]


def test_addresses_have_the_length_of_their_subnet_and_the_range_they_were_asked_in(host: Host) -> None:
    pool_id = host.pool(ip_range="10.66.0.128/25")

    assert pool_id == f"{POOL_ID}/10.66.0.128/25"
    assert host.address(pool_id=pool_id) == "10.66.0.128/24"


def test_subnets_of_our_choice_touch_nothing_that_is_to_be_avoided(host: Host) -> None:
    lease = host.leases.request_pool(SPACE, "", "", {}, False, ["10.80.0.0/24"])

    assert lease.subnet == "10.80.1.0/24"


@pytest.mark.parametrize("pool", ["10.66.0.0/24", "10.66.0.128/25", "10.0.0.0/8"])
def test_what_overlaps_is_refused(held: Host, pool: str) -> None:
    with pytest.raises(PoolOverlap, match=r"10\.66\.0\.0/24"):
        held.pool(pool)


def test_subnets_of_our_choice_run_out(host: Host) -> None:
    assert [host.pool(""), host.pool("")] == [f"{SPACE}/10.80.0.0/24", f"{SPACE}/10.80.1.0/24"]

    with pytest.raises(PoolsExhausted, match="give a subnet"):
        host.pool("")


def test_addresses_run_out_and_come_back(host: Host) -> None:
    pool_id = host.pool("10.66.0.0/30")
    assert [host.address(pool_id=pool_id) for _ in range(2)] == ["10.66.0.1/30", "10.66.0.2/30"]
    with pytest.raises(PoolExhausted):
        host.address(pool_id=pool_id)

    host.leases.release_address(pool_id, "10.66.0.1")

    assert host.address(pool_id=pool_id) == "10.66.0.1/30"


def test_an_address_is_given_once(held: Host) -> None:
    with pytest.raises(AddressInUse):
        held.address("10.66.0.9")


@pytest.mark.parametrize(("pool_id", "error"), [("", InvalidParameter), ("nosuch", NotFound)])
def test_an_unknown_pool_has_no_addresses(host: Host, pool_id: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        host.address(pool_id=pool_id)


def test_many_at_once_get_an_address_each(held: Host) -> None:
    ready = threading.Barrier(16)

    def take() -> str:
        ready.wait()
        return held.address()

    with ThreadPoolExecutor(16) as threads:
        given = list(threads.map(lambda _: take(), range(16)))

    assert len(set(given)) == 16


# Giving back


def test_what_is_given_back_twice_or_never_had_is_no_error(held: Host) -> None:
    for _ in range(2):
        held.leases.release_address(POOL_ID, "10.66.0.9")
        held.leases.release_address("nosuch", "10.66.0.9")
        held.leases.release_address(POOL_ID, "no address")
        held.leases.release_pool("nosuch")

    assert held.address("10.66.0.9") == "10.66.0.9/24"


def test_a_pool_goes_with_the_addresses_in_it(held: Host) -> None:
    held.leases.release_pool(POOL_ID)
    held.leases.release_pool(POOL_ID)

    assert held.stored == []
    held.pool()
    assert held.address("10.66.0.9") == "10.66.0.9/24"


def test_ranges_of_one_subnet_share_its_addresses(host: Host) -> None:
    low, high = host.pool(ip_range="10.66.0.0/25"), host.pool(ip_range="10.66.0.128/25")
    host.address("10.66.0.200", low)
    with pytest.raises(AddressInUse):
        host.address("10.66.0.200", high)

    host.leases.release_pool(low)

    assert host.address("10.66.0.200", high) == "10.66.0.200/24"


def test_each_plugin_gives_back_its_own_only(held: Host) -> None:
    held.others.release_address(POOL_ID, "10.66.0.9")
    held.others.release_pool(POOL_ID)

    assert len(held.stored) == 4
    with pytest.raises(NotFound):
        held.others.request_address(POOL_ID, "", {})


# Starts of cnmd


def test_everything_is_held_after_a_start(held: Host) -> None:
    before = held.stored

    held.restart()

    assert held.stored == before
    with pytest.raises(PoolOverlap):
        held.pool()
    with pytest.raises(AddressInUse):
        held.address("10.66.0.9")
    assert held.address() == "10.66.0.3/24"


def test_a_start_restores_the_ranges(host: Host) -> None:
    pool_id = host.pool(ip_range="10.66.0.128/25")
    host.restart()

    assert host.address(pool_id=pool_id) == "10.66.0.128/24"


# Starts of dockerd


def test_a_dockerd_that_starts_has_again_what_it_had(held: Host) -> None:
    held.leases.dockerd_started()

    assert held.pool() == POOL_ID
    assert held.address("10.66.0.1", gateway=True) == "10.66.0.1/24"
    assert held.address("10.66.0.9") == "10.66.0.9/24"
    assert held.address("10.66.0.2") == "10.66.0.2/24"


def test_it_may_ask_again_but_once(held: Host) -> None:
    held.leases.dockerd_started()
    held.pool()
    held.address("10.66.0.9")

    with pytest.raises(PoolOverlap):
        held.pool()
    with pytest.raises(AddressInUse):
        held.address("10.66.0.9")


def test_nothing_is_asked_for_again_without_a_start(held: Host) -> None:
    held.clock += 1
    with pytest.raises(PoolOverlap):
        held.pool()
    with pytest.raises(AddressInUse):
        held.address("10.66.0.1", gateway=True)


def test_what_was_given_after_the_start_is_not_given_again(host: Host) -> None:
    host.leases.dockerd_started()
    host.pool()
    host.address("10.66.0.9")

    with pytest.raises(AddressInUse):
        host.address("10.66.0.9")


def test_what_it_died_over_can_be_had_by_the_next_who_wants_it(held: Host) -> None:
    held.leases.dockerd_started()

    assert held.address("10.66.0.2") == "10.66.0.2/24"
    with pytest.raises(AddressInUse):
        held.address("10.66.0.2")


def test_a_new_address_is_none_that_may_be_replayed(held: Host) -> None:
    held.leases.dockerd_started()

    assert held.address() == "10.66.0.3/24"


def test_a_replay_survives_a_start_of_cnmd_in_between(held: Host) -> None:
    held.restart()
    held.leases.dockerd_started()

    assert held.pool() == POOL_ID
    assert held.address("10.66.0.9") == "10.66.0.9/24"


def test_what_is_given_back_and_taken_anew_is_no_replay(held: Host) -> None:
    held.leases.dockerd_started()
    held.leases.release_address(POOL_ID, "10.66.0.9")
    held.address("10.66.0.9")

    with pytest.raises(AddressInUse):
        held.address("10.66.0.9")


@pytest.mark.parametrize(
    ("subnet", "ip_range"), [("10.66.0.0/25", ""), (SUBNET, "10.66.0.0/25"), ("10.66.0.0/16", "")]
)
def test_another_pool_is_no_replay_of_it(held: Host, subnet: str, ip_range: str) -> None:
    held.leases.dockerd_started()

    if ip_range:
        assert held.pool(subnet, ip_range) != POOL_ID
    else:
        with pytest.raises(PoolOverlap):
            held.pool(subnet, ip_range)


# Repetitions


def test_a_pool_asked_for_again_within_seconds_is_the_same_request(host: Host) -> None:
    assert host.pool() == host.pool() == POOL_ID


@pytest.mark.parametrize("by", ["time", "an address", "a network"])
def test_a_pool_that_is_used_is_not_given_to_the_next(host: Host, by: str) -> None:
    host.pool()
    if by == "time":
        host.clock += 20
    elif by == "an address":
        host.address()
    else:
        host.leases.network_made([SUBNET])

    with pytest.raises(PoolOverlap):
        host.pool()


def test_families_have_their_own_pools(host: Host) -> None:
    assert host.pool("", v6=True) == f"{SPACE}/fd80::/64"
    assert host.pool("fd66::/64", v6=True) == f"{SPACE}/fd66::/64"
    assert host.address("fd66::9", f"{SPACE}/fd66::/64") == "fd66::9/64"


def test_an_unknown_space_is_refused_by_name(host: Host) -> None:
    with pytest.raises(InvalidParameter, match="nosuch"):
        host.pool(space="nosuch")
