"""The running kernel: makes states so and undoes them, through netlink, nftables and /proc/sys.

A link is created with an index that we choose: the message that marks it follows in the same send and names that
index, so it never meets a foreign link of the same name, whatever became of the creation. A sub-interface is made in
its sandbox from the host's namespace, where its parent is: under a name of chance, marked by its group from the first.
"""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import cache, partial

from cnm.errors import Conflict, KernelError, NotFound
from cnm.kernel import (
    address_messages,
    announcing,
    echoes,
    link_messages,
    name_sockets,
    neighbor_messages,
    observation,
    peer_dumps,
    readiness,
    remote_peers,
    route_messages,
    sub_interfaces,
    sysctls,
    taken_links,
    tun_links,
    vxlans,
)
from cnm.kernel.conntrack import Conntrack
from cnm.kernel.contract import Echo, Port, PublishedPort, Uplink
from cnm.kernel.diff import is_ours, is_ours_alone
from cnm.kernel.forgetting import Forgetter
from cnm.kernel.host_interfaces import HostInterfaces
from cnm.kernel.interface_indexes import InterfaceIndexes
from cnm.kernel.link_messages import ObservedLink
from cnm.kernel.namespaces import Namespaces
from cnm.kernel.netlink import Message, NetlinkError, NetlinkSocket, Request
from cnm.kernel.nft import Nft
from cnm.kernel.reaper import Reaper
from cnm.kernel.repair import split_findings
from cnm.kernel.state import (
    HOST,
    Address,
    ElementSet,
    Finding,
    FirewallElement,
    Group,
    KernelState,
    Link,
    LinkKind,
    ObservedPeers,
    RemotePeer,
    Sysctl,
)

_GONE = frozenset({errno.ENODEV, errno.ENOENT, errno.ESRCH, errno.EADDRNOTAVAIL})
_FAR_AWAY = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}
"""Addresses for documentation (RFC 5737, RFC 3849): only a default route leads there."""
_INDEX_ATTEMPTS = 5
_NO_ADDRESSES = "1"
_BRIDGED_PACKETS = tuple(f"net/bridge/bridge-nf-call-{name}tables" for name in ("ip", "ip6", "arp"))
"""There where br_netfilter is loaded: bridged packets pass hooks that have nothing to say of them, at a price."""
"""IN6_ADDR_GEN_MODE_NONE (linux/if_link.h)."""


