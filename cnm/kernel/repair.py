"""Turns findings into the states to apply and the states to remove."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence

from cnm.kernel.diff import link_of
from cnm.kernel.state import (
    HOST,
    Address,
    FdbEntry,
    Finding,
    FirewallElement,
    KernelState,
    Link,
    Neighbor,
    Problem,
    Record,
    Route,
    Sysctl,
)


def split_findings(findings: Sequence[Finding]) -> tuple[tuple[KernelState, ...], tuple[KernelState, ...]]:
    """(what to apply, what to remove), the host's namespace first; without links that stay away and what is on them."""
    wanted: dict[str, list[Record]] = {HOST: []}
    foreign: dict[str, list[Record]] = {HOST: []}
    away = {(f.namespace, f.wanted.name) for f in findings if isinstance(f.wanted, Link) and _stays_away(f)}
    for finding in findings:
        if away and (finding.namespace, link_of(finding.wanted)) in away:
            continue
        if finding.wanted is not None:
            wanted.setdefault(finding.namespace, []).append(finding.wanted)
        elif finding.problem is Problem.FOREIGN and finding.observed is not None:
            foreign.setdefault(finding.namespace, []).append(finding.observed)
    own = {finding.namespace for finding in findings if finding.own}
    return _states(wanted, own), _states(foreign, own)


def _stays_away(finding: Finding) -> bool:
    """Of what was made for another program, nothing is made again: it would not take it a second time."""
    link = finding.wanted
    if not isinstance(link, Link):
        return False
    taken = link.peer is not None and link.peer.leaves
    return link.leaves or (taken and finding.problem is Problem.MISSING)


def _states(by_namespace: dict[str, list[Record]], own: Container[str]) -> tuple[KernelState, ...]:
    return tuple(
        state_of(namespace, records, own=namespace in own) for namespace, records in by_namespace.items()
    )


def state_of(namespace: str, records: Iterable[Record], *, own: bool = False) -> KernelState:
    """Records of any kind grouped into a state."""
    records = tuple(records)
    return KernelState(
        namespace=namespace,
        links=tuple(r for r in records if isinstance(r, Link)),
        addresses=tuple(r for r in records if isinstance(r, Address)),
        routes=tuple(r for r in records if isinstance(r, Route)),
        neighbors=tuple(r for r in records if isinstance(r, Neighbor)),
        fdb=tuple(r for r in records if isinstance(r, FdbEntry)),
        sysctls=tuple(r for r in records if isinstance(r, Sysctl)),
        elements=tuple(r for r in records if isinstance(r, FirewallElement)),
        own=own,
    )
