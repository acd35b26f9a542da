"""The elements that networks, endpoints and ports want, as values."""

from __future__ import annotations

import pytest

from cnm.endpoint import PortMapping, Protocol
from cnm.errors import InvalidParameter
from cnm.firewall import sets
from cnm.firewall.elements import (
    attach_elements,
    host_elements,
    link_local,
    network_elements,
    overlay_elements,
    publish_elements,
)
from cnm.firewall.modes import GatewayMode
from cnm.kernel.state import FirewallElement

NAT, ROUTED, OPEN = GatewayMode.NAT, GatewayMode.ROUTED, GatewayMode.NAT_UNPROTECTED
INTERNAL, ISOLATED = GatewayMode.INTERNAL, GatewayMode.ISOLATED
MAC = "02:42:0a:00:00:02"


def network(
    mode_ipv4: GatewayMode | None = NAT, mode_ipv6: GatewayMode | None = None, **more: object
) -> set[FirewallElement]:
    options = {"icc": True, "masquerade": True, **more}
    return set(network_elements("br", mode_ipv4=mode_ipv4, mode_ipv6=mode_ipv6, **options))  # type: ignore[arg-type]


def published(
    mapping: PortMapping, mode: GatewayMode | None = NAT, ipv6: str = "fd00::2"
) -> set[FirewallElement]:
    return set(publish_elements([mapping], ipv4="10.0.0.2", ipv6=ipv6, mode_ipv4=mode, mode_ipv6=mode))


def tcp(container: int, host: int = 0, address: str = "", count: int = 1) -> PortMapping:
    return PortMapping(
        protocol=Protocol.TCP, container_port=container, host_port=host, host_address=address, count=count
    )


def of(elements: set[FirewallElement], *names: str) -> set[tuple[object, ...]]:
    return {(*e.key, *e.value) for e in elements if e.set.name in names}


@pytest.mark.parametrize(
    ("mode", "coming", "going"),
    [
        (NAT, "from_nat", "to_nat"),
        (ROUTED, "from_nat", "to_routed"),
        (OPEN, "from_nat", "to_open"),
        (INTERNAL, "from_internal", "to_internal"),
        (ISOLATED, "from_internal", "to_internal"),
    ],
)
def test_each_mode_has_its_chains(mode: GatewayMode, coming: str, going: str) -> None:
    elements = network(mode)

    assert of(elements, "from") == {("ipv4", "br", f"goto {coming}")}
    assert of(elements, "to") == {("ipv4", "br", f"goto {going}")}


def test_families_have_modes_of_their_own() -> None:
    elements = network(NAT, ROUTED)

    assert of(elements, "to") == {("ipv4", "br", "goto to_nat"), ("ipv6", "br", "goto to_routed")}
    assert of(elements, "masq") == {("ipv4", "br")}


def test_icc_is_an_element_and_sameness_always_is() -> None:
    assert of(network(icc=True), "icc") == of(network(icc=False), "same") == {("br", "br")}
    assert of(network(icc=False), "icc") == set()


@pytest.mark.parametrize("mode", [ROUTED, INTERNAL, ISOLATED])
def test_modes_without_translation_never_masquerade(mode: GatewayMode) -> None:
    assert of(network(mode, host_ipv4="192.0.2.7"), "masq", "snat4") == set()


def test_a_given_host_address_takes_the_place_of_masquerade() -> None:
    elements = network(NAT, NAT, host_ipv4="192.0.2.7")

    assert of(elements, "snat4") == {("br", "192.0.2.7")}
    assert of(elements, "masq") == {("ipv6", "br")}


def test_masquerade_off_means_no_translation_at_all() -> None:
    assert of(network(NAT, NAT, masquerade=False, host_ipv4="192.0.2.7"), "masq", "snat4", "snat6") == set()


def test_trusted_interfaces_are_pairs_with_the_bridge() -> None:
    assert of(network(trusted=("eth0", "eth1")), "trusted") == {("eth0", "br"), ("eth1", "br")}


@pytest.mark.parametrize("name", ['a"b', "a*", "a\\b"])
def test_names_that_a_script_cannot_hold_are_refused(name: str) -> None:
    with pytest.raises(InvalidParameter, match="has a character"):
        network(trusted=(name,))


def attached(ipv4: str, ipv6: str, *, guard: bool = True, mode: GatewayMode = NAT) -> set[FirewallElement]:
    return set(
        attach_elements("cv1", mac=MAC, ipv4=ipv4, ipv6=ipv6, guard=guard, mode_ipv4=mode, mode_ipv6=mode)
    )


def test_a_guarded_port_sends_as_itself_and_probes_for_duplicates() -> None:
    elements = attached("10.0.0.2", "fd00::2")

    assert of(elements, "ports") == {("cv1", "goto guard")}
    assert of(elements, "guard4") == {("cv1", MAC, "10.0.0.2"), ("cv1", MAC, "0.0.0.0")}
    link = "fe80::42:aff:fe00:2"
    assert of(elements, "guard6") == {("cv1", MAC, "fd00::2"), ("cv1", MAC, link), ("cv1", MAC, "::")}
    assert of(elements, "guard_na") == {("cv1", MAC, "fd00::2"), ("cv1", MAC, link)}


