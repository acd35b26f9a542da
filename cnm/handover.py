"""What a driver wants of a sandbox of its own, adapted to one of dockerd's.

*Moved*: the link is made on the host under a name that dockerd is told; dockerd moves it into its sandbox, renames it
and gives it its addresses and routes. *Direct*: the link is made inside the sandbox, with its addresses; dockerd adds
the default routes. In both, what is on the host is the driver's as ever, and what is in a network's own namespace: the
other end of a pair whose one end stays there is made on the host.
"""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Iterator, Sequence

from cnm.endpoint import Endpoint
from cnm.kernel.diff import merge
from cnm.kernel.state import HOST, Address, Group, KernelState, Link, LinkKind, Route, Sysctl
from cnm.network import Network
from cnm.sandbox import Sandbox, SandboxKind, SandboxState

_ID_DIGITS = 12
NOWHERE = Sandbox(
    id="", name="", kind=SandboxKind.DOCKERD, netns="/nowhere", created="", state=SandboxState.ACTIVE
)
"""Stands for the sandbox of an endpoint that is in none: what is on the host does not depend on it."""


def source_name(endpoint: Endpoint) -> str:
    """What a moved link is called on the host, before dockerd moves it."""
    return f"cp{endpoint.id[:_ID_DIGITS]}"


def for_dockerd(
    states: Sequence[KernelState], network: Network, endpoint: Endpoint
) -> tuple[KernelState, ...]:
    """What a driver's `join_state` becomes in a sandbox of dockerd's."""
    if endpoint.moved:
        return tuple(_moved(states, endpoint))
    return tuple(state if _stays(state) else _direct(state, network) for state in states)


def departing(states: Sequence[KernelState]) -> tuple[KernelState, ...]:
    """What is to be removed when the endpoint leaves: dockerd brings a moved link back first."""
    return tuple(
        dataclasses.replace(state, links=tuple(link for link in state.links if not link.leaves))
        for state in states
    )


def given_up(states: Sequence[KernelState]) -> tuple[KernelState, ...]:
    """What is to be removed of a join that failed: dockerd was told of no link, and will bring none back."""
    return tuple(
        dataclasses.replace(state, links=tuple(map(_kept_from_dockerd, state.links))) for state in states
    )


def left_behind(states: Sequence[KernelState]) -> tuple[KernelState, ...]:
    """What may be left, on the host or in its network's namespace, of a moved link and its other end, once dockerd has
    brought it back."""
    return tuple(
        KernelState(
            namespace=state.namespace,
            links=tuple(_kept_from_dockerd(link) for link in state.links if _is_handed_over(link)),
            own=state.own,
        )
        for state in merge(states)
        if any(map(_is_handed_over, state.links))
    )


def tolerated(left: KernelState) -> KernelState:
    """The same as something that may be there or not, until dockerd deletes the endpoint: cut off, nobody's fault."""
    links = (
        dataclasses.replace(link, leaves=True, group=Group.LEFT if link.kind is LinkKind.VETH else link.group)
        for link in left.links
    )
    return dataclasses.replace(left, links=tuple(links))


def _stays(state: KernelState) -> bool:
    """Whether a state is of the host's namespace or of a network's, and not of the sandbox's."""
    return state.namespace == HOST or state.own


def _is_handed_over(link: Link) -> bool:
    return link.leaves or (link.peer is not None and link.peer.leaves)


def _kept_from_dockerd(link: Link) -> Link:
    if not _is_handed_over(link):
        return link
    return dataclasses.replace(link, leaves=False, peer=None)


def _moved(states: Sequence[KernelState], endpoint: Endpoint) -> Iterator[KernelState]:
    name = source_name(endpoint)
    for state in states:
        if _stays(state):
            yield dataclasses.replace(
                state, links=tuple(_with_leaving_peer(link, name) for link in state.links)
            )
        else:
            leaving = tuple(
                dataclasses.replace(link, name=name, group=Group.MOVED, up=False, leaves=True)
                for link in state.links
                if link.parent
            )
            yield KernelState(links=leaving)


def _with_leaving_peer(link: Link, name: str) -> Link:
    if link.peer is None:
        return link
    return dataclasses.replace(
        link, peer=dataclasses.replace(link.peer, namespace=HOST, name=name, leaves=True)
    )


def _direct(state: KernelState, network: Network) -> KernelState:
    """Addresses of full length, their subnet a route: after a live-restore start dockerd 29 takes every interface
    with an endpoint's address and prefix length for the endpoint's, and sets a sibling down. The kernel announces the
    addresses, which dockerd does only for links that it moves."""
    announced = [Sysctl(f"net/{key}", "1") for link in state.links for key in _announcing(link.name)]
    return dataclasses.replace(
        state,
        addresses=tuple(Address(a.link, _full_length(a.address)) for a in state.addresses),
        routes=(*(Route(_subnet(a.address), a.link) for a in state.addresses), *state.routes),
        sysctls=(*state.sysctls, *announced),
    )


def _announcing(interface: str) -> tuple[str, str]:
    return f"ipv4/conf/{interface}/arp_notify", f"ipv6/conf/{interface}/ndisc_notify"


def _full_length(cidr: str) -> str:
    address = cidr.partition("/")[0]
    return f"{address}/{128 if ':' in address else 32}"


def _subnet(cidr: str) -> str:
    return str(ipaddress.ip_interface(cidr).network)
