"""What a user asks for is refused in one go, each fault naming its value."""

from __future__ import annotations

import pytest

from cnm.errors import InvalidParameter
from cnm.ipam import validate_endpoint_addresses, validate_ipam
from cnm.network import IpamConfig, Network, NetworkState, Pool


def faults(*configs: IpamConfig, ipv4: bool = True, ipv6: bool = True) -> list[str]:
    """The parts of the refusal, without Docker's heading."""
    with pytest.raises(InvalidParameter) as raised:
        validate_ipam(configs, ipv4=ipv4, ipv6=ipv6)
    heading, _, text = str(raised.value).partition(": ")
    assert heading == "invalid network config"
    return text.split("; ")


@pytest.mark.parametrize(
    "config",
    [
        IpamConfig(),
        IpamConfig(subnet="10.0.0.0/8"),
        IpamConfig(subnet="10.0.0.0/8", ip_range="10.0.0.0/8", gateway="10.255.255.254"),
        IpamConfig(subnet="10.0.0.0/31", gateway="10.0.0.0", aux_addresses={"other": "10.0.0.1"}),
        IpamConfig(subnet="10.0.0.5/32"),
        IpamConfig(subnet="fd00::/64", ip_range="fd00::8000/113", gateway="fd00::1"),
        IpamConfig(subnet="0.0.0.0/24"),
        IpamConfig(subnet="::/64"),
    ],
)
def test_sound_configurations_are_accepted(config: IpamConfig) -> None:
    validate_ipam([config], ipv4=True, ipv6=True)


@pytest.mark.parametrize(
    ("config", "fault"),
    [
        (IpamConfig(subnet="10.0.0.0"), "invalid subnet 10.0.0.0: invalid CIDR block notation"),
        (IpamConfig(subnet="10.0.0.0/33"), "invalid subnet 10.0.0.0/33: invalid CIDR block notation"),
        (
            IpamConfig(subnet="10.0.0.0/255.0.0.0"),
            "invalid subnet 10.0.0.0/255.0.0.0: invalid CIDR block notation",
        ),
        (IpamConfig(subnet="10.1.2.3/8"), "invalid subnet 10.1.2.3/8: it should be 10.0.0.0/8"),
        (IpamConfig(subnet="fd00::1/64"), "invalid subnet fd00::1/64: it should be fd00::/64"),
        (
            IpamConfig(subnet="10.0.0.0/8", ip_range="10.1.0.0"),
            "invalid ip-range 10.1.0.0: invalid CIDR block notation",
        ),
        (
            IpamConfig(subnet="10.0.0.0/8", ip_range="fd00::/64"),
            "invalid ip-range fd00::/64: parent subnet is an IPv4 block",
        ),
        (
            IpamConfig(subnet="10.0.0.0/16", ip_range="10.0.0.0/8"),
            "invalid ip-range 10.0.0.0/8: CIDR block is bigger than its parent subnet 10.0.0.0/16",
        ),
        (
            IpamConfig(subnet="10.0.0.0/8", ip_range="10.1.2.3/16"),
            "invalid ip-range 10.1.2.3/16: it should be 10.1.0.0/16",
        ),
        (
            IpamConfig(subnet="10.0.0.0/8", ip_range="11.0.0.0/16"),
            "invalid ip-range 11.0.0.0/16: parent subnet 10.0.0.0/8 doesn't contain ip-range",
        ),
        (
            IpamConfig(subnet="10.0.0.0/8", gateway="10.0.0.1/8"),
            "invalid gateway 10.0.0.1/8: invalid address",
        ),
        (
            IpamConfig(subnet="10.0.0.0/8", gateway="fd00::1"),
            "invalid gateway fd00::1: parent subnet is an IPv4 block",
        ),
        (
            IpamConfig(subnet="fd00::/64", gateway="fd01::1"),
            "invalid gateway fd01::1: parent subnet fd00::/64 doesn't contain this address",
        ),
        (
            IpamConfig(subnet="10.0.0.0/8", aux_addresses={"a": "x"}),
            "invalid auxiliary address a: invalid address",
        ),
        (
            IpamConfig(subnet="10.0.0.0/8", aux_addresses={"a": "11.0.0.1"}),
            "invalid auxiliary address a: parent subnet 10.0.0.0/8 doesn't contain this address",
        ),
        (
            IpamConfig(subnet="10.0.0.0/8", gateway="10.0.0.1", aux_addresses={"a": "10.0.0.1"}),
            "invalid auxiliary address a: 10.0.0.1 is the gateway already",
        ),
        (
            IpamConfig(subnet="10.0.0.0/8", aux_addresses={"a": "10.0.0.2", "b": "10.0.0.2"}),
            "invalid auxiliary address b: 10.0.0.2 is auxiliary address a already",
        ),
        (
            IpamConfig(ip_range="10.0.0.0/24"),
            "every ip-range or gateway must have a corresponding subnet: ip-range 10.0.0.0/24",
        ),
        (
            IpamConfig(gateway="10.0.0.1"),
            "every ip-range or gateway must have a corresponding subnet: gateway 10.0.0.1",
        ),
        (IpamConfig(aux_addresses={"a": "10.0.0.2"}), "no matching subnet for aux-address 10.0.0.2"),
    ],
)
def test_each_fault_names_its_value(config: IpamConfig, fault: str) -> None:
    assert faults(config) == [fault]