class LinuxKernel:
    """Implements `cnm.kernel.contract.Kernel` for the namespace of the thread that makes it.

    `element_sets` are the sets and maps of our tables; `ruleset` renders the tables with given elements.
    """

    def __init__(
        self, element_sets: Sequence[ElementSet], ruleset: Callable[[Sequence[FirewallElement]], str]
    ) -> None:
        self._nft = Nft()
        self._element_sets = tuple(element_sets)
        self._ruleset = ruleset
        self._namespaces = Namespaces()
        self._conntrack = Conntrack()
        self._forgetter = Forgetter(self._conntrack)
        self._host = NetlinkSocket()
        self._host_interfaces = HostInterfaces()
        self._host_lock = threading.Lock()
        self._reaper = Reaper(self._namespaces)
        self._reaper.wake()  # an earlier process may have been killed before it came to it
        self._indexes = InterfaceIndexes()

    def close(self) -> None:
        self._reaper.close()
        self._host_interfaces.close()
        self._host.close()
        self._forgetter.close()
        self._conntrack.close()
        self._nft.close()
        self._namespaces.close()

    # Applying

    def apply(self, states: Sequence[KernelState]) -> None:
        elements = [element for state in states for element in state.elements]
        if elements:
            self._nft.apply(elements, ())
        for state in states:
            if _touches_rtnetlink(state):
                with self._socket_in(state.namespace) as netlink:
                    self._apply_in(netlink, state)
        self._await_links(states)

    def _await_links(self, states: Sequence[KernelState]) -> None:
        readiness.await_links(self._get, (state for state in states if not state.own))
        for state in states:
            if state.own and any(link.peer for link in state.links):
                with self._socket_in(state.namespace) as netlink:
                    readiness.await_links(netlink.get, [state])

    def _get(self, request: Request) -> Message | None:
        with self._socket_in(HOST) as netlink:
            return netlink.get(request)

    def _apply_in(self, netlink: NetlinkSocket, state: KernelState) -> None:
        index = cache(_index)
        for link in state.links:
            if link.taken_from:
                with self._host_lock:
                    taken_links.take(self._host, netlink, self._namespaces, state.namespace, link)
            elif link.vxlan or (link.parent and state.namespace != HOST):
                self._make_inside(netlink, state.namespace, link, index(link.master) if link.master else 0)
            elif _is_made_here(link):
                self._make(netlink, state.namespace, link, index(link.master) if link.master else 0)
        for sysctl in state.sysctls:
            sysctls.write(sysctl)
        requests = list(_additions(state, index))
        for request, error in zip(requests, netlink.send(requests), strict=True) if requests else ():
            if error is None:
                continue
            if error.errno != errno.EEXIST or request.kind == route_messages.RTM_NEWROUTE:
                self._tolerate_same_route(netlink, state, request, error)
        readiness.await_addresses(netlink.get, (a.address for a in state.addresses if ":" in a.address))

    def _make(self, netlink: NetlinkSocket, namespace: str, link: Link, master: int) -> None:
        """Create a link, or bring one of ours that exists to what it should be; `master` is an index, 0 for none."""
        if link.kind is LinkKind.TUN:
            self._make_tun(netlink, link)
            return
        parent = sub_interfaces.parent_index(netlink, link)
        descriptor = self._namespaces.open(link.peer.namespace) if link.peer else -1
        try:
            for _ in range(_INDEX_ATTEMPTS):
                index = self._indexes.take(namespace, netlink)
                created, configured = netlink.send(
                    [
                        link_messages.create(link, index, master, descriptor, parent),
                        link_messages.configure(link, index),
                    ]
                )
                if created is None:
                    if configured is not None:  # without its mark nobody would know it for ours
                        netlink.execute([link_messages.retire(link.name, index, f"cr{index:x}")])
                        self._reaper.wake()
                        raise sub_interfaces.explained(configured, link)
                    return
                if created.errno != errno.EEXIST:
                    raise sub_interfaces.explained(created, link)
                if self._change_existing(netlink, link, master):
                    return
                if link.parent:
                    self._reaper.flush()  # a VLAN that was retired still has the number
                self._indexes.forget(namespace)
        finally:
            if descriptor >= 0:
                os.close(descriptor)
        if link.parent:
            raise Conflict(
                f"cannot create interface {link.name} on {link.parent}: VLAN {link.mode} has one of another name "
                "there: use that as the parent, or delete it"
            )
        raise KernelError(f"cannot create interface {link.name}: no free interface index was found")

    def _make_tun(self, netlink: NetlinkSocket, link: Link) -> None:
        if not self._change_existing(netlink, link, 0) and not tun_links.make(link, netlink):
            raise Conflict(f"interface {link.name} was made by another program meanwhile: delete it")

    def _change_existing(self, netlink: NetlinkSocket, link: Link, master: int) -> bool:
        """False when nothing of that name exists, so that only the index was taken."""
        message = netlink.get(link_messages.get(link.name))
        if message is None:
            if link.peer and link.peer.name in self.interface_names(link.peer.namespace):
                where = link.peer.namespace or "the host's namespace"
                raise Conflict(f"interface {link.peer.name} cannot be made in {where}: file exists")
            return False
        found = link_messages.parse(message)
        if not is_ours(found.link) or found.link.alias != link.alias or found.link.kind is not link.kind:
            raise Conflict(
                f"interface {link.name} exists and is not ours: rename or delete it, or choose another name"
            )
        if self._is_worthless(link, found, netlink):
            for error in netlink.send([link_messages.retire(link.name, found.index, f"cr{found.index:x}")]):
                if error is not None and error.errno not in _GONE:  # a half may vanish by itself meanwhile
                    raise error
            self._reaper.flush()  # what is left of the other end may have the routes that the new one needs
            return False
        netlink.execute([link_messages.change(link, found, master)])
        if link.master:
            netlink.execute([link_messages.port_flags(link, found.index)])
        return True

    def _is_worthless(self, link: Link, found: ObservedLink, netlink: NetlinkSocket) -> bool:
        """Whether a link of ours must be made anew: its other end is gone, or it is a sub-interface of another sort."""
        if link.peer and not link.peer.leaves:
            return link.peer.name not in self.interface_names(link.peer.namespace)
        return sub_interfaces.is_of_another_sort(link, found, lambda: nullcontext(netlink))

    def _make_inside(self, netlink: NetlinkSocket, namespace: str, link: Link, master: int) -> None:
        """Of a link that is carried by the host's namespace, wherever itself is."""
        host = self._host_socket if namespace != HOST else lambda: nullcontext(netlink)
        descriptor = self._namespaces.open(namespace)
        try:
            if link.vxlan:
                vxlans.make(link, master, descriptor, netlink, host, self._reaper.flush)
            else:
                sub_interfaces.make(link, namespace, descriptor, netlink, self._host_socket)
        finally:
            os.close(descriptor)

    def _host_socket(self) -> AbstractContextManager[NetlinkSocket]:
        return self._socket_in(HOST)

    def _tolerate_same_route(
        self, netlink: NetlinkSocket, state: KernelState, request: Request, error: NetlinkError
    ) -> None:
        """A route that exists already is fine when it is the very same; else it is somebody else's."""
        if request.kind == route_messages.RTM_NEWROUTE and error.errno == errno.EEXIST:
            have = frozenset(observation.routes(netlink))
            missing = [route for route in state.routes if route not in have]
            if not missing:
                return
            raise Conflict(
                f"cannot set route to {missing[0].destination}: file exists, another route is in its place"
            )
        raise error

    # Removing

    def remove(self, states: Sequence[KernelState], wait: bool = False) -> None:
        elements = [element for state in states for element in state.elements]
        if elements:
            self._nft.apply((), elements)
        for state in reversed(states):
            with suppress(NotFound):
                if _touches_rtnetlink(state):
                    with self._socket_in(state.namespace) as netlink:
                        if _remove_in(netlink, state):
                            self._reaper.wake(NetlinkSocket() if state.own else None)
                        self._give_back(netlink, state)
        if wait:
            self._reaper.flush()

    def _give_back(self, netlink: NetlinkSocket, state: KernelState) -> None:
        for link in state.links:
            if link.taken_from:
                with self._host_lock:
                    taken_links.give_back(self._host, netlink, self._namespaces, link)

    # Remote endpoints

    def program_peers(
        self, namespace: str, link: str, added: Sequence[RemotePeer], removed: Sequence[RemotePeer]
    ) -> None:
        with self._socket_in(namespace) as netlink:
            remote_peers.program(netlink, link, _index(link), added, removed)

    def flood(self, namespace: str, link: str, added: Sequence[str], removed: Sequence[str]) -> None:
        with self._socket_in(namespace) as netlink:
            remote_peers.flood(netlink, link, _index(link), added, removed)

    def observe_peers(self, namespace: str, link: str) -> ObservedPeers:
        with self._socket_in(namespace) as netlink:
            return peer_dumps.observe(netlink, _index(link))

    # Reading

    def observe(self, states: Sequence[KernelState]) -> tuple[KernelState, ...]:
        host_name = partial(sub_interfaces.host_name, self._host_socket)
        observed = []
        for state in states:
            try:
                with self._socket_in(state.namespace) as netlink:
                    have = observation.observe(netlink, state, host_name)
                    if state.own and any(link.group == Group.REAP for link in have.links):
                        self._reaper.wake(NetlinkSocket())  # maybe left by an earlier process
                    observed.append(have)
            except NotFound:
                continue
        elements = tuple(self._nft.observe(self._element_sets))
        return (*observed, KernelState(namespace=HOST, elements=elements)) if elements else tuple(observed)

    def announce(self, namespace: str, link: str, holders: Sequence[tuple[str, str]]) -> None:
        try:
            announcing.announce(self._namespaces, namespace, link, holders)
        except OSError as error:
            why = os.strerror(error.errno or 0).lower()
            raise KernelError(f"cannot announce addresses on {link}: {why}", error.errno or 0) from None

    def echo(self, namespace: str, asked: Sequence[Echo], seconds: float) -> list[float | None]:
        return echoes.ask(self._namespaces, namespace, asked, seconds)

    def knock(self, namespace: str, asked: Sequence[Port], seconds: float) -> list[int]:
        return echoes.knock(self._namespaces, namespace, asked, seconds)

    def interface_names(self, namespace: str) -> frozenset[str]:
        with self._namespaces.inside(namespace):
            return frozenset(name for _, name in socket.if_nameindex())

    def has_ipv6(self, namespace: str) -> bool:
        try:
            with self._namespaces.inside(namespace):
                return sysctls.read("net/ipv6/conf/lo/disable_ipv6") == "0"
        except NotFound:
            return True

    def host_interfaces(self) -> Mapping[str, int]:
        with self._socket_in(HOST) as netlink:
            return self._host_interfaces.mtus(netlink)

    def uplink(self) -> Uplink | None:
        with self._socket_in(HOST) as netlink:
            return observation.uplink(netlink)

    def holder(self, address: str) -> Uplink | None:
        with self._socket_in(HOST) as netlink:
            return observation.holder(netlink, address)

    def source_towards(self, namespace: str, address: str) -> str:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with self._namespaces.inside(namespace):
            return _source_towards(family, address)

    def uplink_addresses(self) -> tuple[str, ...]:
        return tuple(filter(None, (_source_towards(family, far) for family, far in _FAR_AWAY.items())))

    def on_link_routes(self) -> tuple[str, ...]:
        with self._socket_in(HOST) as netlink:
            return observation.on_link_routes(netlink)

    def sysctl(self, key: str) -> str | None:
        return sysctls.read(key)

    # Repairing

    def start_firewall(self, elements: Sequence[FirewallElement]) -> None:
        self._nft.start(self._ruleset(elements))

    def broken_tables(self) -> Sequence[tuple[str, str]]:
        return self._nft.broken_tables()

    @property
    def firewall_port(self) -> int:
        """The netlink port of our element transactions."""
        return self._nft.port

    def repair(self, findings: Sequence[Finding]) -> None:
        wanted, foreign = split_findings(findings)
        # A default route can only be set when the link that carried the one before is gone.
        self.remove(foreign, wait=any(state.links for state in foreign))
        for finding in findings:
            self._restore_mac(finding)
        self.apply(wanted)

    def _restore_mac(self, finding: Finding) -> None:
        """Of the sandbox's end of a pair, which `apply` does not make: it would cost every attach something."""
        link, have = finding.wanted, finding.observed
        made_here = finding.namespace == HOST or finding.own
        if made_here or not isinstance(link, Link) or not isinstance(have, Link):
            return
        if link.mac not in ("", have.mac) and link.kind is have.kind and not link.taken_from:
            with self._socket_in(finding.namespace) as netlink:
                netlink.execute([link_messages.set_address(link.name, _index(link.name), link.mac)])

    # Namespaces

    def create_namespace(self, path: str, *, bridged: bool = False) -> None:
        with self._namespaces.created(path), NetlinkSocket() as netlink:
            sysctls.write(Sysctl("net/ipv6/conf/default/disable_ipv6", "0" if bridged else "1"))
            if bridged:
                sysctls.write(Sysctl("net/ipv6/conf/default/addr_gen_mode", _NO_ADDRESSES))
                for switch in _BRIDGED_PACKETS:
                    if sysctls.read(switch) is not None:
                        sysctls.write(Sysctl(switch, "0"))
            netlink.execute([link_messages.up("lo", 1)])

    def remove_namespace(self, path: str) -> None:
        self._namespaces.remove(path)
        self._indexes.forget(path)

    def namespace_alive(self, path: str) -> bool:
        return self._namespaces.is_alive(path)

    def namespace_identity(self, path: str) -> tuple[int, int] | None:
        return self._namespaces.identity(path)

    def open_name_sockets(self, namespace: str) -> name_sockets.NameSockets:
        return name_sockets.open_sockets(self._namespaces, namespace)

    def open_host_name_sockets(self, address: str) -> name_sockets.NameSockets:
        return name_sockets.open_on_host(address)

    def names_led_to(self, namespace: str) -> tuple[int, int] | None:
        return name_sockets.led_to(self._namespaces, namespace)

    def lead_names(self, namespace: str, ports: tuple[int, int]) -> None:
        name_sockets.lead(self._namespaces, namespace, ports)

    def mislead_names(self, namespace: str) -> None:
        name_sockets.mislead(self._namespaces, namespace)

    def open_asking_sockets(
        self, namespace: str, wanted: Sequence[tuple[socket.AddressFamily, socket.SocketKind]]
    ) -> list[socket.socket]:
        return name_sockets.open_asking(self._namespaces, namespace, wanted)

    def is_in(self, namespace: str, one: socket.socket) -> bool:
        return name_sockets.is_in(self._namespaces, namespace, one)

    def forget_flows(self, addresses: Sequence[str]) -> None:
        self._forgetter.forget(addresses)

    def settle_flows(self, addresses: Sequence[str]) -> None:
        self._forgetter.settle(addresses)

    def flush_ports(self, ipv4: str, ipv6: str, ports: Sequence[PublishedPort]) -> None:
        for address in filter(None, (ipv4, ipv6)):
            self._conntrack.flush_ports(address, ports)

    def flush_udp(self, ports: Sequence[PublishedPort]) -> None:
        self._conntrack.flush_udp([port.host_port for port in ports])

    @contextmanager
    def _socket_in(self, namespace: str) -> Iterator[NetlinkSocket]:
        if namespace == HOST:
            with self._host_lock:
                yield self._host
            return
        with self._namespaces.inside(namespace), NetlinkSocket() as netlink:
            yield netlink


