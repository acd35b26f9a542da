"""Say which packet is meant, by protocol and addresses, in a form that explains itself when none came."""

from __future__ import annotations

from dataclasses import dataclass, fields
from ipaddress import ip_address
from typing import Any

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6, _ICMPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet

_PROTOCOLS: dict[str, type[Packet]] = {
    "arp": ARP,
    "ip": IP,
    "ip6": IPv6,
    "icmp": ICMP,
    "icmp6": _ICMPv6,
    "tcp": TCP,
    "udp": UDP,
}


@dataclass(frozen=True, slots=True)
class Match:
    """A predicate on packets: true for those that have every value given. See `match`."""

    proto: str | None = None
    src: str | None = None
    dst: str | None = None
    sport: int | None = None
    dport: int | None = None
    mac_src: str | None = None
    mac_dst: str | None = None
    vlan: int | None = None
    payload: bytes | None = None

    def __post_init__(self) -> None:
        if self.proto is not None and self.proto not in _PROTOCOLS:
            raise ValueError(f'unknown protocol "{self.proto}"; known are {", ".join(_PROTOCOLS)}')

    def __call__(self, packet: Packet) -> bool:
        return all(_fits(packet, name, value) for name, value in self._given())

    def __str__(self) -> str:
        return ", ".join(f"{name} {value!r}" for name, value in self._given()) or "any packet"

    def _given(self) -> list[tuple[str, Any]]:
        pairs = [(field.name, getattr(self, field.name)) for field in fields(self)]
        return [(name, value) for name, value in pairs if value is not None]


def match(
    proto: str | None = None,
    *,
    src: str | None = None,
    dst: str | None = None,
    sport: int | None = None,
    dport: int | None = None,
    mac_src: str | None = None,
    mac_dst: str | None = None,
    vlan: int | None = None,
    payload: bytes | None = None,
) -> Match:
    """A predicate for `Capture.expect` and its like; what is not given does not matter.

    `proto` is "arp", "ip", "ip6", "icmp", "icmp6", "tcp" or "udp"; `src` and `dst` are addresses of the
    outermost IP header (ARP: of its sender and target); ports are of the outermost TCP or UDP header; `vlan`
    is the outermost tag's id; `payload` is a piece of the frame's bytes.
    """
    return Match(proto, src, dst, sport, dport, mac_src, mac_dst, vlan, payload)


def _fits(packet: Packet, name: str, value: Any) -> bool:
    match name:
        case "proto":
            return any(isinstance(layer, _PROTOCOLS[value]) for layer in _outer_layers(packet))
        case "src" | "dst":
            found = _ip_addresses(packet).get(name)
            return found is not None and ip_address(found) == ip_address(value)
        case "sport" | "dport":
            transport = packet.getlayer(TCP) or packet.getlayer(UDP)
            return transport is not None and getattr(transport, name) == value
        case "mac_src" | "mac_dst":
            frame = packet.getlayer(Ether)
            return frame is not None and str(getattr(frame, name[4:])).lower() == str(value).lower()
        case "vlan":
            tag = packet.getlayer(Dot1Q)
            return tag is not None and tag.vlan == value
        case _:
            return bytes(value) in packet.original


def _outer_layers(packet: Packet) -> list[Packet]:
    """The layers without what an ICMP error quotes, for which scapy has subclasses of the real ones."""
    layers = []
    layer: Packet | None = packet
    while layer and "in ICMP" not in str(layer.name):
        layers.append(layer)
        layer = layer.payload
    return layers


def _ip_addresses(packet: Packet) -> dict[str, str]:
    for kind in (IP, IPv6):
        if (header := packet.getlayer(kind)) is not None:
            return {"src": header.src, "dst": header.dst}
    if (arp := packet.getlayer(ARP)) is not None:
        return {"src": arp.psrc, "dst": arp.pdst}
    return {}
