"""What a network has of its own, its gateways and auxiliary addresses, is no host's: it goes with the network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cnm.cluster import keys
from cnm.cluster.etcd.memory import MemoryEtcd
from cnm.network import IpamConfig
from tests.unit.cluster_stage import Host, Hosts, eventually

_CONFIG = (IpamConfig(subnet="10.9.0.0/24", aux_addresses={"router": "10.9.0.5"}),)


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    made = Hosts(tmp_path, 2)
    yield made
    made.end()


def claims(hosts: Hosts) -> list[str]:
    return [item.key for item in MemoryEtcd(hosts.store).list(keys.ADDRESSES).items]


def gone_from(host: Host, name: str = "web") -> bool:
    return name not in {network.name for network in host.controller.networks()}


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize(("maker", "remover"), [(0, 1), (1, 0), (0, 0)])
def test_nobody_claims_them_when_the_network_is_gone(
    hosts: Hosts, maker: int, remover: int, restarted: bool
) -> None:
    hosts.all[maker].overlay(ipam_config=_CONFIG, options={"cnm.docker": "true"})  # which has a gateway
    hosts.everywhere()
    assert len(claims(hosts)) == 2
    if restarted:
        hosts.all[maker].end()
        hosts.all[maker].start()
        hosts.everywhere()

    hosts.all[remover].controller.delete_network("web")

    for host in hosts.all:
        eventually(lambda host=host: gone_from(host))  # type: ignore[misc]
        host.resources.cluster.ipam.claim_again()
    assert claims(hosts) == []
