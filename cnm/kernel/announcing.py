"""Says on a link who has an address now, to those who remember another MAC: gratuitous ARP, unsolicited neighbour
advertisements (RFC 5227 section 3, RFC 4861 section 7.2.6).

ARP goes as a reply: a VXLAN device that answers requests itself takes no notice of it. Linux takes a reply for
gratuitous only where the sender's MAC is the target's as well (arp_is_garp of net/ipv4/arp.c); any other does not
change an entry that is younger than a second.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable

from cnm.kernel.link_messages import mac_bytes
from cnm.kernel.namespaces import Namespaces

_ETH_P_ARP = 0x0806
_ETH_P_IPV6 = 0x86DD
_BROADCAST = b"\xff" * 6
_ALL_NODES = socket.inet_pton(socket.AF_INET6, "ff02::1")
_ALL_NODES_MAC = bytes.fromhex("333300000001")
_ARP_REPLY = 2
_NEIGHBOR_ADVERTISEMENT = 136
_OVERRIDE = 0x20000000
_TARGET_LINK_ADDRESS = 2
_IPPROTO_ICMPV6 = 58


def announce(namespaces: Namespaces, namespace: str, link: str, holders: Iterable[tuple[str, str]]) -> None:
    """Send, from `link` to all of its segment, who has which address: (bare address, MAC)."""
    with namespaces.inside(namespace), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
        sender.bind((link, 0))
        for address, mac in holders:
            sender.send(frame(address, mac))


def frame(address: str, mac: str) -> bytes:
    """The Ethernet frame that says that `address` is at `mac`."""
    return _ipv6(address, mac) if ":" in address else _ipv4(address, mac)


def _ipv4(address: str, mac: str) -> bytes:
    hardware, protocol = mac_bytes(mac), socket.inet_aton(address)
    header = struct.pack("!6s6sH", _BROADCAST, hardware, _ETH_P_ARP)
    fixed = struct.pack("!HHBBH", 1, 0x0800, 6, 4, _ARP_REPLY)
    return header + fixed + hardware + protocol + hardware + protocol


def _ipv6(address: str, mac: str) -> bytes:
    hardware, source = mac_bytes(mac), socket.inet_pton(socket.AF_INET6, address)
    option = struct.pack("!BB6s", _TARGET_LINK_ADDRESS, 1, hardware)

    def message(checksum: int) -> bytes:
        return struct.pack("!BBHI", _NEIGHBOR_ADVERTISEMENT, 0, checksum, _OVERRIDE) + source + option

    bare = message(0)
    pseudo = source + _ALL_NODES + struct.pack("!I3xB", len(bare), _IPPROTO_ICMPV6)
    body = message(_checksum(pseudo + bare))
    ethernet = struct.pack("!6s6sH", _ALL_NODES_MAC, hardware, _ETH_P_IPV6)
    header = struct.pack("!IHBB", 6 << 28, len(body), _IPPROTO_ICMPV6, 255) + source + _ALL_NODES
    return ethernet + header + body


def _checksum(data: bytes) -> int:
    """RFC 1071, of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