def _source_towards(family: socket.AddressFamily, address: str) -> str:
    """The address that the calling thread's namespace would send from, "" without a route; nothing is sent."""
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((address, 9))
        except OSError:
            return ""
        return str(probe.getsockname()[0])


def _touches_rtnetlink(state: KernelState) -> bool:
    return bool(
        state.links or state.addresses or state.routes or state.neighbors or state.fdb or state.sysctls
    )


def _is_made_here(link: Link) -> bool:
    """The sandbox's end of a pair is made with the host's end; the loopback is there, and others' links are taken."""
    if link.taken_from or link.kind is LinkKind.LOOPBACK:
        return False
    return link.kind is not LinkKind.VETH or link.peer is not None


def _index(name: str) -> int:
    """Index of an interface in the namespace of the calling thread."""
    try:
        return socket.if_nametoindex(name)
    except OSError:
        raise KernelError(
            f"interface {name} does not exist: cnmctl doctor shows what is missing", errno.ENODEV
        ) from None


def _ups(state: KernelState, index: Callable[[str], int]) -> Iterator[Request]:
    for link in state.links:
        if not _is_made_here(link) and link.up:
            yield link_messages.up(link.name, index(link.name), link.mtu)


def _additions(state: KernelState, index: Callable[[str], int]) -> Iterator[Request]:
    """IPv4 addresses come before their links are up: what is announced then (arp_notify) is what is there."""
    yield from (_address(a, index) for a in state.addresses if ":" not in a.address)
    yield from _ups(state, index)
    yield from (_address(a, index) for a in state.addresses if ":" in a.address)
    for route in state.routes:
        yield route_messages.add(route, index(route.link))
    for neighbor in state.neighbors:
        yield neighbor_messages.add(neighbor, index(neighbor.link))
    for entry in state.fdb:
        yield neighbor_messages.add_fdb(entry, index(entry.link))


