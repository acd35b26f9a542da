"""What a kernel can do for those above: the real one and the fake one keep this contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from socket import AddressFamily, SocketKind, socket
from typing import NamedTuple, Protocol

from cnm.kernel.name_sockets import NameSockets
from cnm.kernel.state import Finding, FirewallElement, KernelState, ObservedPeers, RemotePeer


class Uplink(NamedTuple):
    """The interface that carries the host's default route; `mtu` in bytes."""

    name: str
    mtu: int


class PublishedPort(NamedTuple):
    """A published port; `protocol` "tcp", "udp" or "sctp", `host_port` 0 where none is bound."""

    protocol: str
    container_port: int
    host_port: int
    host_address: str


class Echo(NamedTuple):
    """An echo request to a bare address; `size` bytes with its IP header, in one piece on its way out of this host."""

    address: str
    size: int


class Port(NamedTuple):
    """A TCP port at a bare address."""

    address: str
    port: int


class Kernel(Protocol):
    """Mechanism: makes states so. Verbs are idempotent; one that fails may have done a part: `remove` undoes it."""

    def apply(self, states: Sequence[KernelState]) -> None:
        """Make everything in `states` exist; the host's state comes before those of sandboxes.

        Raises Conflict when a name is taken by something that is not ours, KernelError when the kernel refuses.
        """

    def remove(self, states: Sequence[KernelState], wait: bool = False) -> None:
        """Take everything in `states` away; what is missing or not ours is left alone.

        Traffic is cut when this returns; links vanish shortly after, or before it returns with `wait`.
        """

    def observe(self, states: Sequence[KernelState]) -> tuple[KernelState, ...]:
        """What exists now in the namespaces of `states`, and anywhere on the host with our mark."""

    def repair(self, findings: Sequence[Finding]) -> None:
        """Make what is missing or changed as wanted, and remove what is ours and unwanted."""

    def program_peers(
        self, namespace: str, link: str, added: Sequence[RemotePeer], removed: Sequence[RemotePeer]
    ) -> None:
        """Write the remote endpoints of a VXLAN device: for each one forwarding entry, its own and its bridge's, and a
        permanent neighbour for each address.

        What is there is replaced: an endpoint that moved to another host is only `added`. `removed` are as they were
        added, or as `observe_peers` has them; what is gone already is fine, and what is in both stays. Raises
        KernelError that names the first entry that was refused, when all others are done, and NotFound where there is
        no namespace.
        """

    def flood(self, namespace: str, link: str, added: Sequence[str], removed: Sequence[str]) -> None:
        """Have a VXLAN device copy broadcast and multicast packets to these VTEPs, or to some no more."""

    def observe_peers(self, namespace: str, link: str) -> ObservedPeers:
        """The remote endpoints that a VXLAN device has entries for; others' and learned ones are left out.

        Raises NotFound where there is no namespace, KernelError where there is no such link.
        """

    def announce(self, namespace: str, link: str, holders: Sequence[tuple[str, str]]) -> None:
        """Tell everybody on a link who has which address now: (bare address, MAC). Raises NotFound, KernelError."""

    def echo(self, namespace: str, asked: Sequence[Echo], seconds: float) -> list[float | None]:
        """Ask all at once; the seconds that each answer took, None where none came within `seconds`.

        Raises NotFound where there is no namespace.
        """

    def knock(self, namespace: str, asked: Sequence[Port], seconds: float) -> list[int]:
        """Connect to all at once; 0 for each that took the connection, else the errno, ETIMEDOUT after `seconds`."""

    def start_firewall(self, elements: Sequence[FirewallElement]) -> None:
        """Rewrite our tables with exactly `elements`, in one transaction."""

    def create_namespace(self, path: str, *, bridged: bool = False) -> None:
        """A namespace at `path`, its loopback up. Raises Conflict when something stands there.

        In a sandbox's, links have no IPv6 until it is switched on. A `bridged` one is for a network: its links have
        IPv6, for neighbour entries, but no addresses that they make themselves, and bridged frames pass no firewall.
        """

    def remove_namespace(self, path: str) -> None: ...

    def namespace_alive(self, path: str) -> bool: ...

    def namespace_identity(self, path: str) -> tuple[int, int] | None:
        """What two paths of one namespace have in common; None where there is no network namespace."""

    def interface_names(self, namespace: str) -> frozenset[str]: ...

    def has_ipv6(self, namespace: str) -> bool:
        """Whether IPv6 is on at the loopback of the namespace; where there is none, nothing speaks against it."""

    def host_interfaces(self) -> Mapping[str, int]:
        """The host's interfaces that are neither loopbacks nor ours: MTUs in bytes by name."""

    def uplink(self) -> Uplink | None: ...

    def holder(self, address: str) -> Uplink | None:
        """The host's interface that has this bare address, None where none has."""

    def source_towards(self, namespace: str, address: str) -> str:
        """The address that this namespace would send to a bare address from, "" where no route leads there. Raises
        NotFound where there is no namespace."""

    def uplink_addresses(self) -> tuple[str, ...]:
        """The host's own address on its way out, of each family that has one: IPv4's first."""

    def on_link_routes(self) -> tuple[str, ...]:
        """CIDR texts of the IPv4 networks that the host itself is on."""

    def sysctl(self, key: str) -> str | None:
        """A value of the host's namespace, None where this kernel lacks the key."""

    def forget_flows(self, addresses: Sequence[str]) -> None:
        """Forget the flows to and from these departed containers (bare addresses), soon."""

    def settle_flows(self, addresses: Sequence[str]) -> None:
        """Return when nothing is left to forget of these addresses: before somebody else gets one."""

    def flush_ports(self, ipv4: str, ipv6: str, ports: Sequence[PublishedPort]) -> None:
        """Forget the flows to published ports of a container (bare addresses, "" for none)."""

    def flush_udp(self, ports: Sequence[PublishedPort]) -> None:
        """Forget UDP flows to host ports that were just published: they go on to the host's own socket else."""

    def broken_tables(self) -> Sequence[tuple[str, str]]:
        """(family, name) of our tables whose sets, chains or rules are missing or changed."""

    def open_name_sockets(self, namespace: str) -> NameSockets:
        """A name server's sockets in a sandbox, at the address that its port 53 is led to. The caller owns them.

        Raises NotFound where there is no namespace.
        """

    def open_host_name_sockets(self, address: str) -> NameSockets:
        """A name server's sockets on the host, at port 53 of a bare address. The caller owns them."""

    def names_led_to(self, namespace: str) -> tuple[int, int] | None:
        """The ports (UDP, TCP) that port 53 of the name server's address leads to; None where that is not whole."""

    def lead_names(self, namespace: str, ports: tuple[int, int]) -> None: ...

    def mislead_names(self, namespace: str) -> None:
        """Port 53 leads nowhere any more; nothing to undo is fine. Raises NotFound where there is no namespace."""

    def open_asking_sockets(
        self, namespace: str, wanted: Sequence[tuple[AddressFamily, SocketKind]]
    ) -> list[socket]:
        """Sockets to ask others from inside a sandbox, one of each sort that is `wanted`. The caller owns them."""

    def is_in(self, namespace: str, one: socket) -> bool:
        """Whether a socket is of the namespace that is at this path now."""

    def close(self) -> None: ...
