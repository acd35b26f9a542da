"""What a network driver is, and the registry of those this daemon knows.

A kernel-backed driver is a set of pure functions from the nouns to kernel state; the controller applies what
they return. Built-in drivers and third parties' are found through the entry point group `cnm.drivers`. Active drivers
stand for another program, which makes networks in its own way and is told what happens.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol, runtime_checkable

import msgspec

from cnm.endpoint import Attachment, Endpoint, PortMapping, PortRequest
from cnm.errors import CnmError, InvalidParameter, NotFound
from cnm.kernel.state import KernelState
from cnm.network import Network
from cnm.sandbox import Sandbox


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a driver can do; validated when it is registered."""

    scope: str = "local"
    """"local" or "global": where its networks are known."""
    needs_ipam: bool = True
    """Its networks have pools and its endpoints addresses."""
    single_instance: bool = False
    """Only the predefined network exists (host, null)."""
    publishes_ports: bool = False
    """Endpoints can publish ports on the host."""
    routed_by_host: bool = True
    """The host forwards its networks' packets: what that needs is switched on while there are any."""
    on_parent: bool = False
    """Its networks stand on interfaces of the host, which they may share: each is told of all that do, and what they
    made there goes with the last that uses it."""
    own_mac: bool = True
    """Its endpoints have a MAC address of their own."""
    clustered: bool = False
    """Its networks are those of every host of the cluster. Where one has endpoints joined, it has a network namespace
    of its own: `network_state` is what must exist there meanwhile."""


class Underlay(msgspec.Struct, frozen=True, kw_only=True):
    """What tunnels between this host and the others run over."""

    address: str
    """This host's end of them (VTEP), a bare address."""
    mtu: int
    """What every host of the cluster can send and receive, in bytes."""
    port: int = 4789
    """UDP port of VXLAN."""
    transport: str = ""
    """This host's end of encrypted tunnels, a bare address; "" where it has none."""
    transport_mtu: int = 0


class HostFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a driver may know of the host when it decides something."""

    uplink_mtu: int = 1500
    """MTU in bytes of the interface that carries the default route, 1500 where there is none."""
    bridge_nf_ipv4: bool = False
    bridge_nf_ipv6: bool = False
    """br_netfilter is on: bridged frames pass the inet hooks (net.bridge.bridge-nf-call-ip[6]tables)."""
    force_forwarding: bool = False
    """IPv6 has a forwarding switch for each interface (Linux 6.17 or newer)."""
    interfaces: Mapping[str, int] = {}
    """MTUs in bytes of the host's own interfaces, by name; only where a driver's `on_parent` asks for them."""
    netns: str = ""
    """Directory of the namespaces that networks have of their own."""
    underlay: Underlay | None = None
    """None where the host is in no cluster."""


@runtime_checkable
class Driver(Protocol):
    """The contract. Every function is pure and cheap; none touches the kernel or the store."""

    name: str
    capabilities: Capabilities

    def validate_network(self, network: Network, others: Sequence[Network], facts: HostFacts) -> Network:
        """Check options and pools against the driver's rules and `others`, and settle defaults such as the MTU.

        `others` are the driver's other networks; with `on_parent` those of all such drivers.

        Raises InvalidParameter for a bad or unknown option (named), Forbidden for a clash with another network.
        """

    def validate_endpoint(self, network: Network, endpoint: Endpoint) -> None:
        """Check endpoint options; raises InvalidParameter naming the option."""

    def network_state(self, network: Network, facts: HostFacts) -> tuple[KernelState, ...]:
        """What must exist as long as the network does."""

    def join_state(
        self, network: Network, endpoint: Endpoint, sandbox: Sandbox, facts: HostFacts
    ) -> tuple[KernelState, ...]:
        """What must exist while the endpoint is in the sandbox, without its ports and default routes."""

    def port_state(
        self, network: Network, endpoint: Endpoint, ports: Sequence[PortMapping], facts: HostFacts
    ) -> tuple[KernelState, ...]:
        """What must exist while `ports` of the endpoint are published."""

    def bindings(
        self, network: Network, endpoint: Endpoint, requests: Sequence[PortRequest]
    ) -> tuple[tuple[PortRequest, ...], tuple[PortMapping, ...]]:
        """(what must be reserved on the host, with addresses filled in; what is published without a host port)."""

    def interface_prefix(self, network: Network) -> str:
        """What interfaces in a sandbox are called, before their number; "" where there is no interface."""

    def wants_gateways(self, network: Network) -> tuple[bool, bool]:
        """Whether the network takes a gateway from IPAM, for (IPv4, IPv6); asked before validation."""

    def gateways(self, network: Network, endpoint: Endpoint) -> tuple[str, str]:
        """The next hops (IPv4, IPv6) that this endpoint offers for a default route, "" where it offers none.

        `cnm.gateway.ON_LINK` for a route bound to the interface.
        """


@runtime_checkable
class ActiveDriver(Driver, Protocol):
    """A driver whose networks live in another program: what that is told, in the order of the verbs.

    Every call may take long, and raises an error of `cnm.errors` that names the program. What undoes another call may
    be told without it having been.
    """

    def introduce(self) -> None:
        """Learn what the program can do, once. Raises NotFound where there is none of that name."""

    def create_network(self, network: Network, address_space: str) -> None:
        """The network with its pools; `address_space` is its IPAM's name for where they come from."""

    def delete_network(self, network_id: str) -> None: ...

    def create_endpoint(self, network: Network, endpoint: Endpoint) -> Endpoint:
        """The endpoint with the MAC and the addresses that the program chose where it had none.

        What a bad answer made is undone.
        """

    def delete_endpoint(self, network_id: str, endpoint_id: str) -> None: ...

    def join(self, network: Network, endpoint: Endpoint, sandbox: Sandbox) -> Attachment:
        """What the program made for the sandbox, checked. Raises RolledBack for a bad answer, having left again."""

    def leave(self, network_id: str, endpoint_id: str) -> None: ...

    def program(self, network: Network, endpoint: Endpoint) -> None:
        """The endpoint is its sandbox's way out from now on, or publishes ports."""

    def revoke(self, network_id: str, endpoint_id: str) -> None: ...


