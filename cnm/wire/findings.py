"""Findings of doctor as short text: what kind of kernel record, and which one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cnm.kernel import state
from cnm.wire import control

RECORDS: dict[type[state.Record], tuple[str, Callable[[Any], str]]] = {
    state.Namespace: ("namespace", lambda r: r.path),
    state.Link: ("link", lambda r: r.name),
    state.Address: ("address", lambda r: f"{r.address} on {r.link}"),
    state.Route: ("route", lambda r: r.destination + (f" via {r.via}" if r.via else "") + f" on {r.link}"),
    state.Neighbor: ("neighbor", lambda r: f"{r.address} at {r.mac} on {r.link}"),
    state.FdbEntry: ("fdb", lambda r: r.mac + (f" to {r.remote}" if r.remote else "") + f" on {r.link}"),
    state.Sysctl: ("sysctl", lambda r: r.key),
    state.FirewallElement: (
        "element",
        lambda r: f"{r.set.family} cnm {r.set.name} {{ {' . '.join(map(str, r.key))} }}",
    ),
    state.FirewallTable: ("table", lambda r: f"{r.family} {r.name}"),
    state.HostPort: ("port", lambda r: f"{r.protocol} {r.address or '*'}:{r.port}"),
    state.NameServer: ("dns", lambda r: r.address),
    state.SandboxFile: ("file", lambda r: r.path),
}
"""The name of each kind of kernel record, and how one of them is written in a line."""


def finding(difference: state.Finding) -> control.Finding:
    """One difference between what is wanted and what exists."""
    record = difference.wanted or difference.observed
    kind, describe = RECORDS[type(record)] if record else ("", str)
    return control.Finding(
        namespace=difference.namespace,
        kind=kind,
        problem=difference.problem.value,
        object=describe(record) if record else "",
        detail=difference.detail,
    )
