"""The etcd of the tests itself, where its members are each on a host of their own."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest

from netns_fixtures import BridgeSpec, EndSpec, HostSpec, LinkSpec, Topology, TopologySpec
from tests.support.etcd import PROGRAMS, running_etcd
from tests.support.unpacked import lacking


def _on_one_switch(addresses: dict[str, str]) -> TopologySpec:
    """`addresses` are CIDR text by host."""
    links = [
        LinkSpec((EndSpec(host, "eth0", (address,)), EndSpec("switch", f"to-{host}", bridge="sw")))
        for host, address in addresses.items()
    ]
    switch = HostSpec(bridges={"sw": BridgeSpec()})
    return TopologySpec({"switch": switch, **{host: HostSpec() for host in addresses}}, tuple(links))


@pytest.mark.parametrize(("subnet", "length"), [("192.0.2.{}", 24), ("2001:db8::{}", 64)])
def test_members_on_three_hosts_are_one_etcd(subnet: str, length: int) -> None:
    if reason := lacking(*PROGRAMS):
        pytest.skip(reason)
    hosts = {f"h{number}": subnet.format(number) for number in (1, 2, 3)}
    place = Path(tempfile.mkdtemp(prefix="etcd-", dir="/run"))
    try:
        with Topology(
            _on_one_switch({host: f"{address}/{length}" for host, address in hosts.items()})
        ) as topology:
            popens = [topology.hosts[host].popen for host in hosts]
            with running_etcd(place, 3, addresses=list(hosts.values()), popens=popens) as etcd:
                leader = etcd.leader()
                next(member for member in etcd.members if member is not leader).kill()
                etcd.etcdctl("put", "/a", "1")

                assert etcd.etcdctl("get", "/a", "--print-value-only").strip() == "1"
                assert [member.process is None for member in etcd.members].count(True) == 1
    finally:
        shutil.rmtree(place)
