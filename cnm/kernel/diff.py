"""The difference between what is wanted and what was observed, as findings."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence

from cnm.kernel.state import (
    HOST,
    Finding,
    Group,
    KernelState,
    Link,
    Peer,
    Problem,
    Record,
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
        findings += _compare(state, have, _halves(state, {other.namespace for other in asked}, exists))
    return findings


def _halves(wanted: KernelState, asked: Container[str], exists: Mapping[str, KernelState]) -> frozenset[str]:
    """Names of the links whose other end is gone or called otherwise: they are worth nothing and made anew."""

    def is_there(peer: Peer) -> bool:
        inside = exists.get(peer.namespace, KernelState())
        return peer.namespace not in asked or any(link.name == peer.name for link in inside.links)

    return frozenset(link.name for link in wanted.links if link.peer and not is_there(link.peer))


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
    )


def _compare(wanted: KernelState, observed: KernelState, halves: Container[str]) -> list[Finding]:
    namespace = wanted.namespace
    findings = _compare_links(wanted, observed, halves)
    have_sysctls = {sysctl.key: sysctl for sysctl in observed.sysctls}
    for sysctl in wanted.sysctls:
        have = have_sysctls.get(sysctl.key)
        if have != sysctl:
            problem = Problem.CHANGED if have else Problem.MISSING
            findings.append(
                Finding(namespace, problem, sysctl, have, f"is {have.value if have else 'absent'}")
            )
    for pick in _SETS:
        have_records = frozenset(r for r in pick(observed) if getattr(r, "link", "") not in halves)
        findings += [Finding(namespace, Problem.MISSING, r) for r in pick(wanted) if r not in have_records]
    if namespace == HOST:
        for pick in (lambda state: state.neighbors, lambda state: state.elements):
            wanted_records = frozenset(pick(wanted))
            findings += [
                Finding(namespace, Problem.FOREIGN, observed=r)
                for r in pick(observed)
                if r not in wanted_records
            ]
    return findings


_SETS: tuple[Callable[[KernelState], Iterable[Record]], ...] = (
    lambda state: state.addresses,
    lambda state: state.routes,
    lambda state: state.neighbors,
    lambda state: state.fdb,
    lambda state: state.elements,
)


def _compare_links(wanted: KernelState, observed: KernelState, halves: Container[str]) -> list[Finding]:
    namespace = wanted.namespace
    have = {link.name: link for link in observed.links}
    findings = []
    for link in wanted.links:
        other = have.pop(link.name, None)
        if other is None:
            findings.append(Finding(namespace, Problem.MISSING, link))
        elif link.name in halves:
            findings.append(Finding(namespace, Problem.CHANGED, link, other, "its other end is gone"))
        elif detail := _changes(link, other):
            findings.append(Finding(namespace, Problem.CHANGED, link, other, detail))
    if namespace == HOST:
        findings += [
            Finding(namespace, Problem.FOREIGN, observed=link) for link in have.values() if is_ours(link)
        ]
    return findings


def is_ours(link: Link) -> bool:
    """Whether a link carries our mark and is not on its way out already."""
    return link.alias.startswith(MARK) and link.group != Group.REAP


def _changes(wanted: Link, have: Link) -> str:
    """What differs, in words; fields that `wanted` leaves open do not count."""
    words = []
    if wanted.kind is not have.kind and not wanted.taken_from:
        words.append(f"is a {have.kind.value}")
    for name in ("mac", "mtu", "master", "alias", "group"):
        value = getattr(wanted, name)
        if value and value != getattr(have, name):
            words.append(f"{name} is {getattr(have, name) or 'not set'}")
    if wanted.up and not have.up:
        words.append("is down")
    for name in ("isolated", "hairpin"):
        if wanted.master and getattr(wanted, name) != getattr(have, name):
            words.append(f"{name} is {'on' if getattr(have, name) else 'off'}")
    return ", ".join(words)
