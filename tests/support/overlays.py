"""What a driver of overlay networks wants of the kernel, for tests and measurements: its namespace on one host."""

from __future__ import annotations

from typing import Any

from cnm.kernel.state import (
    Address,
    Group,
    KernelState,
    Link,
    LinkKind,
    Peer,
    RemotePeer,
    Sysctl,
    Vxlan,
)

BRIDGE, DEVICE = "br0", "vx42"
VNI = 42
MTU = 1450


def bridge(mtu: int = MTU) -> Link:
    return Link(BRIDGE, LinkKind.BRIDGE, "02:42:00:00:00:01", mtu, alias="cnm:network:1", group=Group.BRIDGE)


def device(mtu: int = MTU, **tunnel: Any) -> Link:
    """The VXLAN device; `tunnel` are fields of its `Vxlan` that differ."""
    vxlan = Vxlan(**({"vni": VNI, "local": "192.0.2.1"} | tunnel))
    return Link(
        DEVICE, LinkKind.VXLAN, "02:42:00:00:00:02", mtu, master=BRIDGE, alias="cnm:network:1",
        group=Group.SEGMENT, vxlan=vxlan,
    )  # fmt: skip


def mac(number: int) -> str:
    return f"02:42:0a:{number >> 16 & 255:02x}:{number >> 8 & 255:02x}:{number & 255:02x}"


def port(number: int, sandbox: str, mtu: int = MTU, ifname: str = "eth0") -> Link:
    """The network's end of a pair."""
    peer = Peer(sandbox, ifname, mac(number), mtu)
    return Link(
        f"cv{number}", LinkKind.VETH, f"06:42:00:00:{number >> 8:02x}:{number & 255:02x}", mtu,
        master=BRIDGE, alias=f"cnm:endpoint:{number}", group=Group.PORT, peer=peer,
    )  # fmt: skip


def network(namespace: str, *links: Link, mtu: int = MTU, **tunnel: Any) -> KernelState:
    return KernelState(namespace=namespace, own=True, links=(bridge(mtu), device(mtu, **tunnel), *links))


def addresses(number: int) -> tuple[str, str]:
    return f"10.{64 + (number >> 16)}.{number >> 8 & 255}.{number & 255}", f"fd42::{number:x}"


def inside(sandbox: str, number: int, mtu: int = MTU, ifname: str = "eth0") -> KernelState:
    """The sandbox's end of `port`, in the one subnet of each family."""
    ipv4, ipv6 = addresses(number)
    return KernelState(
        namespace=sandbox,
        links=(Link(ifname, LinkKind.VETH, mac(number), mtu),),
        addresses=(Address(ifname, f"{ipv4}/8"), Address(ifname, f"{ipv6}/64")),
        sysctls=(Sysctl(f"net/ipv6/conf/{ifname}/disable_ipv6", "0"),),
    )


def peer(number: int, vtep: str, families: int = 2) -> RemotePeer:
    return RemotePeer(mac(number), vtep, addresses(number)[:families])
