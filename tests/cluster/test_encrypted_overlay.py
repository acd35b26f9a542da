"""Encrypted overlay networks over real hosts: who is reached, and what the wire between the hosts sees of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.hosts import NEEDS_ETCD, ClusterLab, cluster_lab, drop_place, short_place
from tests.cluster.overlay_boxes import box, create, inside
from tests.support.unpacked import lacking

pytestmark = [
    pytest.mark.root,
    NEEDS_ETCD,
    pytest.mark.skipif(lacking("wireguard-go") != "", reason=lacking("wireguard-go")),
]


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


def test_sandboxes_on_three_hosts_ping_each_other_by_address_and_by_name(lab: ClusterLab) -> None:
    create(lab, "web", Options={"encrypted": ""})
    ends = {number: box(host, f"box{number}", "web") for number, host in lab.h.items()}

    for number, host in lab.h.items():
        for other, address in ends.items():
            done = inside(host, f"box{number}", "ping", "-c1", "-W2", address)
            assert done.returncode == 0, (
                f"h{number} -> h{other}: {done.stdout}{done.stderr}\n{host.cnmd.log[-2000:]}"
            )
            named = inside(host, f"box{number}", "ping", "-c1", "-W2", f"box{other}")
            assert named.returncode == 0, named.stdout + named.stderr
