"""Forwarding without opening the host: what the host's own interfaces need so that our networks reach the world.

IPv4 forwards what comes in by an interface whose own switch is on, so replies need it on every interface that is not
ours; IPv6 has such a switch (`force_forwarding`) from Linux 6.17 on, before that only one for all. Where a switch was
off and we throw it, the firewall drops what neither enters nor leaves a bridge of ours; where the host forwarded
already, the `routing` element says so and that traffic stays the administrator's affair.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from cnm.config import Settings
from cnm.driver import HostFacts
from cnm.firewall.elements import host_elements
from cnm.kernel.contract import Kernel
from cnm.kernel.state import KernelState, Sysctl
from cnm.network import Network

THREW_IPV6 = "threw-ipv6-forwarding"
"""Setting of the store: that it was us who switched IPv6 forwarding on for all interfaces."""


class Needs(NamedTuple):
    """The families that some network forwards."""

    ipv4: bool
    ipv6: bool


def needs(networks: Iterable[Network], settings: Settings) -> Needs:
    forwarding = [n for n in networks if settings.ip_forward and n.pools and not n.internal]
    return Needs(any(n.enable_ipv4 for n in forwarding), any(n.enable_ipv6 for n in forwarding))


def host_state(
    kernel: Kernel, needed: Needs, facts: HostFacts, settings: Settings, *, threw_ipv6: bool
) -> KernelState:
    """The sysctls of the host's interfaces and the host's firewall elements, for the networks that exist."""
    ipv4, ipv6 = needed
    ipv4_was_on = kernel.sysctl("net/ipv4/ip_forward") == "1"
    ipv6_was_on = kernel.sysctl("net/ipv6/conf/all/forwarding") == "1" and not threw_ipv6
    interfaces: Collection[str] = kernel.host_interfaces() if ipv4 or ipv6 else ()
    sysctls: list[Sysctl] = []
    if ipv4 and not ipv4_was_on:
        sysctls += (Sysctl(f"net/ipv4/conf/{name}/forwarding", "1") for name in interfaces)
    if ipv6 and not ipv6_was_on:
        sysctls += _ipv6(kernel, interfaces, facts)
    # Also without networks: a switch that was thrown for one stays on when it is deleted.
    drops_nothing = settings.ip_forward_no_drop or not settings.ip_forward
    elements = host_elements(
        routing_ipv4=ipv4_was_on or drops_nothing,
        routing_ipv6=ipv6_was_on or drops_nothing,
        bridge_nf_ipv6=facts.bridge_nf_ipv6,
    )
    return KernelState(sysctls=tuple(sysctls), elements=elements)


def _ipv6(kernel: Kernel, interfaces: Iterable[str], facts: HostFacts) -> Iterator[Sysctl]:
    if facts.force_forwarding:
        yield from (Sysctl(f"net/ipv6/conf/{name}/force_forwarding", "1") for name in interfaces)
        return
    for name in interfaces:
        # A router ignores advertisements unless told otherwise, and the host would lose its own default route.
        if kernel.sysctl(f"net/ipv6/conf/{name}/accept_ra") in ("1", "2"):
            yield Sysctl(f"net/ipv6/conf/{name}/accept_ra", "2")
    yield Sysctl("net/ipv6/conf/all/forwarding", "1")
