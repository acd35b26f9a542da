"""A kernel in memory: evaluates the same records under the same rules, for tests without root.

It keeps the contract of `cnm.kernel.contract.Kernel`; the kernel rung of the tests runs the same cases against this
and against the real one.
"""

from __future__ import annotations

import dataclasses
import errno
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from cnm.errors import Conflict, KernelError, NotBuilt, NotFound
from cnm.kernel.contract import Echo, Port, PublishedPort, Uplink
from cnm.kernel.diff import is_another, is_ours, is_ours_alone, is_ours_inside
from cnm.kernel.fake_peers import FakePeers
from cnm.kernel.name_sockets import NameSockets
from cnm.kernel.repair import split_findings
from cnm.kernel.state import (
    HOST,
    Address,
    FdbEntry,
    Finding,
    FirewallElement,
    Group,
    KernelState,
    Link,
    LinkKind,
    Neighbor,
    ObservedPeers,
    Peer,
    Record,
    RemotePeer,
    Route,
    Sysctl,
    Vxlan,
)


@dataclass
class _Space:
    """One namespace."""

    links: dict[str, Link] = field(default_factory=lambda: {"lo": Link("lo", LinkKind.LOOPBACK)})
    records: set[Address | Route | Neighbor | FdbEntry] = field(default_factory=set)
    peers: dict[str, FakePeers] = field(default_factory=dict)
    """By name of a VXLAN device."""
    names_led_to: tuple[int, int] | None = None


_USUAL_MTU, _RTT = 1500, 0.0005
_SOMEWHERE = "a network namespace of another program"