def test_all_faults_are_said_at_once() -> None:
    lines = faults(
        IpamConfig(subnet="10.0.0.1/16", ip_range="10.9.0.1/24", gateway="10.1.0.1"),
        IpamConfig(subnet="nonsense"),
    )

    assert lines == [
        "invalid subnet 10.0.0.1/16: it should be 10.0.0.0/16",
        "invalid ip-range 10.9.0.1/24: it should be 10.9.0.0/24",
        "invalid ip-range 10.9.0.1/24: parent subnet 10.0.0.0/16 doesn't contain ip-range",
        "invalid gateway 10.1.0.1: parent subnet 10.0.0.0/16 doesn't contain this address",
        "invalid subnet nonsense: invalid CIDR block notation",
    ]


def test_overlapping_subnets_of_one_network_are_refused() -> None:
    one = IpamConfig(subnet="10.0.0.0/8", ip_range="10.1.0.0/16")
    same = IpamConfig(subnet="10.0.0.0/8", ip_range="10.2.0.0/16")
    inner = IpamConfig(subnet="10.9.0.0/16")

    heading = "multiple overlapping subnet configuration is not supported:"
    assert faults(one, same) == [f"{heading} 10.0.0.0/8 and 10.0.0.0/8"]
    assert faults(one, inner) == [f"{heading} 10.0.0.0/8 and 10.9.0.0/16"]
    assert faults(IpamConfig(subnet="fd00::/64"), IpamConfig(subnet="fd00::/48")) == [
        f"{heading} fd00::/64 and fd00::/48"
    ]


def test_disjoint_subnets_and_several_of_any_subnet_are_accepted() -> None:
    subnets = [
        "10.0.0.0/24",
        "10.0.1.0/24",
        "fd00::/64",
        "fd00:0:0:1::/64",
        "0.0.0.0/24",
        "0.0.0.0/24",
        "::/64",
    ]

    validate_ipam([IpamConfig(subnet=subnet) for subnet in subnets], ipv4=True, ipv6=True)


def test_subnets_of_a_family_that_is_off_are_not_looked_at() -> None:
    bad4, bad6 = IpamConfig(subnet="10.0.0.1/8"), IpamConfig(subnet="fd00::1/64")

    assert faults(bad4, bad6, ipv6=False) == ["invalid subnet 10.0.0.1/8: it should be 10.0.0.0/8"]
    assert faults(bad4, bad6, ipv4=False) == ["invalid subnet fd00::1/64: it should be fd00::/64"]


@pytest.fixture
def network() -> Network:
    subnets = ("10.0.0.0/24", "10.0.1.0/24", "fd00::/64")
    pools = tuple(Pool(pool_id=subnet, subnet=subnet) for subnet in subnets)
    return Network(
        id="n" * 64, name="front", driver="bridge", created="", state=NetworkState.ACTIVE, pools=pools
    )


@pytest.mark.parametrize(
    ("ipv4", "ipv6"), [("", ""), ("10.0.1.9", ""), ("", "fd00::9"), ("10.0.0.9", "fd00::9")]
)
def test_endpoint_addresses_inside_a_subnet_are_accepted(network: Network, ipv4: str, ipv6: str) -> None:
    validate_endpoint_addresses(network, ipv4, ipv6)


@pytest.mark.parametrize(
    ("ipv4", "ipv6", "fault"),
    [
        ("10.0.0", "", " invalid IPv4 address: 10.0.0"),
        ("10.0.0.1/24", "", " invalid IPv4 address: 10.0.0.1/24"),
        ("fd00::1", "", " invalid IPv4 address: fd00::1"),
        ("0.0.0.0", "", " invalid IPv4 address: 0.0.0.0"),
        ("", "10.0.0.1", " invalid IPv6 address: 10.0.0.1"),
        ("", "fd00::1%eth0", " invalid IPv6 address: fd00::1%eth0"),
        ("", "::ffff:10.0.0.1", " invalid IPv6 address: ::ffff:10.0.0.1"),
        ("10.0.2.1", "", " no configured subnet contains IP address 10.0.2.1"),
        ("", "fd01::1", " no configured subnet contains IP address fd01::1"),
        (
            "x",
            "fd01::1",
            " invalid IPv4 address: x; no configured subnet contains IP address fd01::1",
        ),
    ],
)
def test_wrong_endpoint_addresses_are_refused_by_name(
    network: Network, ipv4: str, ipv6: str, fault: str
) -> None:
    with pytest.raises(InvalidParameter) as raised:
        validate_endpoint_addresses(network, ipv4, ipv6)

    assert str(raised.value) == f"invalid config for network front:{fault}"
