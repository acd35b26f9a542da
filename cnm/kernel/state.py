"""Kernel state as data: what must exist in one network namespace, as values that compare.

A driver returns these records; `cnm.kernel.apply` makes them so, `remove` undoes them, `observe` reads what
exists and `diff` compares. Addresses are text ("192.0.2.1/24" with a prefix where one belongs), MACs are lower
case with colons, MTUs are bytes, names are interface names of at most 15 bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import NamedTuple

HOST = ""
"""The namespace that the daemon was started in."""


class Group(IntEnum):
    """Device groups (IFLA_GROUP) that mark our links; the firewall's constant rules match them.

    The numbers are arbitrary but fixed: "cnm" in ASCII (0x636e6d) followed by the use.
    """

    NONE = 0
    BRIDGE = 0x636E6D01
    """Every bridge of ours: what the `inet cnm` table closes by default."""
    PORT = 0x636E6D02
    """Every bridge port of ours (host end of a veth pair): what the `bridge cnm` table closes by default."""
    SUB_INTERFACE = 0x636E6D03
    """What is no bridge and no port of one: sub-interfaces in sandboxes (given at creation, so that one whose maker was
    killed before it could mark it is known for ours), and on the host the VLANs and dummies that we made for them."""
    MOVED = 0x636E6D04
    """Links that were made for another program, which moves them away."""
    TUNNEL = 0x636E6D05
    """Links that encrypt: what the cluster's rules let encrypted networks' packets through by."""
    SEGMENT = 0x636E6D06
    """VXLAN devices in networks' namespaces, given at creation: one whose maker was killed is known for ours by it."""
    LEFT = 0x636E6D0E
    """Links that are cut off already, whose other end another program takes away before they are deleted."""
    REAP = 0x636E6D0F
    """Links that are cut off already and wait for the reaper."""


class LinkKind(Enum):
    """IFLA_INFO_KIND of the links that we make, and the two that are only ever found."""

    BRIDGE = "bridge"
    VETH = "veth"
    VXLAN = "vxlan"
    MACVLAN = "macvlan"
    IPVLAN = "ipvlan"
    VLAN = "vlan"
    DUMMY = "dummy"
    WIREGUARD = "wireguard"
    TUN = "tun"
    """A process's own link; ours outlive the process, with their addresses and routes."""
    LOOPBACK = "loopback"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Peer:
    """The other end of a veth pair, made directly in its namespace (moving it later costs 17 ms)."""

    namespace: str
    name: str
    mac: str
    mtu: int = 0
    leaves: bool = False
    """Made for another program (dockerd), which moves and renames it: where it is now is not our affair. A pair of
    which our end is gone is missing, but `repair` never makes it: nobody would take the new one's other end."""


@dataclass(frozen=True, slots=True)
class Vxlan:
    """What is particular to a VXLAN device (RFC 7348). Its packets leave from the host's namespace, wherever itself is;
    it answers ARP and ND from its neighbour entries (proxy)."""

    vni: int
    local: str
    """Address of the host that its packets come from, without prefix length; its family is the underlay's."""
    port: int = 4789
    """UDP port, here and at all peers. A VNI is taken once a port in the host's namespace."""
    learning: bool = False
    """Whether the device, or its bridge port, learns from packets: never with ours."""


@dataclass(frozen=True, slots=True)
class Link:
    """One interface. `peer` is given on the end that creates the pair; the other end is a VETH without one."""

    name: str
    kind: LinkKind
    mac: str = ""
    mtu: int = 0
    """0: the kernel's default."""
    up: bool = True
    master: str = ""
    """Name of the bridge that it is a port of, in the same namespace."""
    alias: str = ""
    """Our mark, `cnm:<kind>:<id>`; a link without it is never touched."""
    group: int = Group.NONE
    peer: Peer | None = None
    isolated: bool = False
    """Bridge port flag: no frames between isolated ports (IFLA_BRPORT_ISOLATED)."""
    hairpin: bool = False
    """Bridge port flag: frames may leave by the port they came from (IFLA_BRPORT_MODE)."""
    parent: str = ""
    """Name of the link of the host's namespace that a macvlan, ipvlan or vlan stands on, wherever itself is."""
    mode: str = ""
    """The kind's own mode in the kernel's words: "bridge", "private", "vepa", "passthru" (macvlan); "l2", "l3" or "l3s"
    and, after a colon, "bridge", "private" or "vepa" (ipvlan: "l2:bridge"); the VLAN's number (vlan)."""
    leaves: bool = False
    """Made for another program (dockerd), which moves and renames it: it may be absent, and nothing is said of it or of
    what it is like now. `repair` never makes it, `remove` deletes it where it is still (or again) here. It gets no
    group: in the namespace that it goes to, this would be the mark of a link that we made there."""
    vxlan: Vxlan | None = None
    """Given for kind VXLAN."""
    taken_from: str = ""
    """Another program's link, of any kind and without our mark: its name in the host's namespace, where it is taken
    from when it is wanted here and given back to, down and under that name, when it is not."""


@dataclass(frozen=True, slots=True)
class Address:
    """An address of a link, as CIDR text; IPv6 ones are added without duplicate address detection."""

    link: str
    address: str