def test_a_guarded_port_sends_nothing_of_a_family_that_it_lacks() -> None:
    assert of(attached("10.0.0.2", ""), "guard6", "guard_na", "self6") == set()
    assert of(attached("", "fd00::2"), "guard4", "self4") == set()


def test_an_unguarded_port_is_accepted_as_a_whole() -> None:
    elements = attached("10.0.0.2", "fd00::2", guard=False)

    assert of(elements, "ports") == {("cv1", "accept")}
    assert of(elements, "guard4", "guard6", "guard_na") == set()


def test_only_translated_containers_reach_themselves_through_the_host() -> None:
    assert of(attached("10.0.0.2", "fd00::2"), "self4", "self6") == {
        ("10.0.0.2", "10.0.0.2"),
        ("fd00::2", "fd00::2"),
    }
    assert of(attached("10.0.0.2", "fd00::2", mode=ROUTED), "self4", "self6") == set()


@pytest.mark.parametrize("mode", [NAT, OPEN])
def test_a_port_on_every_address_is_published_in_both_families(mode: GatewayMode) -> None:
    elements = published(tcp(80, 8080), mode)

    assert of(elements, "publish_any4") == {("tcp", 8080, "10.0.0.2", 80)}
    assert of(elements, "publish_any6") == {("tcp", 8080, "fd00::2", 80)}
    assert of(elements, "open4", "open6") == {("10.0.0.2", "tcp", 80), ("fd00::2", "tcp", 80)}


@pytest.mark.parametrize(
    ("address", "name", "key"),
    [
        ("0.0.0.0", "publish_any4", ("tcp", 8080)),
        ("127.0.0.1", "publish4", ("127.0.0.1", "tcp", 8080)),
        ("::", "publish_any6", ("tcp", 8080)),
        ("::1", "publish6", ("::1", "tcp", 8080)),
        ("2001:DB8:0:0::1", "publish6", ("2001:db8::1", "tcp", 8080)),
    ],
)
def test_a_host_address_limits_a_port_to_its_family(address: str, name: str, key: tuple[object, ...]) -> None:
    elements = published(tcp(80, 8080, address))

    assert [(e.set.name, e.key) for e in elements if e.set.name.startswith("publish")] == [(name, key)]
    assert {e.set.name for e in elements} == {name, "open4" if name.endswith("4") else "open6"}


def test_a_port_of_a_container_without_ipv6_is_published_by_ipv4_only() -> None:
    assert of(published(tcp(80, 8080), ipv6=""), "publish_any6", "open6") == set()
    assert published(tcp(80, 8080, "::1"), ipv6="") == set()


def test_routed_containers_have_their_own_port_opened_and_none_of_the_host() -> None:
    assert published(tcp(80, 8080), ROUTED) == {
        FirewallElement(sets.OPEN4, ("10.0.0.2", "tcp", 80)),
        FirewallElement(sets.OPEN6, ("fd00::2", "tcp", 80)),
    }


@pytest.mark.parametrize("mode", [INTERNAL, ISOLATED, None])
def test_nothing_is_published_where_nothing_enters(mode: GatewayMode | None) -> None:
    assert published(tcp(80, 8080), mode) == set()


def test_a_range_is_an_element_a_port() -> None:
    elements = published(tcp(80, 8080, count=3), ipv6="")

    assert of(elements, "publish_any4") == {("tcp", 8080 + n, "10.0.0.2", 80 + n) for n in range(3)}
    assert of(elements, "open4") == {("10.0.0.2", "tcp", 80 + n) for n in range(3)}


def test_the_host_says_what_it_forwarded_before_and_whether_ipv6_loopback_is_translated() -> None:
    assert host_elements(routing_ipv4=False, routing_ipv6=False, bridge_nf_ipv6=True) == ()
    assert host_elements(routing_ipv4=True, routing_ipv6=True, bridge_nf_ipv6=False) == (
        FirewallElement(sets.ROUTING, ("ipv4",)),
        FirewallElement(sets.ROUTING, ("ipv6",)),
        FirewallElement(sets.LOOPBACK_NAT, ("ipv6",)),
    )


def test_the_link_local_address_of_a_mac_has_its_universal_bit_turned() -> None:
    assert link_local("02:42:0a:00:00:02") == "fe80::42:aff:fe00:2"
    assert link_local("00:00:00:00:00:01") == "fe80::200:ff:fe00:1"


def test_every_vni_of_ours_is_in_two_sets_so_that_none_opens_when_one_is_lost() -> None:
    elements = set(overlay_elements([10, 13], [13], [], 4789))

    assert of(elements, "overlay_vnis") == {(4789, 10), (4789, 13)}
    assert of(elements, "clear_vnis") == {(4789, 10)}
    assert of(elements, "encrypted_vnis") == {(4789, 13)}


def test_nodes_are_told_apart_by_family_and_written_as_the_kernel_does() -> None:
    elements = set(overlay_elements([10], [], ["192.0.2.1", "2001:DB8:0::1", "2001:db8::1"], 8472))

    assert of(elements, "nodes4") == {("192.0.2.1",)}
    assert of(elements, "nodes6") == {("2001:db8::1",)}
    assert of(elements, "clear_vnis") == {(8472, 10)}


def test_without_networks_of_a_cluster_nothing_is_wanted() -> None:
    assert overlay_elements([], [], ["192.0.2.1"], 4789) == ()
