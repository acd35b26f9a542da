"""Networks and endpoints get their pools and addresses as one, or nothing of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product

import msgspec
import pytest

from cnm.errors import CnmError, Forbidden, InvalidParameter, Unavailable
from cnm.ipam import (
    AddressInUse,
    Allocator,
    Ipam,
    IpamCapabilities,
    NullIpam,
    PoolExhausted,
    PoolLease,
    PoolOverlap,
    PoolStatus,
    allocate_endpoint,
    allocate_network,
    network_status,
    release_endpoint,
    release_network,
    restore_endpoint,
    restore_network,
)
from cnm.ipam.contract import ENDPOINT_MAC, ENDPOINT_NAME, GATEWAY, REQUEST_ADDRESS_TYPE, SERIAL
from cnm.network import IpamConfig, Network, NetworkRequest, NetworkState, Pool


def request(
    *configs: IpamConfig, ipv4: bool | None = None, ipv6: bool | None = None, scope: str = ""
) -> NetworkRequest:
    return NetworkRequest(name="front", scope=scope, enable_ipv4=ipv4, enable_ipv6=ipv6, ipam_config=configs)


def network(ipam: Ipam, asked: NetworkRequest, pools: Sequence[Pool] | None = None) -> Network:
    """The network that the request becomes."""
    return Network(
        id="f" * 64,
        name=asked.name,
        driver=asked.driver,
        created="",
        state=NetworkState.ACTIVE,
        ipam_options=asked.ipam_options,
        ipam_config=asked.ipam_config,
        pools=allocate_network(ipam, asked) if pools is None else tuple(pools),
    )


@pytest.fixture
def ipam() -> Allocator:
    return Allocator("")


def is_untouched(ipam: Allocator) -> bool:
    """Nothing is allocated: subnets around all that the tests use can be had."""
    for subnet in ("8.0.0.0/5", "172.16.0.0/12", "fc00::/7"):
        ipam.release_pool(ipam.request_pool("LocalDefault", subnet).pool_id)
    return True


def test_a_plain_request_gets_one_ipv4_pool_and_its_first_address_as_gateway(ipam: Allocator) -> None:
    assert allocate_network(ipam, request()) == (
        Pool(pool_id="LocalDefault/172.18.0.0/16", subnet="172.18.0.0/16", gateway="172.18.0.1"),
    )


@pytest.mark.parametrize(
    ("configs", "ipv4", "ipv6", "subnets"),
    [
        ([], None, True, ["172.18.0.0/16", "fd42:98fc:1c14::/64"]),
        ([], False, True, ["fd42:98fc:1c14::/64"]),
        ([], False, None, []),
        ([IpamConfig(subnet="10.0.0.0/24")], None, True, ["10.0.0.0/24", "fd42:98fc:1c14::/64"]),
        ([IpamConfig(subnet="fd00::/64")], None, True, ["172.18.0.0/16", "fd00::/64"]),
        ([IpamConfig(subnet="fd00::/64")], None, None, ["172.18.0.0/16"]),
        ([IpamConfig()], None, None, ["172.18.0.0/16"]),
        (
            [IpamConfig(subnet="::/80"), IpamConfig(subnet="0.0.0.0/24")],
            None,
            True,
            ["172.18.0.0/24", "fd42:98fc:1c14::/80"],
        ),
        (
            [IpamConfig(subnet="10.0.1.0/24"), IpamConfig(subnet="10.0.0.0/24")],
            None,
            None,
            ["10.0.1.0/24", "10.0.0.0/24"],
        ),
    ],
)
def test_a_family_without_a_subnet_gets_a_default_one(
    ipam: Allocator, configs: list[IpamConfig], ipv4: bool | None, ipv6: bool | None, subnets: list[str]
) -> None:
    pools = allocate_network(ipam, request(*configs, ipv4=ipv4, ipv6=ipv6))

    assert [pool.subnet for pool in pools] == subnets
    assert all(pool.gateway for pool in pools)


def test_what_was_asked_for_is_what_is_allocated(ipam: Allocator) -> None:
    config = IpamConfig(
        subnet="172.28.0.0/16",
        ip_range="172.28.5.0/24",
        gateway="172.28.5.254",
        aux_addresses={"my-router": "172.28.1.5", "my-switch": "172.28.5.6"},
    )

    (pool,) = allocate_network(ipam, request(config))

    assert pool == Pool(
        pool_id="LocalDefault/172.28.0.0/16/172.28.5.0/24",
        subnet="172.28.0.0/16",
        gateway="172.28.5.254",
        ip_range="172.28.5.0/24",
        aux_addresses={"my-router": "172.28.1.5", "my-switch": "172.28.5.6"},
    )
    for address in (pool.gateway, *pool.aux_addresses.values()):
        with pytest.raises(AddressInUse):
            ipam.request_address(pool.pool_id, address)


def test_a_chosen_gateway_is_the_first_free_address_of_the_range(ipam: Allocator) -> None:
    config = IpamConfig(subnet="10.0.0.0/16", ip_range="10.0.5.0/24", aux_addresses={"a": "10.0.5.0"})

    (pool,) = allocate_network(ipam, request(config))

    assert pool.gateway == "10.0.5.1"


def test_a_network_may_have_no_gateway_unless_one_is_given(ipam: Allocator) -> None:
    given = IpamConfig(subnet="fd00::/64", gateway="fd00::5")

    v4, v6 = allocate_network(ipam, request(given, ipv6=True), gateway_v4=False, gateway_v6=False)
    (alone,) = allocate_network(ipam, request(IpamConfig(subnet="10.0.0.0/31")), gateway_v4=False)

    assert (v4.gateway, v6.gateway) == ("", "fd00::5")
    assert [ipam.request_address(alone.pool_id) for _ in range(2)] == ["10.0.0.0/31", "10.0.0.1/31"]


def test_pools_avoid_what_the_host_uses_but_global_ones_do_not(ipam: Allocator) -> None:
    exclude = ["172.18.0.0/15", "172.21.3.0/24", "10.0.0.0/24", "fd42:98fc:1c14::/64"]

    local = allocate_network(ipam, request(ipv6=True), exclude)
    shared = allocate_network(ipam, request(scope="global"), exclude)

    assert [pool.subnet for pool in local] == ["172.20.0.0/16", "fd42:98fc:1c14:1::/64"]
    assert [pool.pool_id for pool in shared] == ["GlobalDefault/10.0.0.0/24"]


@pytest.mark.parametrize(
    ("configs", "error", "status"),
    [
        ([IpamConfig(subnet="10.0.0.0/8"), IpamConfig(subnet="10.1.0.0/16")], InvalidParameter, 400),
        ([IpamConfig(subnet="10.0.0.0/8"), IpamConfig(subnet="11.0.0.0/24")], PoolOverlap, 403),
        ([IpamConfig(subnet="10.0.0.0/8"), IpamConfig(subnet="fd00::/128")], PoolExhausted, 503),
        ([IpamConfig(subnet="10.0.0.0/8", gateway="10.0.0.0")], AddressInUse, 403),
        ([IpamConfig(subnet="10.0.0.0/8", aux_addresses={"a": "10.0.0.0"})], AddressInUse, 403),
        ([IpamConfig(subnet="10.0.0.0/8"), IpamConfig(subnet="::/8")], InvalidParameter, 400),
    ],
)
def test_a_network_that_cannot_have_everything_gets_nothing(
    ipam: Allocator, configs: list[IpamConfig], error: type[CnmError], status: int
) -> None:
    other = ipam.request_pool("LocalDefault", "11.0.0.0/8").pool_id

    with pytest.raises(error) as raised:
        allocate_network(ipam, request(*configs, ipv6=True))

    assert raised.value.status == status
    ipam.release_pool(other)
    assert is_untouched(ipam)


def test_a_refused_gateway_and_auxiliary_address_are_named(ipam: Allocator) -> None:
    gateway = request(IpamConfig(subnet="10.0.0.0/24", gateway="10.0.0.0"))
    auxiliary = request(IpamConfig(subnet="10.0.0.0/24", aux_addresses={"a": "10.0.0.255"}))

    with pytest.raises(AddressInUse, match=r"^failed to allocate gateway \(10\.0\.0\.0\): Address already"):
        allocate_network(ipam, gateway)
    with pytest.raises(AddressInUse, match=r"^failed to allocate secondary ip address \(a:10\.0\.0\.255\): "):
        allocate_network(ipam, auxiliary)


def test_networks_with_ranges_of_one_subnet_keep_out_of_each_other_s_addresses(ipam: Allocator) -> None:
    one = allocate_network(ipam, request(IpamConfig(subnet="10.0.0.0/24", ip_range="10.0.0.0/25")))
    asked = request(IpamConfig(subnet="10.0.0.0/24", ip_range="10.0.0.128/25", gateway="10.0.0.1"))
    with pytest.raises(AddressInUse):
        allocate_network(ipam, asked)

    release_network(ipam, one)

    assert allocate_network(ipam, asked)[0].gateway == "10.0.0.1"


def test_a_failed_network_gives_its_addresses_of_a_shared_subnet_back(ipam: Allocator) -> None:
    allocate_network(ipam, request(IpamConfig(subnet="10.0.0.0/24", ip_range="10.0.0.0/25")))
    config = IpamConfig(
        subnet="10.0.0.0/24",
        ip_range="10.0.0.128/25",
        gateway="10.0.0.200",
        aux_addresses={"a": "10.0.0.201"},
    )
    with pytest.raises(PoolExhausted):
        allocate_network(ipam, request(config, IpamConfig(subnet="fd00::/128"), ipv6=True))

    (pool,) = allocate_network(ipam, request(config))

    assert (pool.gateway, pool.aux_addresses) == ("10.0.0.200", {"a": "10.0.0.201"})


def test_a_released_network_leaves_nothing(ipam: Allocator) -> None:
    config = IpamConfig(subnet="10.0.0.0/24", ip_range="10.0.0.0/25", aux_addresses={"a": "10.0.0.9"})
    pools = allocate_network(ipam, request(config, ipv6=True))

    release_network(ipam, pools)

    assert is_untouched(ipam)


def test_release_goes_on_after_a_refusal_and_says_so(
    ipam: Allocator, caplog: pytest.LogCaptureFixture
) -> None:
    pools = allocate_network(ipam, request(ipv6=True))
    gone = Pool(pool_id="LocalDefault/10.0.0.0/8", subnet="10.0.0.0/8", gateway="10.0.0.1")

    release_network(ipam, [gone, *pools])

    assert is_untouched(ipam)
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert "release_address LocalDefault/10.0.0.0/8 10.0.0.1 failed: " in caplog.text


def test_a_dual_stack_endpoint_gets_an_address_of_each_family(ipam: Allocator) -> None:
    front = network(ipam, request(ipv6=True))

    assert allocate_endpoint(ipam, front) == ("172.18.0.2/16", "fd42:98fc:1c14::2/64")
    assert allocate_endpoint(ipam, front, "172.18.7.7", "fd42:98fc:1c14::7:7") == (
        "172.18.7.7/16",
        "fd42:98fc:1c14::7:7/64",
    )


def test_an_endpoint_of_a_network_without_ipv4_has_none(ipam: Allocator) -> None:
    front = network(ipam, request(ipv4=False, ipv6=True))

    assert allocate_endpoint(ipam, front) == ("", "fd42:98fc:1c14::2/64")
    with pytest.raises(InvalidParameter, match="no configured subnet contains IP address"):
        allocate_endpoint(ipam, front, "172.18.0.2")


def test_the_next_subnet_is_used_when_the_first_is_exhausted(ipam: Allocator) -> None:
    configs = [IpamConfig(subnet="10.0.0.0/30"), IpamConfig(subnet="10.0.9.0/30")]
    front = network(ipam, request(*configs))

    assert allocate_endpoint(ipam, front) == ("10.0.0.2/30", "")
    assert allocate_endpoint(ipam, front) == ("10.0.9.2/30", "")
    expected = rf"^no available IPv4 addresses on this network's address pools: front \({'f' * 64}\)$"
    with pytest.raises(PoolExhausted, match=expected) as raised:
        allocate_endpoint(ipam, front)
    assert raised.value.status == 503


def test_an_address_is_taken_from_the_subnet_that_contains_it(ipam: Allocator) -> None:
    configs = [IpamConfig(subnet="10.0.0.0/24"), IpamConfig(subnet="10.0.9.0/24")]

    assert allocate_endpoint(ipam, network(ipam, request(*configs)), "10.0.9.9") == ("10.0.9.9/24", "")


def test_an_endpoint_that_cannot_have_both_families_has_neither(ipam: Allocator) -> None:
    front = network(ipam, request(IpamConfig(subnet="fd00::/127"), ipv6=True))

    with pytest.raises(PoolExhausted, match="no available IPv6 addresses"):
        allocate_endpoint(ipam, front, "172.18.0.9")

    assert ipam.request_address(front.pools[0].pool_id, "172.18.0.9") == "172.18.0.9/16"


def test_an_address_in_use_is_not_replaced_by_another(ipam: Allocator) -> None:
    front = network(ipam, request())
    allocate_endpoint(ipam, front, "172.18.0.9")

    with pytest.raises(Forbidden, match=r"^Address already in use: 172\.18\.0\.9"):
        allocate_endpoint(ipam, front, "172.18.0.9")


def test_released_addresses_are_issued_again(ipam: Allocator) -> None:
    front = network(ipam, request(ipv6=True))
    addresses = allocate_endpoint(ipam, front)

    release_endpoint(ipam, front, *addresses)
    release_endpoint(ipam, front, "", "")

    assert allocate_endpoint(ipam, front) == addresses


def test_serial_addresses_are_a_choice_of_the_network(ipam: Allocator) -> None:
    asked = msgspec.structs.replace(request(), ipam_options={SERIAL: "true"})
    front = network(ipam, asked)
    first = allocate_endpoint(ipam, front)
    release_endpoint(ipam, front, *first)

    assert allocate_endpoint(ipam, front) == ("172.18.0.3/16", "")


def status_after(ipam: Allocator, front: Network, *endpoints: tuple[str, str]) -> dict[str, PoolStatus]:
    for ipv4, ipv6 in endpoints:
        allocate_endpoint(ipam, front, ipv4, ipv6)
    return network_status(ipam, front)


def test_status_counts_as_docker_does(ipam: Allocator) -> None:
    v4 = IpamConfig(
        subnet="192.168.0.0/24",
        ip_range="192.168.0.64/31",
        gateway="192.168.0.1",
        aux_addresses={"in": "192.168.0.65", "out": "192.168.0.128"},
    )
    v6 = IpamConfig(
        subnet="2001:db8:abcd::/64",
        ip_range="2001:db8:abcd::/120",
        gateway="2001:db8:abcd::1",
        aux_addresses={"in": "2001:db8:abcd::2a", "out": "2001:db8:abcd::8000"},
    )
    front = network(ipam, request(v4, v6, ipv6=True))

    def expect(used4: int, free4: int, used6: int, free6: int) -> dict[str, PoolStatus]:
        return {v4.subnet: PoolStatus(used4, free4), v6.subnet: PoolStatus(used6, free6)}

    assert status_after(ipam, front) == expect(5, 1, 4, 253)
    assert status_after(ipam, front, ("", "")) == expect(6, 0, 5, 252)
    outside = ("192.168.0.129", "2001:db8:abcd::9000")
    assert status_after(ipam, front, outside) == expect(7, 0, 6, 252)
    release_endpoint(ipam, front, *outside)
    release_endpoint(ipam, front, "192.168.0.64/24", "2001:db8:abcd::2/64")
    assert status_after(ipam, front) == expect(5, 1, 4, 253)


def test_status_of_a_big_ipv6_subnet_saturates(ipam: Allocator) -> None:
    front = network(ipam, request(IpamConfig(subnet="2001:db8:abcd::/56"), ipv4=False, ipv6=True))

    assert network_status(ipam, front) == {"2001:db8:abcd::/56": PoolStatus(2, 2**64 - 1)}


def test_status_of_networks_that_share_a_subnet_counts_each_other_s_addresses(ipam: Allocator) -> None:
    subnet = "192.168.0.0/24"
    ranges = ["192.168.0.0/25", "192.168.0.0/24", "192.168.0.128/25"]
    given = [IpamConfig(subnet=subnet, ip_range=ip_range) for ip_range in ranges]
    given[0] = msgspec.structs.replace(given[0], gateway="192.168.0.1", aux_addresses={"r": "192.168.0.100"})
    networks = [
        network(ipam, request(config), allocate_network(ipam, request(config), gateway_v4=False))
        for config in given
    ]

    before = [network_status(ipam, each)[subnet] for each in networks]
    allocate_endpoint(ipam, networks[0])
    after = [network_status(ipam, each)[subnet] for each in networks]

    assert before == [PoolStatus(4, 125), PoolStatus(4, 252), PoolStatus(4, 127)]
    assert after == [PoolStatus(5, 124), PoolStatus(5, 251), PoolStatus(5, 127)]


def test_a_restart_restores_pools_gateways_and_addresses_though_the_defaults_changed(ipam: Allocator) -> None:
    config = IpamConfig(subnet="0.0.0.0/24", aux_addresses={})
    asked = request(config, ipv6=True)
    allocate_network(ipam, request())
    front = network(ipam, asked)
    ranged = network(
        ipam,
        request(IpamConfig(subnet="10.0.0.0/24", ip_range="10.0.0.64/26", aux_addresses={"a": "10.0.0.3"})),
    )
    stored = [(each, *allocate_endpoint(ipam, each)) for each in (front, ranged, front)]

    again = Allocator("another host", [("172.19.0.0/16", 24)])
    for _ in range(2):
        for each in (front, ranged):
            restore_network(again, each)
        for each, ipv4, ipv6 in stored:
            restore_endpoint(again, each, ipv4, ipv6)

    for each in (front, ranged):
        assert network_status(again, each) == network_status(ipam, each)
        assert allocate_endpoint(again, each) == allocate_endpoint(ipam, each)
    assert again.request_pool("LocalDefault").subnet == "172.19.1.0/24"


def test_null_ipam_gives_pools_of_everything_and_no_addresses() -> None:
    null = NullIpam()
    asked = request(ipv6=True)
    one, other = network(null, asked), network(null, asked)

    assert (
        one.pools
        == other.pools
        == (
            Pool(pool_id="null/0.0.0.0/0", subnet="0.0.0.0/0"),
            Pool(pool_id="null/::/0", subnet="::/0"),
        )
    )
    assert allocate_endpoint(null, one) == ("", "")
    assert network_status(null, one) == {}
    restore_network(null, one)
    release_endpoint(null, one, "", "")
    release_network(null, one.pools)


def test_null_ipam_refuses_what_it_cannot_give() -> None:
    null = NullIpam()
    front = network(null, request())

    for configs in ([IpamConfig(subnet="10.0.0.0/8")], [IpamConfig(subnet="0.0.0.0/8")]):
        with pytest.raises(InvalidParameter, match="does not handle specific address pool requests"):
            allocate_network(null, request(*configs))
    with pytest.raises(InvalidParameter, match="specific address subpool requests"):
        null.request_pool("null", sub_pool="10.0.0.0/8")
    with pytest.raises(InvalidParameter, match=r"gives no addresses: 10\.0\.0\.5"):
        allocate_endpoint(null, front, "10.0.0.5")
    with pytest.raises(InvalidParameter, match="unknown address space: LocalDefault"):
        null.request_pool("LocalDefault")
    calls: tuple[Callable[[str], object], ...] = (null.release_pool, null.request_address, null.pool_status)
    for call, pool_id in product(calls, ("", "null/x")):
        with pytest.raises(InvalidParameter, match="unknown pool id"):
            call(pool_id)


class Plugin(Allocator):
    """An IPAM as a plugin may be: chooses gateways with the pool, wants MACs, fails where told to."""

    def __init__(self) -> None:
        super().__init__("")
        self.options: list[dict[str, str]] = []
        self.fail_at = ""

    def capabilities(self) -> IpamCapabilities:
        return IpamCapabilities(requires_mac_address=True)

    def request_pool(
        self,
        space: str,
        pool: str = "",
        sub_pool: str = "",
        options: Mapping[str, str] | None = None,
        v6: bool = False,
        *,
        exclude: Sequence[str] = (),
    ) -> PoolLease:
        lease = super().request_pool(space, pool, sub_pool, options, v6, exclude=exclude)
        return PoolLease(lease.pool_id, lease.subnet, {GATEWAY: "172.18.0.254/16"})

    def request_address(
        self, pool_id: str, address: str = "", options: Mapping[str, str] | None = None
    ) -> str:
        self.options.append(dict(options or {}))
        if self.fail_at and self.fail_at in pool_id:
            raise Unavailable("plugin is away")
        return super().request_address(pool_id, address, options)


def test_a_gateway_that_comes_with_the_pool_is_used_unless_the_user_gave_one() -> None:
    plugin = Plugin()

    (chosen,) = allocate_network(plugin, request())
    (given,) = allocate_network(plugin, request(IpamConfig(subnet="10.0.0.0/8", gateway="10.0.0.9")))

    assert (chosen.gateway, given.gateway) == ("172.18.0.254", "10.0.0.9")
    assert plugin.options == [{REQUEST_ADDRESS_TYPE: GATEWAY}]


def test_mac_and_name_reach_an_ipam_that_wants_them() -> None:
    plugin = Plugin()

    allocate_endpoint(plugin, network(plugin, request()), mac="02:42:ac:12:00:02", name="web")

    assert plugin.options == [{ENDPOINT_NAME: "web", ENDPOINT_MAC: "02:42:ac:12:00:02"}]


def test_only_exhaustion_makes_an_endpoint_try_the_next_subnet() -> None:
    plugin = Plugin()
    configs = [IpamConfig(subnet="10.0.0.0/24"), IpamConfig(subnet="10.0.1.0/24")]
    front = network(plugin, request(*configs))
    plugin.fail_at = "10.0.0.0"

    with pytest.raises(Unavailable, match=r"^plugin is away$"):
        allocate_endpoint(plugin, front)

    assert plugin.pool_status(front.pools[1].pool_id).ips_in_use == 2
