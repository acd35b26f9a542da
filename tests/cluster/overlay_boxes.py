"""Sandboxes in networks of a lab of hosts, as tests of overlay networks want them."""

from __future__ import annotations

import subprocess
from typing import Any

from tests.cluster.hosts import ClusterHost, ClusterLab, eventually


def create(lab: ClusterLab, name: str, **options: Any) -> str:
    """The network, once every host knows it."""
    ident = lab.h[1].cnmd.create_network(name, Driver="overlay", **options)
    for host in lab.h.values():
        eventually(lambda host=host: host.cnmd.request("GET", f"/networks/{name}")[0] == 200)
    return ident


def box(host: ClusterHost, name: str, network: str, **config: Any) -> str:
    """A sandbox in the network; its address."""
    host.cnmd.create_sandbox(name)
    return str(host.cnmd.connect(network, name, **config)["IPv4Address"]).partition("/")[0]


def inside(host: ClusterHost, name: str, *command: str) -> subprocess.CompletedProcess[str]:
    return host.cnmd.cnmctl("sandbox", "exec", name, *command)