class RolledBack(CnmError):
    """The program's answer cannot be used; what it did was undone already."""


_METHODS = (
    "validate_network",
    "validate_endpoint",
    "network_state",
    "join_state",
    "port_state",
    "bindings",
    "interface_prefix",
    "wants_gateways",
    "gateways",
)


_ACTIVE_METHODS = (
    "introduce",
    "create_network",
    "delete_network",
    "create_endpoint",
    "delete_endpoint",
    "join",
    "leave",
    "program",
    "revoke",
)


class Registry:
    """Drivers by name. A driver is checked when it is registered, not when it is first called.

    `external` makes the driver of a program by its name, for names that are no driver's; it contacts nobody.
    """

    def __init__(
        self, drivers: Iterable[Driver] = (), external: Callable[[str], ActiveDriver] | None = None
    ) -> None:
        self._drivers: dict[str, Driver] = {}
        self._active: dict[str, ActiveDriver] = {}
        self._external = external
        self._adopting = threading.Lock()
        for driver in drivers:
            self.register(driver)

    def register(self, driver: Driver) -> None:
        """Raises InvalidParameter naming the driver and what it lacks."""
        name = getattr(driver, "name", "")
        if not isinstance(name, str) or not name:
            raise InvalidParameter(f"driver {driver!r} has no name")
        if name in self._drivers:
            raise InvalidParameter(f"driver {name} is registered already")
        capabilities = getattr(driver, "capabilities", None)
        if not isinstance(capabilities, Capabilities) or capabilities.scope not in ("local", "global"):
            raise InvalidParameter(f"driver {name}: capabilities must say scope 'local' or 'global'")
        _check_methods(driver, Driver, _METHODS)
        if any(hasattr(driver, method) for method in _ACTIVE_METHODS):
            _check_methods(driver, ActiveDriver, _ACTIVE_METHODS)
        if isinstance(driver, ActiveDriver):
            self._active[name] = driver
        self._drivers[name] = driver

    def get(self, name: str) -> Driver:
        """The driver for a new network: a program of that name is looked for if there is no driver.

        Raises NotFound with Docker's text for an unknown driver.
        """
        if name in self._drivers:
            return self._drivers[name]
        known = ", ".join(self.names())
        unknown = NotFound(f'could not find network driver "{name}": known are {known}')
        if self._external is None:
            raise unknown
        driver = self._external(name)
        try:
            driver.introduce()
        except NotFound:
            raise unknown from None
        return self._adopt(driver)

    def of_network(self, name: str) -> Driver:
        """The driver of a network that exists, whose program may be away: nobody is contacted. Raises NotFound."""
        if name in self._drivers or self._external is None:
            return self.get(name)
        return self._adopt(self._external(name))

    def active(self, name: str) -> ActiveDriver | None:
        """The driver of an existing network if it is active."""
        if name not in self._drivers:
            self.of_network(name)
        return self._active.get(name)

    def _adopt(self, driver: ActiveDriver) -> Driver:
        """Two requests may find the same program at once; either's driver is as good."""
        with self._adopting:
            if driver.name not in self._drivers:
                self.register(driver)
            return self._drivers[driver.name]

    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self._drivers))


def _check_methods(driver: Driver, contract: type, methods: Iterable[str]) -> None:
    for method in methods:
        wanted = inspect.signature(getattr(contract, method))
        have = getattr(driver, method, None)
        if not callable(have) or len(inspect.signature(have).parameters) != len(wanted.parameters) - 1:
            raise InvalidParameter(
                f"driver {driver.name}: {method}{wanted} is missing or takes other arguments"
            )
