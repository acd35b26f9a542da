"""Read a topology from a TOML file, or from tables of the same shape, into a `TopologySpec`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from netns_fixtures.errors import TopologyError
from netns_fixtures.spec import BridgeSpec, EndSpec, HostSpec, LinkSpec, RouteSpec, TopologySpec


def load(path: str | Path) -> TopologySpec:
    """The topology described by a TOML file; TopologyError names the file and what is wrong in it."""
    try:
        tables = tomllib.loads(Path(path).read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise TopologyError(f"topology file {path}: cannot be read: {error}") from error
    try:
        return parse(tables)
    except TopologyError as error:
        raise TopologyError(f"topology file {path}: {error}") from error


def parse(tables: Mapping[str, Any]) -> TopologySpec:
    """The topology described by tables as a TOML file holds them."""
    _known_keys(tables, TopologySpec, "the topology")
    hosts = _table(tables, "hosts", "the topology")
    links = _list(tables, "links", "the topology")
    return TopologySpec(
        hosts={name: _host(table, f'host "{name}"') for name, table in hosts.items()},
        links=tuple(_link(table, f"link {number}") for number, table in enumerate(links, 1)),
    )


def _host(table: Any, where: str) -> HostSpec:
    _known_keys(table, HostSpec, where)
    bridges = _table(table, "bridges", where)
    return HostSpec(
        uplink=_value(table, "uplink", str, where, ""),
        forward=_value(table, "forward", bool, where, False),
        loopback=_strings(table, "loopback", where),
        bridges={name: _bridge(bridge, f'{where}: bridge "{name}"') for name, bridge in bridges.items()},
        routes=tuple(_route(route, where) for route in _list(table, "routes", where)),
        sysctls=_sysctls(_table(table, "sysctls", where), where),
    )


def _bridge(table: Any, where: str) -> BridgeSpec:
    _known_keys(table, BridgeSpec, where)
    return BridgeSpec(
        addresses=_strings(table, "addresses", where),
        mac=_value(table, "mac", str, where, ""),
        mtu=_value(table, "mtu", int, where, 0),
    )


def _route(table: Any, where: str) -> RouteSpec:
    where = f"{where}: route"
    _known_keys(table, RouteSpec, where)
    return RouteSpec(
        destination=_value(table, "destination", str, where),
        via=_value(table, "via", str, where, ""),
        interface=_value(table, "interface", str, where, ""),
    )


def _sysctls(table: Mapping[str, Any], where: str) -> dict[str, str | int]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            raise TopologyError(f'{where}: sysctl "{key}" is a table; put quotes around the whole key')
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise TopologyError(f'{where}: sysctl "{key}" must be a string or a whole number')
    return dict(table)


def _link(table: Any, where: str) -> LinkSpec:
    _known_keys(table, LinkSpec, where)
    ends = tuple(_end(end, where) for end in _list(table, "ends", where))
    if len(ends) != 2:
        raise TopologyError(f"{where}: has {len(ends)} ends; give exactly two under `ends`")
    return LinkSpec(ends=ends, mtu=_value(table, "mtu", int, where, 0))


def _end(table: Any, where: str) -> EndSpec:
    where = f"{where}: end"
    _known_keys(table, EndSpec, where)
    return EndSpec(
        host=_value(table, "host", str, where),
        interface=_value(table, "interface", str, where),
        addresses=_strings(table, "addresses", where),
        bridge=_value(table, "bridge", str, where, ""),
        mac=_value(table, "mac", str, where, ""),
    )


def _known_keys(table: Any, kind: type, where: str) -> None:
    if not isinstance(table, Mapping):
        raise TopologyError(f"{where}: must be a table, not {table!r}")
    known = [field.name for field in fields(kind)]
    for key in table:
        if key not in known:
            raise TopologyError(f'{where}: unknown key "{key}"; known keys are {", ".join(known)}')


def _value(table: Mapping[str, Any], key: str, kind: type, where: str, default: Any = None) -> Any:
    if key not in table and default is None:
        raise TopologyError(f'{where}: "{key}" is missing')
    value = table.get(key, default)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        names = {str: "a string", int: "a whole number", bool: "true or false"}
        raise TopologyError(f'{where}: "{key}" must be {names[kind]}, not {value!r}')
    return value


def _strings(table: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    values = _list(table, key, where)
    if not all(isinstance(value, str) for value in values):
        raise TopologyError(f'{where}: "{key}" must be a list of strings')
    return tuple(values)


def _list(table: Mapping[str, Any], key: str, where: str) -> list[Any]:
    value = table.get(key, [])
    if not isinstance(value, list | tuple):
        raise TopologyError(f'{where}: "{key}" must be a list, not {value!r}')
    return list(value)


def _table(table: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    value = table.get(key, {})
    if not isinstance(value, Mapping):
        raise TopologyError(f'{where}: "{key}" must be a table, not {value!r}')
    return value
