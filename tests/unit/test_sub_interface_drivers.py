"""The macvlan and ipvlan drivers: what they want of the kernel, take, and refuse, as values."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from cnm.driver import HostFacts, Registry
from cnm.drivers.ipvlan import IpvlanDriver
from cnm.drivers.macvlan import MacvlanDriver
from cnm.drivers.sub_interface import SubInterfaceDriver
from cnm.endpoint import Endpoint
from cnm.errors import Forbidden, InvalidParameter
from cnm.gateway import ON_LINK
from cnm.kernel.state import Address, Group, KernelState, Link, LinkKind, Sysctl
from cnm.network import Network, NetworkState, Pool
from cnm.sandbox import Sandbox, SandboxKind, SandboxState

MACVLAN, IPVLAN = MacvlanDriver(), IpvlanDriver()
BOTH = pytest.mark.parametrize("driver", [MACVLAN, IPVLAN], ids=["macvlan", "ipvlan"])
FACTS = HostFacts(uplink_mtu=9000, interfaces={"eth0": 1400, "eth0.20": 1300, "eth1": 1500})
ID = "0123456789abcdef" * 4
SANDBOX = Sandbox(
    id="b" * 64,
    name="box",
    kind=SandboxKind.OWN,
    netns="/run/netns/box",
    created="",
    state=SandboxState.ACTIVE,
)
POOL4 = Pool(pool_id="p4", subnet="10.1.0.0/24", gateway="10.1.0.1")
POOL6 = Pool(pool_id="p6", subnet="fd01::/64")


def a_network(driver: SubInterfaceDriver = MACVLAN, **changes: Any) -> Network:
    fields: dict[str, Any] = {
        "id": ID,
        "name": "net",
        "driver": driver.name,
        "created": "",
        "state": NetworkState.ACTIVE,
        "enable_ipv6": True,
        "pools": (POOL4, POOL6),
        "options": {"parent": "eth0"},
    }
    return Network(**(fields | changes))


def settled(driver: SubInterfaceDriver = MACVLAN, *others: Network, **changes: Any) -> Network:
    return driver.validate_network(a_network(driver, **changes), others, FACTS)


def an_endpoint(**changes: Any) -> Endpoint:
    fields: dict[str, Any] = {
        "id": "e" * 64,
        "name": "ep",
        "network_id": ID,
        "ifname": "eth0",
        "mac": "02:42:0a:01:00:02",
        "ipv4": "10.1.0.2/24",
        "ipv6": "fd01::2/64",
    }
    return Endpoint(**(fields | changes))


def joined(driver: SubInterfaceDriver, network: Network, **changes: Any) -> KernelState:
    (state,) = driver.join_state(network, an_endpoint(**changes), SANDBOX, FACTS)
    return state


def refusal(error: type[Exception], driver: SubInterfaceDriver, *others: Network, **changes: Any) -> str:
    with pytest.raises(error) as refused:
        settled(driver, *others, **changes)
    return str(refused.value)


# What must exist


def test_both_are_drivers_of_local_scope_that_the_host_neither_routes_nor_publishes() -> None:
    registry = Registry([MACVLAN, IPVLAN])

    for name in ("macvlan", "ipvlan"):
        capabilities = registry.get(name).capabilities
        assert (capabilities.scope, capabilities.publishes_ports) == ("local", False)
        assert (capabilities.routed_by_host, capabilities.on_parent) == (False, True)


def test_an_endpoint_is_a_macvlan_in_the_sandbox_with_its_addresses() -> None:
    state = joined(MACVLAN, settled())

    assert state == KernelState(
        namespace="/run/netns/box",
        links=(
            Link(
                "eth0",
                LinkKind.MACVLAN,
                mac="02:42:0a:01:00:02",
                mtu=1400,
                alias=f"cnm:endpoint:{'e' * 64}",
                group=Group.SUB_INTERFACE,
                parent="eth0",
                mode="bridge",
            ),
        ),
        addresses=(Address("eth0", "10.1.0.2/24"), Address("eth0", "fd01::2/64")),
        sysctls=(
            Sysctl("net/ipv6/conf/eth0/disable_ipv6", "0"),
            Sysctl("net/ipv6/conf/eth0/accept_ra", "0"),
        ),
    )


def test_an_endpoint_without_ipv6_has_it_switched_off() -> None:
    state = joined(MACVLAN, settled(enable_ipv6=False, pools=(POOL4,)), ipv6="")

    assert state.sysctls == (Sysctl("net/ipv6/conf/eth0/disable_ipv6", "1"),)


def test_an_endpoint_without_addresses_has_a_mac_that_stays() -> None:
    """The null IPAM, where a DHCP server of the segment gives addresses by MAC."""
    network = settled(ipam_driver="null", pools=(Pool(pool_id="null", subnet="0.0.0.0/0"),))
    first, again = (joined(MACVLAN, network, mac="", ipv4="", ipv6="") for _ in range(2))

    assert first.links[0].mac.startswith("02:42:")
    assert first == again
    assert first.addresses == ()
    assert MACVLAN.gateways(network, an_endpoint(mac="", ipv4="", ipv6="")) == ("", "")


@pytest.mark.parametrize("mode", ["bridge", "private", "vepa", "passthru"])
def test_a_macvlan_has_the_mode_that_was_asked_for(mode: str) -> None:
    network = settled(options={"parent": "eth0", "macvlan_mode": mode})

    assert joined(MACVLAN, network).links[0].mode == mode


@pytest.mark.parametrize("mode", ["l2", "l3", "l3s"])
@pytest.mark.parametrize("flag", ["bridge", "private", "vepa"])
def test_an_ipvlan_has_mode_and_flag_and_its_parents_mac(mode: str, flag: str) -> None:
    options = {"parent": "eth0", "ipvlan_mode": mode, "ipvlan_flag": flag}
    (link,) = joined(IPVLAN, settled(IPVLAN, options=options)).links

    assert (link.kind, link.mode, link.mac, link.parent) == (LinkKind.IPVLAN, f"{mode}:{flag}", "", "eth0")


@BOTH
def test_a_parent_of_the_host_needs_nothing_made(driver: SubInterfaceDriver) -> None:
    for parent in ("eth0", "eth0.20"):
        network = settled(driver, options={"parent": parent})

        assert driver.network_state(network, HostFacts()) == ()
        assert joined(driver, network).links[0].parent == parent


@BOTH
def test_a_vlan_that_is_missing_is_made_on_its_parent(driver: SubInterfaceDriver) -> None:
    network = settled(driver, options={"parent": "eth0.10"})

    (state,) = driver.network_state(network, HostFacts())
    assert state.links == (
        Link(
            "eth0.10",
            LinkKind.VLAN,
            alias="cnm:vlan:eth0.10",
            group=Group.SUB_INTERFACE,
            parent="eth0",
            mode="10",
        ),
    )
    assert joined(driver, network).links[0].parent == "eth0.10"


def test_networks_on_one_vlan_want_the_same_link() -> None:
    one, other = (settled(options={"parent": "eth0.10"}, id=ident * 64) for ident in "ab")

    assert MACVLAN.network_state(one, FACTS) == MACVLAN.network_state(other, FACTS)


@BOTH
def test_without_a_parent_it_is_a_dummy_and_internal(driver: SubInterfaceDriver) -> None:
    network = settled(driver, options={})

    (state,) = driver.network_state(network, FACTS)
    (link,) = state.links
    assert (link.name, link.kind, link.mtu) == ("dm-0123456789ab", LinkKind.DUMMY, 1500)
    assert link.alias == f"cnm:network:{ID}"
    assert network.internal
    assert joined(driver, network).links[0].parent == "dm-0123456789ab"
    assert driver.gateways(network, an_endpoint()) == ("", "")


# MTU


@pytest.mark.parametrize(
    ("options", "mtu"),
    [
        ({"parent": "eth0"}, 1400),
        ({"parent": "eth0.10"}, 1400),
        ({"parent": "eth0.20"}, 1300),
        ({"parent": "eth1", "com.docker.network.driver.mtu": "1290"}, 1290),
        ({"parent": "eth1", "com.docker.network.driver.mtu": "0"}, 1500),
        ({}, 1500),
        ({"com.docker.network.driver.mtu": "9000"}, 9000),
    ],
)
def test_the_mtu_is_the_parents_unless_given(options: dict[str, str], mtu: int) -> None:
    assert settled(options=options).mtu == mtu


# Gateways


def test_no_gateway_is_taken_from_ipam() -> None:
    assert MACVLAN.wants_gateways(a_network()) == (False, False)


def test_a_given_gateway_is_the_next_hop_and_without_one_the_route_is_bound_to_the_interface() -> None:
    for driver in (MACVLAN, IPVLAN):
        assert driver.gateways(settled(driver), an_endpoint()) == ("10.1.0.1", ON_LINK)
        assert driver.gateways(settled(driver), an_endpoint(ipv6="")) == ("10.1.0.1", "")


def test_the_gateway_is_that_of_the_endpoints_own_subnet() -> None:
    second = Pool(pool_id="second", subnet="10.2.0.0/24", gateway="10.2.0.9")
    network = settled(pools=(POOL4, second, POOL6))

    assert MACVLAN.gateways(network, an_endpoint(ipv4="10.2.0.7/24"))[0] == "10.2.0.9"


def test_an_auxiliary_address_stands_in_for_the_gateway() -> None:
    pool = msgspec.structs.replace(POOL4, aux_addresses={"DefaultGatewayIPv4": "10.1.0.77"})

    assert MACVLAN.gateways(settled(pools=(pool,)), an_endpoint(ipv6="")) == ("10.1.0.77", "")


@pytest.mark.parametrize("mode", ["l3", "l3s"])
def test_layer_3_has_no_next_hop_even_where_a_gateway_was_given(mode: str) -> None:
    network = settled(IPVLAN, options={"parent": "eth0", "ipvlan_mode": mode})

    assert IPVLAN.gateways(network, an_endpoint()) == (ON_LINK, ON_LINK)


@BOTH
def test_an_internal_network_has_no_way_out(driver: SubInterfaceDriver) -> None:
    assert driver.gateways(settled(driver, internal=True), an_endpoint()) == ("", "")


# Refusals


@BOTH
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"options": {"no.such": "1"}}, "unknown option no.such for driver"),
        ({"options": {"com.docker.network.bridge.name": "br0"}}, "unknown option com.docker.network.bridge.name"),
        ({"options": {"parent": "lo"}}, "loopback"),
        ({"options": {"parent": "eth9"}}, "parent interface eth9 does not exist on the host"),
        ({"options": {"parent": "eth9.10"}}, "parent interface eth9.10 does not exist on the host, nor does eth9"),
        ({"options": {"parent": "eth0.0"}}, "from 1 to 4094"),
        ({"options": {"parent": "eth0.4095"}}, "from 1 to 4094"),
        ({"options": {"parent": "eth0.x"}}, "from 1 to 4094"),
        ({"options": {"parent": "eth0.010"}}, "from 1 to 4094"),
        ({"options": {"parent": "eth0.²"}}, "from 1 to 4094"),
        ({"options": {"parent": "a-very-long-interface"}}, "15 bytes"),
        ({"options": {"parent": "eth0", "com.docker.network.driver.mtu": "1401"}}, "larger than eth0's, which is 1400"),
        ({"options": {"parent": "eth0", "com.docker.network.driver.mtu": "1279"}}, "IPv6 needs 1280"),
        ({"options": {"parent": "eth0", "com.docker.network.container_iface_prefix": "a" * 12}}, "at most 11 bytes"),
        ({"enable_ipv4": False, "enable_ipv6": False}, "needs IPv4 or IPv6"),
        ({"pools": (Pool(pool_id="p", subnet="127.1.0.0/24"),)}, "loopback"),
    ],
)  # fmt: skip
def test_a_network_that_cannot_be_is_refused_by_name(
    driver: SubInterfaceDriver, changes: dict[str, Any], words: str
) -> None:
    assert words in refusal(InvalidParameter, driver, **changes)


@pytest.mark.parametrize(
    ("driver", "option", "value"),
    [
        (MACVLAN, "macvlan_mode", "source"),
        (IPVLAN, "ipvlan_mode", "l4"),
        (IPVLAN, "ipvlan_flag", "public"),
        (MACVLAN, "ipvlan_mode", "l2"),
        (IPVLAN, "macvlan_mode", "bridge"),
    ],
)
def test_a_mode_that_the_driver_does_not_have_is_refused(
    driver: SubInterfaceDriver, option: str, value: str
) -> None:
    assert option in refusal(InvalidParameter, driver, options={"parent": "eth0", option: value})


def neighbour(driver: SubInterfaceDriver = MACVLAN, **options: str) -> Network:
    """Another network on the same parent."""
    return a_network(driver, id="f" * 64, name="first", options={"parent": "eth0", **options})


def test_macvlan_networks_share_a_parent() -> None:
    assert settled(MACVLAN, neighbour(), neighbour(macvlan_mode="private")).mtu == 1400


@pytest.mark.parametrize(("mine", "theirs"), [("passthru", "bridge"), ("bridge", "passthru")])
def test_passthru_shares_its_parent_with_nobody(mine: str, theirs: str) -> None:
    message = refusal(
        Forbidden, MACVLAN, neighbour(macvlan_mode=theirs), options={"parent": "eth0", "macvlan_mode": mine}
    )

    assert message.startswith("network first uses parent interface eth0 already, and network ")
    assert message.endswith("in mode passthru needs it for itself alone: choose another parent or mode")


def test_an_ipvlan_network_shares_its_parent_with_nobody() -> None:
    assert "network first uses parent interface eth0 already" in refusal(
        Forbidden, IPVLAN, neighbour(IPVLAN, ipvlan_mode="l3")
    )


@pytest.mark.parametrize(("driver", "other"), [(MACVLAN, IPVLAN), (IPVLAN, MACVLAN)])
def test_a_parent_serves_macvlan_or_ipvlan(driver: SubInterfaceDriver, other: SubInterfaceDriver) -> None:
    message = refusal(Forbidden, driver, neighbour(other))

    assert f"network first uses parent interface eth0 already with driver {other.name}" in message


@BOTH
def test_other_parents_are_no_clash_nor_are_equal_subnets(driver: SubInterfaceDriver) -> None:
    others = [
        a_network(driver, id="f" * 64, options={"parent": "eth1"}),
        a_network(driver, id="d" * 64, options={"parent": "eth0.20"}),
        a_network(driver, id="c" * 64, options={}),
    ]

    assert settled(driver, *others).pools == (POOL4, POOL6)


@BOTH
def test_an_unknown_endpoint_option_is_refused(driver: SubInterfaceDriver) -> None:
    driver.validate_endpoint(
        a_network(driver), an_endpoint(options={"com.docker.network.endpoint.ifname": "x"})
    )
    with pytest.raises(InvalidParameter, match=r"unknown endpoint option no\.such"):
        driver.validate_endpoint(a_network(driver), an_endpoint(options={"no.such": "1"}))


def test_a_mac_is_given_to_a_macvlan_but_not_to_an_ipvlan() -> None:
    MACVLAN.validate_endpoint(a_network(), an_endpoint(mac_given=True))
    with pytest.raises(InvalidParameter, match="ipvlan interfaces do not support custom mac address"):
        IPVLAN.validate_endpoint(a_network(IPVLAN), an_endpoint(mac_given=True))


@BOTH
def test_interfaces_are_called_as_the_option_says(driver: SubInterfaceDriver) -> None:
    named = a_network(driver, options={"com.docker.network.container_iface_prefix": "lan"})

    assert driver.interface_prefix(a_network(driver)) == "eth"
    assert driver.interface_prefix(named) == "lan"