def _address(address: Address, index: Callable[[str], int]) -> Request:
    return address_messages.add(address.link, address.address, index(address.link))


def _remove_in(netlink: NetlinkSocket, state: KernelState) -> bool:
    """Take the records of one namespace away; whether there is something for the reaper."""
    requests = list(_deletions(state))
    reap = False
    for link in (link for link in state.links if not link.taken_from):
        if state.namespace != HOST and link.kind in (LinkKind.MACVLAN, LinkKind.IPVLAN):
            requests += sub_interfaces.deletions(netlink, link)
        elif message := netlink.get(link_messages.get(link.name)):
            found = link_messages.parse(message)
            if state.namespace != HOST and not state.own:
                if found.link.kind is link.kind and found.link.mac == link.mac:
                    requests.append(link_messages.rename_down(link.name, found.index, f"cr{found.index:x}"))
            elif _is_same(state, found.link, link):
                requests += _taking_away(state, link, found)
                reap |= not (link.peer and link.peer.leaves)
    for error in netlink.send(requests) if requests else ():
        if error is not None and error.errno not in _GONE:
            raise error
    return reap


def _is_same(state: KernelState, have: Link, link: Link) -> bool:
    """Whether a link of the host's or a network's namespace is the one meant."""
    ours = is_ours_alone(have) if state.own else is_ours(have)
    return ours and have.alias == link.alias


