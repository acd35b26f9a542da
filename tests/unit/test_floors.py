"""Imports only point down the house: a table says who may know whom, and every module is read against it."""

from __future__ import annotations

import ast
import configparser
import graphlib
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

_CHECKOUT = Path(__file__).parents[2]

_GROUND = ("errors", "config", "log_format", "service_manager", "daemon_process")
_NOUNS = (
    *("network", "endpoint", "sandbox", "lease", "driver", "events", "names", "mac", "ports", "gateway"),
    *("hosts_file", "resolv_conf", "ignored_files"),
)
_VERBS = (
    *("controller", "network_verbs", "endpoint_verbs", "sandbox_verbs", "doctor", "recovery", "overview"),
    *("resources", "wanted", "model", "locks", "forwarding", "relaying", "naming", "record_verbs"),
    "sandbox_files",
    *("external", "external_start", "afterwork"),
    *("clustered", "cluster_guard", "own_node", "segments", "participation", "egress", "hearing"),
    "encryption",
    *("probe", "paths", "pinging", "peering", "rounds", "audit", "cluster_health", "cluster_warnings"),
    *("stand_ins", "dockerd_ipam", "visitors"),
    *("dockerd_verbs", "handover", "leases", "stale"),
)
_FLOORS = (
    _GROUND,
    ("kernel.state",),
    _NOUNS,
    ("wire", "store", "kernel", "sidecar"),
    ("relay", "resolver"),
    ("ipam", "firewall", "neighbours", "relays", "resolvers"),
    ("cluster",),
    ("drivers",),
    _VERBS,
    ("http",),
    ("api", "plugin", "watcher", "collector", "claim", "membership"),
    ("daemon",),
)
"""From the ground up: a part may import all floors below it. Drivers emit the firewall's elements."""

_ROOMS = (_GROUND, _NOUNS, _VERBS)
"""Floors that are one room, whose parts may import each other."""

_APART = {
    "cli": {"wire", "errors", "ignored_files"},
    "sidecar": {"errors"},
    "relay": {"errors", "config", "sidecar"},
    "resolver": {"errors", "sidecar"},
    "plugin.snapshots": {
        *("wire", "errors", "config", "http", "log_format", "service_manager", "daemon_process"),
        "plugin",
    },
    "launcher": {
        *("wire", "errors", "config", "events", "http", "api", "service_manager", "daemon_process"),
        *("kernel", "neighbours", "store", "hosts_file", "ignored_files"),
        "cluster",  # who this node is, and its certificate: other hosts' launchers are asked with that
    },
}
"""Processes of their own, and all that they may import."""

_NARROWER = {"kernel": {"errors", "config", "kernel.state", "endpoint", "ports"}}
"""The kernel layer knows nothing of networks and sandboxes; the ports that it reserves are an endpoint's."""

_ONLY_IN = {
    "flask": {"api", "launcher"},
    "werkzeug": {"api"},
    "cheroot": {"http"},
    "pyroute2": set(),
    "nftables": {"kernel"},
    "ctypes": {"kernel", "cli", "sidecar", "relay", "resolver"},
    "jeepney": {"neighbours"},
    "grpc": {"cluster"},
    "google": {"cluster"},
    "cryptography": {"cluster"},
    "sqlite3": {"store"},
}
"""Packages that show where an effect lives."""


def _modules() -> Iterator[tuple[str, Path]]:
    for name, folder in (("cnm", "cnm"), ("cnm.drivers", "drivers"), ("cnm.plugin", "plugin")):
        for path in sorted((_CHECKOUT / folder).rglob("*.py")):
            inner = path.relative_to(_CHECKOUT / folder).with_suffix("").parts
            yield ".".join((name, *(part for part in inner if part != "__init__"))), path