class FakeKernel:
    """`fail_on` makes the next apply of a link of that name fail, as a kernel short of memory would.

    `lacking` are kinds of links that this kernel has not.
    """

    def __init__(
        self, uplink: Uplink | None = None, on_link: Iterable[str] = (), lacking: Iterable[LinkKind] = ()
    ) -> None:
        self.spaces: dict[str, _Space] = {HOST: _Space()}
        self.elements: set[FirewallElement] = set()
        self.sysctls: dict[str, str] = {"net/ipv4/ip_forward": "0", "net/ipv6/conf/lo/force_forwarding": "0"}
        self.flushed: list[str] = []
        self.announced: list[tuple[str, str, str, str]] = []
        """(namespace, link, address, MAC)."""
        self.path_mtus: dict[str, int] = {}
        """Bytes of the biggest packet that gets to an address; 0: none does, and 1,500 to any other."""
        self.sources: dict[str, str] = {}
        """What is sent from a namespace, by its path, comes from this address; from others nothing comes."""
        self.closed: set[Port] = set()
        """Where nobody takes a connection."""
        self.fail_on = ""
        self.lacking = frozenset(lacking)
        self._uplink = uplink
        self._on_link = tuple(on_link)

    def apply(self, states: Sequence[KernelState]) -> None:
        for state in states:
            self.elements.update(state.elements)
        for state in filter(_touches_links, states):
            space = self._space(state.namespace)
            for link in state.links:
                if link.taken_from:
                    self._take(space, state.namespace, link)
                else:
                    self._apply_link(space, state.namespace, link)
            for sysctl in state.sysctls:
                self._set(state.namespace, space, sysctl)
            for record in _on_links(state):
                if record.link not in space.links:
                    raise KernelError(
                        f"interface {record.link} does not exist: cnmctl doctor shows what is missing"
                    )
                self._check_route(space, record)
                space.records.add(record)

    def _apply_link(self, space: _Space, namespace: str, link: Link) -> None:
        if link.name == self.fail_on:
            raise KernelError(f"cannot create interface {link.name}: cannot allocate memory")
        have = space.links.get(link.name)
        if link.parent and namespace != HOST:
            self._apply_inside(space, namespace, link)
            return
        if link.kind is LinkKind.VETH and link.peer is None and namespace != HOST:
            if have is None:
                raise KernelError(
                    f"interface {link.name} does not exist: cnmctl doctor shows what is missing"
                )
            space.links[link.name] = dataclasses.replace(have, mac=link.mac, mtu=link.mtu, up=link.up)
            return
        self._check_parent(link)
        if have is not None and (not is_ours(have) or have.alias != link.alias):
            raise Conflict(
                f"interface {link.name} exists and is not ours: rename or delete it, or choose another name"
            )
        if link.master and link.master not in space.links:
            raise KernelError(f"interface {link.master} does not exist: cnmctl doctor shows what is missing")
        if have is not None and self._is_worthless(link, have):
            self.drop_link(namespace, have)
            have = None
        if link.vxlan:
            self._check_tunnel(namespace, link, link.vxlan)
            space.peers.setdefault(link.name, FakePeers(link.name))
        if link.peer and have is None:
            self._make_other_end(link, link.peer)
        space.links[link.name] = dataclasses.replace(link, group=Group.NONE) if link.leaves else link

    def _make_other_end(self, link: Link, peer: Peer) -> None:
        inside = self._space(peer.namespace)
        if peer.name in inside.links:
            where = peer.namespace or "the host's namespace"
            raise Conflict(f"interface {peer.name} cannot be made in {where}: file exists")
        group = Group.MOVED if peer.leaves else Group.NONE
        inside.links[peer.name] = Link(
            peer.name, LinkKind.VETH, peer.mac, peer.mtu or link.mtu, group=group, up=False
        )

    def _take(self, space: _Space, namespace: str, link: Link) -> None:
        theirs = self.spaces[HOST].links.get(link.taken_from)
        have = space.links.get(link.name)
        if have is not None and theirs is not None:
            raise Conflict(
                f"interface {link.name} exists in {namespace} already: {link.taken_from} cannot have that name"
            )
        if have is None and theirs is None:
            raise KernelError(
                f"interface {link.taken_from} is not in the host's namespace: "
                "the program that owns it did not make it, or took it away"
            )
        if theirs is not None:
            self.drop_link(HOST, theirs)
            have = dataclasses.replace(theirs, name=link.name)
        assert have is not None
        space.links[link.name] = dataclasses.replace(have, mac=link.mac or have.mac, up=link.up)

    def _is_worthless(self, link: Link, have: Link) -> bool:
        if link.peer and not link.peer.leaves:
            return link.peer.name not in self._space(link.peer.namespace).links
        return is_another(link, have)

    def _apply_inside(self, space: _Space, namespace: str, link: Link) -> None:
        """A sub-interface in a sandbox."""
        self._check_parent(link)
        have = space.links.get(link.name)
        if have is not None and not (is_ours_inside(have) and have.alias == link.alias):
            raise Conflict(f"interface {link.name} cannot be made in {namespace}: file exists")
        if have is not None and is_another(link, have):
            self.drop_link(namespace, have)
        space.links[link.name] = link

    def _check_parent(self, link: Link) -> None:
        if link.kind in self.lacking:
            raise NotBuilt(f"cannot create interface {link.name}: this kernel has no {link.kind.value} links")
        if link.parent and link.parent not in self.spaces[HOST].links:
            raise KernelError(
                f"cannot create interface {link.name}: its parent {link.parent} does not exist on the host: "
                "bring it back, or make the network anew on another",
                errno.ENODEV,
            )

    def _check_tunnel(self, namespace: str, link: Link, wanted: Vxlan) -> None:
        """A VNI is taken once a port, in whatever namespace its device is."""
        for path, other in [
            (path, li) for path, space in list(self.spaces.items()) for li in list(space.links.values())
        ]:
            same = other.vxlan and (other.vxlan.vni, other.vxlan.port) == (wanted.vni, wanted.port)
            if same and (path, other.name) != (namespace, link.name):
                holder = f"interface {other.name} of the host" if path == HOST else _SOMEWHERE
                raise Conflict(
                    f"cannot create interface {link.name}: VNI {wanted.vni} on UDP port {wanted.port} is in use by "
                    f"{holder}: delete that, or give the network another VNI"
                )

    def _set(self, namespace: str, space: _Space, sysctl: Sysctl) -> None:
        parts = sysctl.key.split("/")
        if "conf" in parts and parts[-2] not in (*space.links, "all", "default"):
            raise KernelError(f"cannot set {sysctl.key} to {sysctl.value}: no such file or directory")
        self.sysctls[_key(namespace, sysctl.key)] = sysctl.value

    def _check_route(self, space: _Space, record: Record) -> None:
        if not isinstance(record, Route) or record in space.records:
            return
        for other in space.records:
            same = isinstance(other, Route) and (other.destination, other.table, other.metric) == (
                record.destination,
                record.table,
                record.metric,
            )
            if same:
                raise Conflict(
                    f"cannot set route to {record.destination}: file exists, another route is in its place"
                )

    def remove(self, states: Sequence[KernelState], wait: bool = False) -> None:
        for state in reversed(states):
            self.elements.difference_update(state.elements)
            if state.namespace not in self.spaces:
                continue
            space = self.spaces[state.namespace]
            for link in state.links:
                if link.taken_from:
                    self._give_back(state.namespace, link)
                    continue
                for have in [h for h in list(space.links.values()) if _is_same(state, h, link)]:
                    if link.peer and link.peer.leaves:
                        space.links[have.name] = dataclasses.replace(have, group=Group.LEFT)
                    else:
                        self.drop_link(state.namespace, have)
            space.records.difference_update(_on_links(state))

    def _give_back(self, namespace: str, link: Link) -> None:
        have, there = self.spaces[namespace].links.get(link.name), self.spaces[HOST].links
        if have is None:
            return
        self.drop_link(namespace, have)
        name = link.taken_from if link.taken_from not in there else f"gb{len(there):x}"
        there[name] = dataclasses.replace(have, name=name, up=False)

    def drop_link(self, namespace: str, link: Link) -> None:
        """With all that is on it, and with its other end."""
        space = self.spaces[namespace]
        space.links.pop(link.name, None)
        space.peers.pop(link.name, None)
        space.records = {record for record in space.records if record.link != link.name}
        for port in [port for port in list(space.links.values()) if port.master == link.name]:
            space.links[port.name] = dataclasses.replace(port, master="")
            if port.name in space.peers:
                space.peers[port.name].leave_bridge()
            space.records = {
                r for r in space.records if not (isinstance(r, FdbEntry) and r.link == port.name)
            }
        for key in [key for key in list(self.sysctls) if _is_of(key, namespace, link.name)]:
            del self.sysctls[key]
        for path, other in self._other_ends(link):
            self.drop_link(path, other)
        for path, standing in [
            (p, li) for p, s in list(self.spaces.items()) for li in list(s.links.values())
        ]:
            if namespace == HOST and standing.parent == link.name:
                self.drop_link(path, standing)

    def _other_ends(self, link: Link) -> list[tuple[str, Link]]:
        """(path of the namespace, other end of a pair), wherever it was moved if it was made to be."""
        if link.peer is None:
            return []
        return [
            (path, other)
            for path, space in list(self.spaces.items())
            for other in list(space.links.values())
            if other.kind is LinkKind.VETH and other.peer is None and other.mac == link.peer.mac
            if link.peer.leaves or (path, other.name) == (link.peer.namespace, link.peer.name)
        ]

    def observe(self, states: Sequence[KernelState]) -> tuple[KernelState, ...]:
        observed = []
        for state in states:
            if state.namespace not in self.spaces:
                continue
            space = self.spaces[state.namespace]
            sysctls = tuple(
                Sysctl(s.key, self.sysctls[key])
                for s in state.sysctls
                if (key := _key(state.namespace, s.key)) in self.sysctls
            )
            observed.append(
                KernelState(
                    namespace=state.namespace,
                    links=tuple(space.links.values()),
                    addresses=tuple(r for r in space.records if isinstance(r, Address)),
                    routes=tuple(r for r in space.records if isinstance(r, Route)),
                    neighbors=tuple(r for r in space.records if isinstance(r, Neighbor)),
                    fdb=tuple(r for r in space.records if isinstance(r, FdbEntry)),
                    sysctls=sysctls,
                    elements=tuple(self.elements) if state.namespace == HOST else (),
                )
            )
        return tuple(observed)

    def program_peers(
        self, namespace: str, link: str, added: Sequence[RemotePeer], removed: Sequence[RemotePeer]
    ) -> None:
        self._peers(namespace, link).program(added, removed)

    def flood(self, namespace: str, link: str, added: Sequence[str], removed: Sequence[str]) -> None:
        self._peers(namespace, link).change_flood(added, removed)

    def observe_peers(self, namespace: str, link: str) -> ObservedPeers:
        return self._peers(namespace, link).observed()

    def _peers(self, namespace: str, link: str) -> FakePeers:
        try:
            return self._space(namespace).peers[link]
        except KeyError:
            raise KernelError(
                f"interface {link} does not exist: cnmctl doctor shows what is missing", errno.ENODEV
            ) from None

    def repair(self, findings: Sequence[Finding]) -> None:
        wanted, foreign = split_findings(findings)
        self.remove(foreign)
        self.apply(wanted)

    def announce(self, namespace: str, link: str, holders: Sequence[tuple[str, str]]) -> None:
        self._space(namespace)
        self.announced += [(namespace, link, *holder) for holder in holders]

    def echo(self, namespace: str, asked: Sequence[Echo], seconds: float) -> list[float | None]:
        """Every address answers at once, unless `path_mtus` or the links here forbid it."""
        inside = self._space(namespace).links.values()
        most = max((link.mtu for link in inside if link.mtu), default=_USUAL_MTU)
        return [
            _RTT if each.size <= min(most, self.path_mtus.get(each.address, _USUAL_MTU)) else None
            for each in asked
        ]

    def knock(self, namespace: str, asked: Sequence[Port], seconds: float) -> list[int]:
        self._space(namespace)
        return [errno.ETIMEDOUT if port in self.closed else 0 for port in asked]

    def start_firewall(self, elements: Sequence[FirewallElement]) -> None:
        self.elements = set(elements)

    def broken_tables(self) -> Sequence[tuple[str, str]]:
        return ()

    def create_namespace(self, path: str, *, bridged: bool = False) -> None:
        if path in self.spaces:
            raise Conflict(f"{path} exists already: remove it, or choose another run directory")
        self.spaces[path] = _Space()

    def remove_namespace(self, path: str) -> None:
        """With the pairs that have one end there, wherever the other is."""
        everywhere = [
            (where, link) for where, space in list(self.spaces.items()) for link in list(space.links.values())
        ]
        for where, link in everywhere:
            if where == path or any(other == path for other, _ in self._other_ends(link)):
                self.drop_link(where, link)
        self.spaces.pop(path, None)

    def namespace_alive(self, path: str) -> bool:
        return path in self.spaces

    def namespace_identity(self, path: str) -> tuple[int, int] | None:
        return (0, id(self.spaces[path])) if path in self.spaces else None

    def open_name_sockets(self, namespace: str) -> NameSockets:
        """Of this process' own namespace, which nobody asks."""
        space = self._space(namespace)
        sockets = self.open_host_name_sockets("")
        space.names_led_to = sockets.ports
        return sockets

    def open_host_name_sockets(self, address: str) -> NameSockets:
        """At another port, which nobody asks."""
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        for each in (udp, tcp):
            each.bind(("127.0.0.1", 0))
        tcp.listen()
        return NameSockets(udp, tcp)

    def names_led_to(self, namespace: str) -> tuple[int, int] | None:
        return self._space(namespace).names_led_to

    def lead_names(self, namespace: str, ports: tuple[int, int]) -> None:
        self._space(namespace).names_led_to = ports

    def mislead_names(self, namespace: str) -> None:
        self._space(namespace).names_led_to = None

    def open_asking_sockets(
        self, namespace: str, wanted: Sequence[tuple[socket.AddressFamily, socket.SocketKind]]
    ) -> list[socket.socket]:
        self._space(namespace)
        return [socket.socket(family, kind) for family, kind in wanted]

    def is_in(self, namespace: str, one: socket.socket) -> bool:
        return namespace in self.spaces

    def interface_names(self, namespace: str) -> frozenset[str]:
        return frozenset(self._space(namespace).links)

    def has_ipv6(self, namespace: str) -> bool:
        return self.sysctls.get(_key(namespace, "net/ipv6/conf/lo/disable_ipv6"), "0") == "0"

    def host_interfaces(self) -> Mapping[str, int]:
        theirs = [link for link in list(self.spaces[HOST].links.values()) if _is_of_the_host(link)]
        return {link.name: link.mtu or 1500 for link in theirs}

    def uplink(self) -> Uplink | None:
        return self._uplink

    def holder(self, address: str) -> Uplink | None:
        return self._uplink

    def source_towards(self, namespace: str, address: str) -> str:
        self._space(namespace)
        return self.sources.get(namespace, "")

    def uplink_addresses(self) -> tuple[str, ...]:
        return ("198.51.100.2", "2001:db8:100::2") if self._uplink else ()

    def on_link_routes(self) -> tuple[str, ...]:
        return self._on_link

    def sysctl(self, key: str) -> str | None:
        return self.sysctls.get(key)

    def forget_flows(self, addresses: Sequence[str]) -> None:
        self.flushed += addresses

    def settle_flows(self, addresses: Sequence[str]) -> None:
        """They are forgotten at once here."""

    def flush_ports(self, ipv4: str, ipv6: str, ports: Sequence[PublishedPort]) -> None:
        self.flushed += [f"{port.protocol}:{port.container_port}" for port in ports]

    def flush_udp(self, ports: Sequence[PublishedPort]) -> None:
        self.flushed += [f"udp:{port.host_port}" for port in ports]

    def close(self) -> None:
        self.spaces.clear()

    def _space(self, namespace: str) -> _Space:
        try:
            return self.spaces[namespace]
        except KeyError:
            raise NotFound(
                f"network namespace {namespace} cannot be opened: no such file or directory"
            ) from None


