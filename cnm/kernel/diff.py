"""The difference between what is wanted and what was observed, as findings."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from cnm.kernel.state import (
    HOST,
    Finding,
    Group,
    KernelState,
    Link,
    LinkKind,
    Peer,
    Problem,
    Record,
    Sysctl,
    Vxlan,
)

MARK = "cnm:"
"""What the alias of every link of ours starts with."""


def diff(wanted: Sequence[KernelState], observed: Sequence[KernelState]) -> list[Finding]:
    """What is missing or changed of `wanted`, and what of ours in the host's namespace nothing wants."""
    exists = {state.namespace: state for state in merge(observed)}
    asked = merge(wanted)
    findings: list[Finding] = []
    for state in asked:
        have = exists.get(state.namespace, KernelState(namespace=state.namespace))
        halves = _halves(state, {other.namespace for other in asked}, exists)
        findings += _compare(state, have, halves)
    return findings


def _halves(wanted: KernelState, asked: Container[str], exists: Mapping[str, KernelState]) -> frozenset[str]:
    """Names of the links whose other end is gone or called otherwise: they are worth nothing and made anew."""

    def is_there(peer: Peer) -> bool:
        inside = exists.get(peer.namespace, KernelState())
        return peer.namespace not in asked or any(link.name == peer.name for link in inside.links)

    return frozenset(
        link.name for link in wanted.links if link.peer and not link.peer.leaves and not is_there(link.peer)
    )


def is_another(wanted: Link, have: Link) -> bool:
    """Whether a sub-interface stands elsewhere or is of another sort, or a VXLAN device of another tunnel: it cannot be
    changed, only made anew."""
    if wanted.vxlan and have.vxlan:
        return _tunnel(wanted.vxlan) != _tunnel(have.vxlan)
    return bool(wanted.parent) and (wanted.kind, wanted.mode, wanted.parent) != (
        have.kind,
        have.mode,
        have.parent,
    )


def _tunnel(vxlan: Vxlan) -> tuple[int, int, bool]:
    """What the kernel does not change of a device: the local address may become another of its family."""
    return vxlan.vni, vxlan.port, ":" in vxlan.local


def merge(states: Iterable[KernelState]) -> tuple[KernelState, ...]:
    """One state a namespace, the host's first, records in the order they came in."""
    by_namespace: dict[str, list[KernelState]] = {HOST: []}
    for state in states:
        by_namespace.setdefault(state.namespace, []).append(state)
    return tuple(_concatenate(namespace, parts) for namespace, parts in by_namespace.items())


def _concatenate(namespace: str, parts: list[KernelState]) -> KernelState:
    return KernelState(
        namespace=namespace,
        links=tuple(r for p in parts for r in p.links),
        addresses=tuple(r for p in parts for r in p.addresses),
        routes=tuple(r for p in parts for r in p.routes),
        neighbors=tuple(r for p in parts for r in p.neighbors),
        fdb=tuple(r for p in parts for r in p.fdb),
        sysctls=tuple(r for p in parts for r in p.sysctls),
        elements=tuple(r for p in parts for r in p.elements),
        own=any(p.own for p in parts),
    )


def _compare(wanted: KernelState, observed: KernelState, halves: Container[str]) -> list[Finding]:
    namespace = wanted.namespace
    findings = _compare_links(wanted, observed, halves)
    anew = {f.wanted.name for f in findings if isinstance(f.wanted, Link) and _is_made_anew(f, halves)}
    have_sysctls = {sysctl.key: sysctl for sysctl in observed.sysctls if link_of(sysctl) not in anew}
    for sysctl in wanted.sysctls:
        have = have_sysctls.get(sysctl.key)
        if have != sysctl:
            problem = Problem.CHANGED if have else Problem.MISSING
            findings.append(
                Finding(namespace, problem, sysctl, have, f"is {have.value if have else 'absent'}")
            )
    for pick in _SETS:
        have_records = frozenset(r for r in pick(observed) if link_of(r) not in anew)
        findings += [Finding(namespace, Problem.MISSING, r) for r in pick(wanted) if r not in have_records]
    if namespace == HOST:
        for pick in (lambda state: state.neighbors, lambda state: state.elements):
            wanted_records = frozenset(pick(wanted))
            findings += [
                Finding(namespace, Problem.FOREIGN, observed=r)
                for r in pick(observed)
                if r not in wanted_records
            ]
    return [replace(finding, own=True) for finding in findings] if wanted.own else findings


