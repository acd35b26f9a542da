"""Claims of the cluster's addresses, where etcd is not there."""

from __future__ import annotations

import pytest

from cnm.cluster.etcd.contract import Etcd, EtcdError
from cnm.cluster.shared_ipam import SharedIpam

POOL = "GlobalDefault/10.7.0.0/24"


def away() -> Etcd:
    raise EtcdError("etcd is away")


def test_what_could_not_be_given_back_is_looked_for() -> None:
    ipam, asked = SharedIpam(away, lambda: "h1", tuple), []
    ipam.doubted = lambda: asked.append("now")
    ipam.restore_address(POOL, "10.7.0.5")

    with pytest.raises(EtcdError):
        ipam.release_address(POOL, "10.7.0.5")

    assert asked == ["now"]


def test_a_claim_that_nobody_knows_the_end_of_is_looked_for() -> None:
    ipam, asked = SharedIpam(away, lambda: "h1", tuple), []
    ipam.doubted = lambda: asked.append("now")

    with pytest.raises(EtcdError):
        ipam.request_address(POOL, "10.7.0.5")

    assert asked == ["now"]