def _is_of_the_host(link: Link) -> bool:
    return link.name != "lo" and not is_ours(link) and link.group != Group.MOVED


def _touches_links(state: KernelState) -> bool:
    """Without anything in it, nobody looks whether the namespace is there."""
    return any((state.links, state.sysctls, *_on_links(state)))


def _on_links(state: KernelState) -> Iterable[Address | Route | Neighbor | FdbEntry]:
    yield from state.addresses
    yield from state.routes
    yield from state.neighbors
    yield from state.fdb


def _is_same(state: KernelState, have: Link, link: Link) -> bool:
    """Whether a link is the one meant: sub-interfaces in sandboxes by their mark, others by name and mark or MAC."""
    if state.namespace != HOST and link.kind in (LinkKind.MACVLAN, LinkKind.IPVLAN):
        same = have.alias == link.alias if link.alias else have.name == link.name
        return same and is_ours_inside(have)
    if have.name != link.name:
        return False
    if state.namespace == HOST or state.own:
        ours = is_ours_alone(have) if state.own else is_ours(have)
        return ours and have.alias == link.alias
    return (have.kind, have.mac) == (link.kind, link.mac)


def _key(namespace: str, sysctl: str) -> str:
    return f"{namespace}:{sysctl}" if namespace else sysctl


def _is_of(key: str, namespace: str, link: str) -> bool:
    """Whether a sysctl, as `_key` writes it, is one of this link."""
    return key.startswith(f"{namespace}:" if namespace else "net/") and f"/conf/{link}/" in key
