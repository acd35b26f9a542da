"""What networks, endpoints, published ports and the host want from the firewall, as elements of its sets."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable, Iterator

from cnm.endpoint import PortMapping
from cnm.errors import InvalidParameter
from cnm.firewall import sets
from cnm.firewall.modes import GatewayMode
from cnm.kernel.state import ElementSet, FirewallElement

_ANY_IPV4 = "0.0.0.0"
_ANY_IPV6 = "::"

_CHAINS = {
    GatewayMode.NAT: ("from_nat", "to_nat"),
    GatewayMode.NAT_UNPROTECTED: ("from_nat", "to_open"),
    GatewayMode.ROUTED: ("from_nat", "to_routed"),
    GatewayMode.ISOLATED: ("from_internal", "to_internal"),
    GatewayMode.INTERNAL: ("from_internal", "to_internal"),
}
_UNSAFE_NAME = re.compile(r'["\\*]')


def network_elements(
    bridge: str,
    *,
    mode_ipv4: GatewayMode | None,
    mode_ipv6: GatewayMode | None,
    icc: bool,
    masquerade: bool,
    host_ipv4: str = "",
    host_ipv6: str = "",
    trusted: Iterable[str] = (),
) -> tuple[FirewallElement, ...]:
    """What lets packets to and from `bridge` pass, as the modes say; None for a family that the network lacks.

    `host_ipv4` and `host_ipv6` are bare addresses that containers leave with, "" for that of the uplink. Raises
    InvalidParameter for an interface name that nft(8) would read as a pattern.
    """
    _check_name(bridge)
    elements = [FirewallElement(sets.SAME, (bridge, bridge))]
    if icc:
        elements.append(FirewallElement(sets.ICC, (bridge, bridge)))
    for family, mode, host, snat in (
        ("ipv4", mode_ipv4, host_ipv4, sets.SNAT4),
        ("ipv6", mode_ipv6, host_ipv6, sets.SNAT6),
    ):
        if mode is None:
            continue
        coming, going = _CHAINS[mode]
        elements.append(FirewallElement(sets.FROM, (family, bridge), (f"goto {coming}",)))
        elements.append(FirewallElement(sets.TO, (family, bridge), (f"goto {going}",)))
        if masquerade and mode.translates:
            masq = FirewallElement(sets.MASQ, (family, bridge))
            elements.append(FirewallElement(snat, (bridge,), (host,)) if host else masq)
    for interface in trusted:
        _check_name(interface)
        elements.append(FirewallElement(sets.TRUSTED, (interface, bridge)))
    return tuple(elements)


def attach_elements(
    port: str,
    *,
    mac: str,
    ipv4: str,
    ipv6: str,
    guard: bool,
    mode_ipv4: GatewayMode | None,
    mode_ipv6: GatewayMode | None,
) -> tuple[FirewallElement, ...]:
    """What lets the endpoint behind bridge port `port` send: as itself, or as anybody with `guard` off.

    `mac` has colons, `ipv4` and `ipv6` are bare addresses, "" for none.
    """
    elements = [FirewallElement(sets.PORTS, (port,), ("goto guard" if guard else "accept",))]
    if guard:
        elements += _guard(port, mac, ipv4, ipv6)
    if ipv4 and mode_ipv4 is not None and mode_ipv4.translates:
        elements.append(FirewallElement(sets.SELF4, (ipv4, ipv4)))
    if ipv6 and mode_ipv6 is not None and mode_ipv6.translates:
        elements.append(FirewallElement(sets.SELF6, (ipv6, ipv6)))
    return tuple(elements)


def publish_elements(
    ports: Iterable[PortMapping],
    *,
    ipv4: str,
    ipv6: str,
    mode_ipv4: GatewayMode | None,
    mode_ipv6: GatewayMode | None,
) -> tuple[FirewallElement, ...]:
    """What makes `ports` of the container with these bare addresses ("" for none) reachable.

    Modes that translate: the host's port, in the families that both the container and the host address have. Routed:
    the container's own port. Internal, isolated: nothing.
    """
    elements: list[FirewallElement] = []
    for mapping in ports:
        host_address = _canonical(mapping.host_address)
        if ipv4 and mode_ipv4 is not None and ":" not in host_address:
            every = host_address in ("", _ANY_IPV4)
            target = sets.PUBLISH_ANY4 if every else sets.PUBLISH4
            elements += _published(
                mapping, () if every else (host_address,), ipv4, mode_ipv4, target, sets.OPEN4
            )
        if ipv6 and mode_ipv6 is not None and (not host_address or ":" in host_address):
            every = host_address in ("", _ANY_IPV6)
            target = sets.PUBLISH_ANY6 if every else sets.PUBLISH6
            elements += _published(
                mapping, () if every else (host_address,), ipv6, mode_ipv6, target, sets.OPEN6
            )
    return tuple(elements)


def host_elements(
    *, routing_ipv4: bool, routing_ipv6: bool, bridge_nf_ipv6: bool
) -> tuple[FirewallElement, ...]:
    """What the rules must know of the host.

    `routing_*`: it forwarded before we switched anything on, or its administrator wants it to; `bridge_nf_ipv6`:
    br_netfilter sees IPv6 (net.bridge.bridge-nf-call-ip6tables).
    """
    elements = []
    if routing_ipv4:
        elements.append(FirewallElement(sets.ROUTING, ("ipv4",)))
    if routing_ipv6:
        elements.append(FirewallElement(sets.ROUTING, ("ipv6",)))
    if not bridge_nf_ipv6:
        elements.append(FirewallElement(sets.LOOPBACK_NAT, ("ipv6",)))
    return tuple(elements)


def overlay_elements(
    vnis: Iterable[int], encrypted: Iterable[int], nodes: Iterable[str], port: int
) -> tuple[FirewallElement, ...]:
    """What the rules must know of a cluster, while this host has networks of it.

    `vnis` are those of all its networks that are here, `encrypted` those among them that never travel in the clear;
    `nodes` are the bare addresses that its nodes send VXLAN from, to UDP port `port`. None of the cluster's networks
    here: no elements, and whatever else the host uses VXLAN for is untouched.
    """
    ours, secret = frozenset(vnis), frozenset(encrypted)
    ours |= secret
    if not ours:
        return ()
    elements = [FirewallElement(sets.OVERLAY_VNIS, (port, vni)) for vni in sorted(ours)]
    elements += [FirewallElement(sets.ENCRYPTED_VNIS, (port, vni)) for vni in sorted(secret)]
    elements += [FirewallElement(sets.CLEAR_VNIS, (port, vni)) for vni in sorted(ours - secret)]
    for address in dict.fromkeys(map(_canonical, nodes)):
        elements.append(FirewallElement(sets.NODES6 if ":" in address else sets.NODES4, (address,)))
    return tuple(elements)


def link_local(mac: str) -> str:
    """The link-local address that Linux derives from a MAC (RFC 4291, modified EUI-64)."""
    octets = bytes.fromhex(mac.replace(":", ""))
    identifier = bytes((octets[0] ^ 0x02,)) + octets[1:3] + b"\xff\xfe" + octets[3:]
    return str(ipaddress.IPv6Address(b"\xfe\x80" + bytes(6) + identifier))


def _guard(port: str, mac: str, ipv4: str, ipv6: str) -> Iterator[FirewallElement]:
    """Also 0.0.0.0 for ARP probes (RFC 5227) and :: for duplicate address detection (RFC 4862)."""
    if ipv4:
        yield FirewallElement(sets.GUARD4, (port, mac, ipv4))
        yield FirewallElement(sets.GUARD4, (port, mac, _ANY_IPV4))
    if ipv6:
        own = link_local(mac)
        for address in (ipv6, own, _ANY_IPV6):
            yield FirewallElement(sets.GUARD6, (port, mac, address))
        for address in (ipv6, own):
            yield FirewallElement(sets.GUARD_NA, (port, mac, address))


def _published(
    mapping: PortMapping,
    host_address: tuple[str, ...],
    address: str,
    mode: GatewayMode,
    target: ElementSet,
    opened: ElementSet,
) -> Iterator[FirewallElement]:
    """Of one family. `target` is keyed by `host_address` too, unless that is empty."""
    if mode in (GatewayMode.INTERNAL, GatewayMode.ISOLATED):
        return
    protocol = mapping.protocol.value
    container_ports = range(mapping.container_port, mapping.container_port + mapping.count)
    for container_port in container_ports:
        yield FirewallElement(opened, (address, protocol, container_port))
    if not mode.translates or not mapping.host_port:
        return
    for host_port, container_port in enumerate(container_ports, mapping.host_port):
        yield FirewallElement(target, (*host_address, protocol, host_port), (address, container_port))


def _canonical(address: str) -> str:
    """As it is read back from the kernel, or a comparison would find a difference."""
    if not address:
        return ""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.inet_ntop(family, socket.inet_pton(family, address))


def _check_name(interface: str) -> None:
    if _UNSAFE_NAME.search(interface):
        raise InvalidParameter(f"interface name {interface} has a character that firewall rules cannot hold")