def _taking_away(state: KernelState, link: Link, found: ObservedLink) -> Iterator[Request]:
    """Of a link of ours that we made here; where its other end leaves, it is deleted in a second step."""
    if link.peer and link.peer.leaves:
        yield link_messages.cut_off(link.name, found.index)
        if state.own:  # there is no firewall that knows the group
            yield link_messages.disable_port(link.name, found.index)
    elif found.link.group == Group.LEFT:
        yield link_messages.hand_to_reaper(link.name, found.index)
    else:
        yield link_messages.retire(link.name, found.index, f"cr{found.index:x}")


def _deletions(state: KernelState) -> Iterator[Request]:
    """Records on links that stay; what is on links that go goes with them."""
    going = {link.name for link in state.links}
    for route in state.routes:
        if index := _staying(route.link, going):
            yield route_messages.delete(route, index)
    for address in state.addresses:
        if index := _staying(address.link, going):
            yield address_messages.delete(address.link, address.address, index)
    for neighbor in state.neighbors:
        if index := _staying(neighbor.link, going):
            yield neighbor_messages.delete(neighbor, index)
    for entry in state.fdb:
        if index := _staying(entry.link, going):
            yield neighbor_messages.delete_fdb(entry, index)


def _staying(name: str, going: Container[str]) -> int:
    """Index of a link that stays, 0 for one that goes or is gone."""
    if name in going:
        return 0
    try:
        return socket.if_nametoindex(name)
    except OSError:
        return 0
