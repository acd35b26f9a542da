"""The state of the host and the daemon in a few lines: what `cnmctl status` shows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import cnm
from cnm.kernel.contract import Kernel
from cnm.resources import Resources
from cnm.wire.control import Families, Neighbour, Status, Uplink


def status(resources: Resources, warnings: Iterable[str] = ()) -> Status:
    """`warnings` are those of others."""
    resources.refresh_facts()
    facts, model = resources.facts, resources.model
    uplink = resources.kernel.uplink()
    return Status(
        version=cnm.__version__,
        networks=len(model.networks()),
        endpoints=len(model.endpoints()),
        sandboxes=len(model.sandboxes()),
        ports=sum(port.count for endpoint in model.endpoints() for port in endpoint.ports),
        bridge_netfilter=Families(ipv4=facts.bridge_nf_ipv4, ipv6=facts.bridge_nf_ipv6),
        forwarding=_forwarding(resources.kernel),
        uplink=Uplink(name=uplink.name if uplink else "", mtu=uplink.mtu if uplink else 0),
        neighbours=[
            Neighbour(name=each.name, state=each.state, detail=each.detail)
            for each in resources.neighbours.reports()
        ],
        warnings=[*_warnings(resources), *warnings],
    )


def _forwarding(kernel: Kernel) -> Families:
    """Whether the host forwards on every interface, by the administrator's or another program's choice."""
    return Families(
        ipv4=kernel.sysctl("net/ipv4/ip_forward") == "1",
        ipv6=kernel.sysctl("net/ipv6/conf/all/forwarding") == "1",
    )


def _warnings(resources: Resources) -> Iterator[str]:
    facts = resources.facts
    families = [name for name, on in (("IPv4", facts.bridge_nf_ipv4), ("IPv6", facts.bridge_nf_ipv6)) if on]
    if families:
        yield (
            f"br_netfilter is on for {' and '.join(families)}: networks without ICC are kept apart in the forward "
            "chain instead of by isolated ports"
        )
    if facts.bridge_nf_ipv6:
        yield "br_netfilter is on for IPv6: published ports on [::1] are relayed, their client's address is lost"
    if resources.kernel.uplink() is None:
        yield "the host has no default route: sandboxes reach only what is routed from here"
    for mapping in resources.reservations.lost():
        yield f"port {mapping.host_port}/{mapping.protocol.value} was taken by another program: cnmctl doctor"
    for report in resources.neighbours.reports():
        yield from report.warnings
    for warner in resources.warners:
        yield from warner()