def _imports(source: str) -> Iterator[str]:
    """The dotted names that `source` imports, wherever in it; a name taken from a module is one inside it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _part(name: str) -> str:
    """The part of the house that a dotted name below `cnm` belongs to; "" for the package itself."""
    inner = name.split(".")[1:]
    if inner[:2] in (["kernel", "state"], ["plugin", "snapshots"]):
        return ".".join(inner[:2])
    return inner[0] if inner and not inner[0].startswith("_") else ""


def _may_import(part: str) -> set[str]:
    if part in _APART:
        return _APART[part] | {part}
    floor = next((n for n, parts in enumerate(_FLOORS) if part in parts), None)
    assert floor is not None, f"cnm.{part} stands on no floor: give it one in {Path(__file__).name}"
    below = {other for parts in _FLOORS[:floor] for other in parts}
    room = set(_FLOORS[floor]) if _FLOORS[floor] in _ROOMS else {part}
    return _NARROWER.get(part, below) | room


def _drivers() -> set[str]:
    settings = configparser.ConfigParser()
    settings.read(_CHECKOUT / "setup.cfg")
    points = settings["options.entry_points"]["cnm.drivers"].strip().splitlines()
    return {point.split("=")[1].split(":")[0].strip() for point in points}


def _complaints(module: str, source: str) -> list[str]:
    part = _part(module)
    return [
        f"{module} imports {name}"
        for name in _imports(source)
        if (_points_up(part, name) if name.split(".")[0] == "cnm" else _is_elsewhere(part, name))
        or _is_another_driver(module, name)
    ]


def _points_up(part: str, name: str) -> bool:
    return bool(part) and _part(name) not in ("", *_may_import(part))


def _is_elsewhere(part: str, name: str) -> bool:
    package = name.split(".")[0]
    return package in _ONLY_IN and part not in _ONLY_IN[package]


def _is_another_driver(module: str, name: str) -> bool:
    def driver(dotted: str) -> str:
        return next((known for known in _drivers() if f"{dotted}.".startswith(f"{known}.")), "")

    return bool(driver(module) and driver(name)) and driver(module) != driver(name)


@pytest.mark.parametrize(
    ("module", "path"), list(_modules()), ids=lambda value: str(value) if isinstance(value, str) else ""
)
def test_module_imports_only_from_below(module: str, path: Path) -> None:
    assert _complaints(module, path.read_text()) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("cnm.drivers.bridge", "import cnm.controller"),
        ("cnm.drivers.bridge", "from cnm.drivers.host import HostDriver"),
        ("cnm.drivers.bridge", "from cnm.drivers import null"),
        ("cnm.drivers.bridge", "def late():\n    from flask import request"),
        ("cnm.kernel.linux", "from cnm.network import Network"),
        ("cnm.kernel.linux", "from cnm.sandbox import Sandbox"),
        ("cnm.network", "from cnm.kernel.linux import LinuxKernel"),
        ("cnm.network", "from cnm import kernel"),
        ("cnm.controller", "from cnm.api.app import create_app"),
        ("cnm.ipam.pools", "import pyroute2.iproute"),
        ("cnm.plugin.snapshots.volumes", "from cnm.network import Network"),
        ("cnm.launcher.rootfs", "import ctypes"),
        ("cnm.ipam.pools", "from cnm.firewall import elements"),
        ("cnm.cli.network", "from cnm.network import Network"),
        ("cnm.relay.main", "from cnm.kernel.state import HOST"),
        ("cnm.errors", "from cnm.kernel.state import HOST"),
    ],
)
def test_an_import_that_points_up_is_found(module: str, source: str) -> None:
    assert len(_complaints(module, source)) == 1


def test_no_imports_go_in_circles() -> None:
    modules = dict(_modules())
    known = {
        module: {_longest(name, modules.keys()) for name in _imports(path.read_text())} - {module, ""}
        for module, path in modules.items()
    }

    graphlib.TopologicalSorter(known).prepare()


def _longest(name: str, modules: Collection[str]) -> str:
    """The module that an imported name is, or is taken from."""
    while name and name not in modules:
        name = name.rpartition(".")[0]
    return name


def test_nouns_may_hold_pure_kernel_records() -> None:
    assert _complaints("cnm.driver", "from cnm.kernel.state import KernelState") == []
