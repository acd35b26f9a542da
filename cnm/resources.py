"""What every verb works with: the model, the store, the kernel, drivers, addresses, ports, locks and events."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import msgspec

from cnm.afterwork import Afterwork
from cnm.cluster.cluster import Cluster
from cnm.cluster.home import Home
from cnm.config import Settings
from cnm.driver import Driver, HostFacts, Registry
from cnm.encryption import Encryption, Way
from cnm.errors import NotFound
from cnm.events import EventBus
from cnm.forwarding import THREW_IPV6, Needs, host_state, needs
from cnm.ipam import GivenIpam, Ipam, RemoteIpam
from cnm.kernel.contract import Kernel
from cnm.kernel.reservations import Reservations
from cnm.kernel.state import FirewallElement, KernelState
from cnm.locks import LockTable
from cnm.model import Model
from cnm.naming import Naming
from cnm.neighbours.worker import Neighbours
from cnm.network import Network, Owner
from cnm.participation import Participation
from cnm.relaying import Relaying
from cnm.sandbox_files import SandboxFiles
from cnm.store import Store
from cnm.wire.plugin_client import Plugins

_GIVEN = GivenIpam()


@dataclass
class Resources:
    """One per daemon."""

    settings: Settings
    store: Store
    kernel: Kernel
    registry: Registry
    ipams: dict[str, Ipam]
    """The built-in ones, and the plugins that networks have used."""
    reservations: Reservations
    relaying: Relaying
    naming: Naming
    cluster: Cluster
    encrypting: Way
    """How this host encrypts."""
    plugins: Plugins | None = None
    """Other people's, where cnm is to use them."""
    afterwork: Afterwork = field(default_factory=Afterwork)
    model: Model = field(default_factory=Model)
    locks: LockTable = field(default_factory=LockTable)
    events: EventBus = field(default_factory=EventBus)
    facts: HostFacts = field(default_factory=HostFacts)
    neighbours: Neighbours = field(default_factory=Neighbours)
    host_state: KernelState = field(default_factory=KernelState)
    """What the host itself needs for the networks that exist; applied when it changes."""
    host_needed: Needs = field(default_factory=lambda: Needs(ipv4=False, ipv6=False))
    """What `host_state` was computed for."""
    cluster_ends: tuple[str, ...] = ()
    """Where tunnels of the cluster's nodes end, when it last answered."""
    cluster_elements: tuple[FirewallElement, ...] = ()
    """What the firewall was told of the cluster."""
    warners: list[Callable[[], Iterable[str]]] = field(default_factory=list)
    """Who else has something to warn of in `cnmctl status`, one line each."""
    participation: Participation = field(default_factory=Participation)
    files: SandboxFiles = field(init=False)
    encryption: Encryption = field(init=False)

    def __post_init__(self) -> None:
        self.files = SandboxFiles(self.settings, self.kernel, self.model)
        self.encryption = Encryption(
            self.store,
            self.cluster,
            self.locks.verbs,
            str(Home(self.settings.root).wireguard_keys),
            self.settings.wireguard_port,
            self.encrypting,
        )

    def driver_of(self, network: Network) -> Driver:
        return self.registry.of_network(network.driver)

    def facts_for(self, driver: Driver) -> HostFacts:
        """With the host's interfaces where the driver's networks stand on one."""
        if not driver.capabilities.on_parent:
            return self.facts
        return msgspec.structs.replace(self.facts, interfaces=dict(self.kernel.host_interfaces()))

    def told_of(self, network: Network) -> list[Network]:
        """The other networks that its driver is told of when it is created."""
        others = [n for n in self.model.networks() if n.id != network.id]
        if self.driver_of(network).capabilities.on_parent:
            return [n for n in others if self.driver_of(n).capabilities.on_parent]
        return [n for n in others if n.driver == network.driver]

    def sharing(self, network: Network) -> AbstractContextManager[object]:
        """Held while a network that may share its parent with others is created or deleted."""
        return self.locks.parents if self.driver_of(network).capabilities.on_parent else nullcontext()

    def ipam_of(self, network: Network) -> Ipam:
        if network.owner is Owner.DOCKERD and network.ipam_driver != "null":
            return _GIVEN
        if network.ipam_driver == "default" and self.driver_of(network).capabilities.clustered:
            return self.cluster.ipam
        return self.ipam(network.ipam_driver)

    def ipam(self, name: str) -> Ipam:
        """The IPAM of a network that exists: nobody is contacted. Raises NotFound."""
        if name not in self.ipams:
            if self.plugins is None:
                raise self._unknown_ipam(name)
            self.ipams.setdefault(name, RemoteIpam(name, self.plugins))
        return self.ipams[name]

    def find_ipam(self, name: str) -> None:
        """Make sure that a new network can have this IPAM: a plugin of the name is looked for. Raises NotFound."""
        if name in self.ipams:
            return
        if self.plugins is None:
            raise self._unknown_ipam(name)
        found = RemoteIpam(name, self.plugins)
        try:
            found.capabilities()
        except NotFound:
            raise self._unknown_ipam(name) from None
        self.ipams.setdefault(name, found)

    def _unknown_ipam(self, name: str) -> NotFound:
        known = ", ".join(sorted(self.ipams))
        return NotFound(f'could not find ipam driver "{name}": known are {known}')

    def refresh_facts(self) -> None:
        """Read again what others may have changed on the host."""
        uplink = self.kernel.uplink()
        self.facts = HostFacts(
            uplink_mtu=uplink.mtu if uplink else 1500,
            bridge_nf_ipv4=self.kernel.sysctl("net/bridge/bridge-nf-call-iptables") == "1",
            bridge_nf_ipv6=self.kernel.sysctl("net/bridge/bridge-nf-call-ip6tables") == "1",
            force_forwarding=self.kernel.sysctl("net/ipv6/conf/lo/force_forwarding") is not None,
            netns=self.settings.netns,
            underlay=self.cluster.underlay,
        )

    def host_needs(self) -> Needs:
        routed = [n for n in self.model.networks() if self.driver_of(n).capabilities.routed_by_host]
        return needs(routed, self.settings)

    def wanted_host_state(self) -> KernelState:
        """Forwarding for the networks that exist now, and what the firewall must know of the host."""
        threw = self.store.setting(THREW_IPV6) is not None
        state = host_state(self.kernel, self.host_needs(), self.facts, self.settings, threw_ipv6=threw)
        if not threw and any(sysctl.key == "net/ipv6/conf/all/forwarding" for sysctl in state.sysctls):
            self.store.remember(THREW_IPV6, "1")
        return state
