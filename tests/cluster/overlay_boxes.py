"""Sandboxes in networks of a lab of hosts, as tests of overlay networks want them."""

from __future__ import annotations

import subprocess
from typing import Any, NamedTuple

from netns_fixtures.namespace import Namespace
from tests.cluster.hosts import ClusterHost, ClusterLab, eventually


class Box(NamedTuple):
    """A sandbox in one network."""

    host: ClusterHost
    name: str
    address: str
    mac: str
    space: Namespace

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return self.host.cnmd.cnmctl("sandbox", "exec", self.name, *command)

    def pings(self, target: str, *options: str) -> bool:
        """Whether one of `target`, an address or a name, answers."""
        return self.run("ping", "-c1", "-W2", *options, target).returncode == 0


def create(lab: ClusterLab, name: str, **options: Any) -> str:
    """The network, once every host knows it."""
    ident = lab.h[1].cnmd.create_network(name, Driver="overlay", **options)
    for host in lab.h.values():
        eventually(lambda host=host: host.cnmd.request("GET", f"/networks/{name}")[0] == 200)
    return ident


def box(host: ClusterHost, name: str, network: str) -> Box:
    made = host.cnmd.create_sandbox(name)
    endpoint = host.cnmd.connect(network, name)
    address = str(endpoint["IPv4Address"]).partition("/")[0]
    return Box(host, name, address, endpoint["MacAddress"], Namespace(made["NetnsPath"]))
