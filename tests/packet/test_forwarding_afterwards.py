"""The switches that were thrown for a network stay on when it is deleted; the host still routes for nobody."""

from __future__ import annotations

from pathlib import Path

import pytest

from netns_fixtures import Topology
from tests.packet.lab import FAR, OUTSIDE, reaches, world
from tests.support.cnmd import running


@pytest.fixture
def topology() -> Topology:
    description = world()
    description["hosts"]["outside"]["uplink"] = "host"
    return Topology(description)


def test_the_host_routes_for_nobody_when_its_last_network_is_deleted(
    topology: Topology, tmp_path: Path
) -> None:
    with topology, running(tmp_path, topology.hosts["host"].popen) as daemon:
        outside, far = topology.hosts["outside"], topology.hosts["far"]
        for host in (outside, far):
            host.serve_tcp(80)
        daemon.create_network("web", EnableIPv6=True)

        daemon.ask("DELETE", "/networks/web")

        assert topology.hosts["host"].sysctl("net.ipv4.conf.up1.forwarding") == "1"
        for version in (4, 6):
            assert not reaches(outside, "tcp", FAR[version], 80)
            assert not reaches(far, "tcp", OUTSIDE[version], 80)
        assert daemon.findings() == []
