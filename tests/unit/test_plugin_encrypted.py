"""Encrypted networks of a cluster in the dockerds of its hosts."""

from __future__ import annotations

from pathlib import Path

from cnm.cluster.identity import transport_address
from cnm.kernel.state import LinkKind
from tests.unit.cluster_stage import POOL, eventually
from tests.unit.docker_cluster_stage import DockerHosts


def test_containers_in_an_encrypted_network_speak_through_tunnels(tmp_path: Path) -> None:
    hosts = DockerHosts(tmp_path)
    for host in hosts.all:
        host.tunnels.able = True
        host.controller.host_changed()
    one, two = hosts.all
    eventually(
        lambda: all(node.transport for host in hosts.all for node in host.resources.cluster.nodes.all())
    )
    web = hosts.shown(options={"encrypted": "", "cnm.multicast": "true"})

    one.run("aa")
    two.run("bb")

    (tunnel,) = [link for link in one.links(one.space(web)).values() if link.kind is LinkKind.VXLAN]
    assert tunnel.vxlan is not None
    assert tunnel.vxlan.local == transport_address(POOL, "h1")
    eventually(lambda: set(one.reached(web).values()) == {transport_address(POOL, "h2")})
    eventually(lambda: one.peers(web).flood == (transport_address(POOL, "h2"),))
    hosts.close()
