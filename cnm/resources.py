"""What every verb works with: the model, the store, the kernel, drivers, addresses, ports, locks and events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cnm.config import Settings
from cnm.driver import Driver, HostFacts, Registry
from cnm.errors import NotFound
from cnm.events import EventBus
from cnm.forwarding import THREW_IPV6, Needs, host_state, needs
from cnm.ipam import Ipam
from cnm.kernel.contract import Kernel
from cnm.kernel.reservations import Reservations
from cnm.kernel.state import KernelState
from cnm.locks import LockTable
from cnm.model import Model
from cnm.neighbours.worker import Neighbours
from cnm.network import Network
from cnm.relaying import Relaying
from cnm.store import Store


@dataclass
class Resources:
    """One per daemon."""

    settings: Settings
    store: Store
    kernel: Kernel
    registry: Registry
    ipams: Mapping[str, Ipam]
    reservations: Reservations
    relaying: Relaying
    model: Model = field(default_factory=Model)
    locks: LockTable = field(default_factory=LockTable)
    events: EventBus = field(default_factory=EventBus)
    facts: HostFacts = field(default_factory=HostFacts)
    neighbours: Neighbours = field(default_factory=Neighbours)
    host_state: KernelState = field(default_factory=KernelState)
    """What the host itself needs for the networks that exist; applied when it changes."""
    host_needed: Needs = field(default_factory=lambda: Needs(ipv4=False, ipv6=False))
    """What `host_state` was computed for."""

    def driver_of(self, network: Network) -> Driver:
        return self.registry.get(network.driver)

    def ipam_of(self, network: Network) -> Ipam:
        return self.ipam(network.ipam_driver)

    def ipam(self, name: str) -> Ipam:
        try:
            return self.ipams[name]
        except KeyError:
            known = ", ".join(sorted(self.ipams))
            raise NotFound(f'could not find ipam driver "{name}": known are {known}') from None

    def refresh_facts(self) -> None:
        """Read again what others may have changed on the host."""
        uplink = self.kernel.uplink()
        self.facts = HostFacts(
            uplink_mtu=uplink.mtu if uplink else 1500,
            bridge_nf_ipv4=self.kernel.sysctl("net/bridge/bridge-nf-call-iptables") == "1",
            bridge_nf_ipv6=self.kernel.sysctl("net/bridge/bridge-nf-call-ip6tables") == "1",
            force_forwarding=self.kernel.sysctl("net/ipv6/conf/lo/force_forwarding") is not None,
        )

    def host_needs(self) -> Needs:
        return needs(self.model.networks(), self.settings)

    def wanted_host_state(self) -> KernelState:
        """Forwarding for the networks that exist now, and what the firewall must know of the host."""
        threw = self.store.setting(THREW_IPV6) is not None
        state = host_state(self.kernel, self.host_needs(), self.facts, self.settings, threw_ipv6=threw)
        if not threw and any(sysctl.key == "net/ipv6/conf/all/forwarding" for sysctl in state.sysctls):
            self.store.remember(THREW_IPV6, "1")
        return state
