"""A host of the next version writes what this one does not know; hosts of this version go on beside it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from cnm.cluster import keys, records
from cnm.cluster.etcd.client import Client
from tests.cluster.hosts import NEEDS_ETCD, ClusterHost, ClusterLab, eventually, joined_lab
from tests.cluster.node_client import client_of

pytestmark = NEEDS_ETCD

NEW = {"colour": {"deep": ["blue"]}}


@pytest.fixture(scope="module")
def lab() -> Iterator[ClusterLab]:
    """h1 is the member, h2 a client, h3 outside."""
    with joined_lab(members=1, clients=1, outside=1) as lab:
        yield lab


def add_new_fields(etcd: Client, key: str) -> None:
    found = etcd.get(key)
    assert found is not None
    etcd.put(key, json.dumps({**json.loads(found.value), **NEW}).encode(), found.lease)


def is_well(host: ClusterHost) -> bool:
    found = host.status()
    return found["State"] == "ready" and not found["Warnings"]


def networks(host: ClusterHost) -> list[Any]:
    return [each["Name"] for each in host.cnmd.ask("GET", "/networks")]


def test_hosts_go_on_beside_one_of_the_next_version(lab: ClusterLab) -> None:
    one, two = lab.h[1], lab.h[2]
    made = one.cnmd.create_network("web", Driver="overlay", Options={})
    eventually(lambda: "web" in networks(two))
    for host, name in ((one, "aa"), (two, "bb")):
        host.cnmd.create_sandbox(name)
        host.cnmd.connect("web", name)
    with client_of(one, "root.pem") as newer:
        ours = [
            each.key
            for prefix in (keys.CLUSTER, keys.REGISTRATIONS, keys.NODES, keys.NETWORKS, keys.ADDRESSES)
            for each in newer.list(prefix).items
        ]
        ours += [each.key for each in newer.list(keys.ENDPOINTS).items]
        for key in ours:
            add_new_fields(newer, key)
        for key in ("shade/h1", "shade/h2", "cluster-2", "networks", f"vnix/{made}", "epoch"):
            newer.put(keys.ROOT + key, b'{"what":"ever"}')

    two.cnmd.restart()
    one.cnmd.restart()

    eventually(lambda: is_well(one) and is_well(two))
    one.cnmd.create_sandbox("cc")
    assert one.cnmd.connect("web", "cc")
    two.says("rotate")
    one.says("rotate")
    with client_of(one, "root.pem") as newer:
        kept = [
            keys.registration("h1"),
            keys.registration("h2"),
            *(each.key for each in newer.list(keys.NETWORKS).items),
        ]
        for key in kept:
            found = newer.get(key)
            assert found is not None
            assert json.loads(found.value)["colour"] == NEW["colour"], key
        assert newer.get(f"{keys.ROOT}shade/h1") is not None
    for host, names in ((one, ("aa", "cc")), (two, ("bb",))):
        for name in names:
            host.cnmd.ask("DELETE", f"/cnm/v1/sandboxes/{name}?force=1")
    eventually(lambda: two.cnmd.request("DELETE", "/networks/web")[0] in (204, 404))
    assert one.cnmd.findings() == []


def test_a_cluster_whose_format_is_too_new_is_refused(lab: ClusterLab) -> None:
    one, two, three = lab.h.values()
    refusal = f"the cluster's records are of format {records.FORMAT + 1}, and cnm "
    with client_of(one, "root.pem") as newer:
        found = newer.get(keys.CLUSTER)
        assert found is not None
        raised = msgspec.structs.replace(
            records.decode(found.value, records.Cluster), needs=records.FORMAT + 1
        )
        token = one.token()
        newer.put(keys.CLUSTER, records.encode(raised))
        try:
            assert three.fails("join", "--client", token, one.address).startswith(refusal)
            assert not three.home.exists()
            two.cnmd.restart()
            eventually(lambda: [each for each in two.status()["Warnings"] if each.startswith(refusal)])
            status, answer = two.cnmd.request("POST", "/networks/create", {"Name": "x", "Driver": "overlay"})
            assert status >= 400, answer
            assert f"this host takes no part in its cluster: {refusal}" in two.cnmd.log
        finally:
            newer.put(keys.CLUSTER, found.value)
    two.cnmd.restart()
    eventually(lambda: is_well(two))