@dataclass(frozen=True, slots=True)
class Route:
    """A route: `destination` CIDR text ("0.0.0.0/0", "::/0" for a default), `via` an address or "" (on-link)."""

    destination: str
    link: str
    via: str = ""
    table: int = 254
    metric: int = 0
    """0: the kernel's default (IPv6: 1024)."""
    local: bool = False
    """RTN_LOCAL: the destination is delivered here (used for ::1 on a bridge)."""


@dataclass(frozen=True, slots=True)
class Neighbor:
    """A permanent neighbour entry (ARP or ND): `address` without prefix length is at `mac`."""

    link: str
    address: str
    mac: str


@dataclass(frozen=True, slots=True)
class FdbEntry:
    """A static forwarding entry of a bridge port or VXLAN device; `remote` is the VTEP for VXLAN."""

    link: str
    mac: str
    remote: str = ""


class RemotePeer(NamedTuple):
    """An endpoint on another host, as a VXLAN device and its bridge know it.

    Not a `Record`: there are tens of thousands, `Kernel.program_peers` writes them and `observe_peers` reads them.
    """

    mac: str
    vtep: str
    """Address of its host's VXLAN device. "" where it is observed and a forwarding entry is missing: the device's, or
    the bridge's, without which the bridge floods what is for it."""
    addresses: tuple[str, ...]
    """Without prefix length, in the kernel's words."""


class ObservedPeers(NamedTuple):
    """What a VXLAN device forwards to. Who compares it while entries change should look twice at what differs."""

    peers: tuple[RemotePeer, ...]
    flood: tuple[str, ...]
    """VTEPs that broadcast and multicast packets are copied to."""


@dataclass(frozen=True, slots=True)
class Sysctl:
    """A value under /proc/sys, key with slashes ("net/ipv4/conf/cnm-x/forwarding"): names may hold dots."""

    key: str
    value: str


class FieldType(Enum):
    """Types of the fields of an element's key or value, named as nft(8) names them, with their size in bytes."""

    IFNAME = "ifname"
    IPV4 = "ipv4_addr"
    IPV6 = "ipv6_addr"
    ETHER = "ether_addr"
    INET_PROTO = "inet_proto"
    INET_SERVICE = "inet_service"
    NF_PROTO = "nf_proto"
    RAW128 = "raw128"
    """16 raw bytes, written as an IPv6 address; nft 1.0.6 needs `typeof @th,64,128` for it."""
    RAW24 = "raw24"
    """3 raw bytes, written as a number: a VNI; nft 1.0.6 needs `typeof @th,96,24` for it."""
    VERDICT = "verdict"


@dataclass(frozen=True, slots=True)
class ElementSet:
    """A set (no `value`) or map of one of our two nft tables, by family "inet" or "bridge"."""

    family: str
    name: str
    key: tuple[FieldType, ...]
    value: tuple[FieldType, ...] = ()

    @property
    def is_map(self) -> bool:
        return bool(self.value)


@dataclass(frozen=True, slots=True)
class FirewallElement:
    """An element of a set or map, fields as text or numbers: "ipv4", "cnm-0123", "192.0.2.1", 80, "goto to_nat"."""

    set: ElementSet
    key: tuple[str | int, ...]
    value: tuple[str | int, ...] = ()


@dataclass(frozen=True, slots=True)
class KernelState:
    """What must exist in one namespace; `namespace` is the path of its file, HOST for the daemon's own."""

    namespace: str = HOST
    links: tuple[Link, ...] = ()
    addresses: tuple[Address, ...] = ()
    routes: tuple[Route, ...] = ()
    neighbors: tuple[Neighbor, ...] = ()
    fdb: tuple[FdbEntry, ...] = ()
    sysctls: tuple[Sysctl, ...] = ()
    elements: tuple[FirewallElement, ...] = ()
    own: bool = False
    """A network's namespace, ours alone: its links are made and marked as the host's are, and whatever carries our mark
    there and is not wanted is an orphan."""


@dataclass(frozen=True, slots=True)
class Namespace:
    """A network namespace kept alive by a bind mount at `path`."""

    path: str


@dataclass(frozen=True, slots=True)
class FirewallTable:
    """One of our nftables tables with its constant chains and rules."""

    family: str
    name: str


@dataclass(frozen=True, slots=True)
class HostPort:
    """A port of the host held by a socket of ours; `address` "" for every address."""

    protocol: str
    address: str
    port: int


@dataclass(frozen=True, slots=True)
class NameServer:
    """Port 53 of `address` in a namespace, led to sockets of ours there."""

    address: str


@dataclass(frozen=True, slots=True)
class SandboxFile:
    """A file that programs in a sandbox see in /etc."""

    path: str


class Problem(Enum):
    """What a finding says of a record."""

    MISSING = "missing"
    CHANGED = "changed"
    FOREIGN = "foreign"
    """Ours by its mark, but nothing wants it: an orphan."""


Record = (
    Namespace
    | Link
    | Address
    | Route
    | Neighbor
    | FdbEntry
    | Sysctl
    | FirewallElement
    | FirewallTable
    | HostPort
    | NameServer
    | SandboxFile
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One difference between what is wanted and what exists, in one namespace."""

    namespace: str
    problem: Problem
    wanted: Record | None = None
    observed: Record | None = None
    detail: str = field(default="", compare=False)
    own: bool = field(default=False, compare=False)
    """Of the namespace: see `KernelState.own`."""
