"""Overlay networks over real hosts: three cnmds, three members of etcd, real packets."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.hosts import (
    NEEDS_ETCD,
    ClusterHost,
    ClusterLab,
    cluster_lab,
    drop_place,
    eventually,
    short_place,
)

pytestmark = [pytest.mark.root, NEEDS_ETCD]


@pytest.fixture(scope="module")
def lab() -> Iterator[ClusterLab]:
    place = short_place()
    try:
        with cluster_lab(place, 3) as made:
            made.h[1].init()
            made.h[2].join(made.h[1])
            made.h[3].join(made.h[1])
            yield made
    finally:
        drop_place(place)


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


def test_sandboxes_on_three_hosts_ping_each_other_by_address_and_by_name(lab: ClusterLab) -> None:
    create(lab, "web")
    ends = {number: box(host, f"box{number}", "web") for number, host in lab.h.items()}

    for number, host in lab.h.items():
        for other, address in ends.items():
            done = inside(host, f"box{number}", "ping", "-c1", "-W2", address)
            assert done.returncode == 0, (
                f"h{number} -> h{other}: {done.stdout}{done.stderr}\n{host.cnmd.log[-2000:]}"
            )
            named = inside(host, f"box{number}", "ping", "-c1", "-W2", f"box{other}")
            assert named.returncode == 0, named.stdout + named.stderr