_SETS: tuple[Callable[[KernelState], Iterable[Record]], ...] = (
    lambda state: state.addresses,
    lambda state: state.routes,
    lambda state: state.neighbors,
    lambda state: state.fdb,
    lambda state: state.elements,
)


def link_of(record: Record | None) -> str:
    """The name of the link that a record is, or is on; "" for others."""
    if isinstance(record, Link):
        return record.name
    if isinstance(record, Sysctl):
        return record.key.partition("/conf/")[2].rpartition("/")[0]
    return getattr(record, "link", "")


def _is_made_anew(finding: Finding, halves: Container[str]) -> bool:
    """Whether what is on the link now goes with it when the finding is mended."""
    link, have = finding.wanted, finding.observed
    if not isinstance(link, Link) or not isinstance(have, Link):
        return False
    return link.name in halves or is_another(link, have)


def _compare_links(wanted: KernelState, observed: KernelState, halves: Container[str]) -> list[Finding]:
    namespace = wanted.namespace
    have = {link.name: link for link in observed.links}
    findings = []
    for link in dict.fromkeys(wanted.links):  # networks may share one
        if link.leaves:
            if link.name in have and _has_left(link, have[link.name]):
                del have[link.name]
            continue
        other = have.pop(link.name, None)
        if other is None:
            detail = f"was {link.taken_from} of another program" if link.taken_from else ""
            findings.append(Finding(namespace, Problem.MISSING, link, detail=detail))
        elif link.name in halves:
            findings.append(Finding(namespace, Problem.CHANGED, link, other, "its other end is gone"))
        elif detail := _changes(link, other):
            findings.append(Finding(namespace, Problem.CHANGED, link, other, detail))
    orphaned = is_ours if namespace == HOST else is_ours_alone if wanted.own else is_ours_inside
    findings += [
        Finding(namespace, Problem.FOREIGN, observed=link) for link in have.values() if orphaned(link)
    ]
    return findings


def _has_left(wanted: Link, have: Link) -> bool:
    """Whether a link that may be there is the one that is meant; what was to be cut off must be."""
    return have.alias == wanted.alias and (wanted.group != Group.LEFT or have.group == Group.LEFT)


def is_ours_inside(link: Link) -> bool:
    """Whether a link of a sandbox is one that we made in it, marked already or not.

    Its kind and its group say so: ends of pairs are judged by their host's ends, and in a namespace that somebody gave
    us another daemon may have bridges and ports of its own.
    """
    return link.kind in (LinkKind.MACVLAN, LinkKind.IPVLAN) and link.group == Group.SUB_INTERFACE


def is_ours_alone(link: Link) -> bool:
    """Whether a link of a network's namespace is ours, marked already or not."""
    return is_ours(link) or link.group == Group.SEGMENT


def is_ours(link: Link) -> bool:
    """Whether a link carries our mark and is not on its way out already."""
    return link.alias.startswith(MARK) and link.group != Group.REAP


def _changes(wanted: Link, have: Link) -> str:
    """What differs, in words; fields that `wanted` leaves open do not count."""
    words = []
    if wanted.kind is not have.kind and not wanted.taken_from:
        words.append(f"is a {have.kind.value}")
    for name in ("mac", "mtu", "master", "alias", "group", "parent", "mode"):
        value = getattr(wanted, name)
        if value and value != getattr(have, name):
            words.append(f"{name} is {getattr(have, name) or 'not set'}")
    if wanted.vxlan and have.vxlan:
        words += _tunnel_changes(wanted.vxlan, have.vxlan)
    if wanted.up and not have.up:
        words.append("is down")
    for name in ("isolated", "hairpin"):
        if wanted.master and getattr(wanted, name) != getattr(have, name):
            words.append(f"{name} is {'on' if getattr(have, name) else 'off'}")
    return ", ".join(words)


def _tunnel_changes(wanted: Vxlan, have: Vxlan) -> Iterator[str]:
    for name in ("vni", "local", "port"):
        if getattr(wanted, name) != getattr(have, name):
            yield f"{name} is {getattr(have, name) or 'not set'}"
    if wanted.learning != have.learning:
        yield f"learning is {'on' if have.learning else 'off'}"
