"""A cluster in an etcd of somebody else's that does not keep nodes apart: a clear warning, and all else as ever."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.foreign_etcd import ForeignLab, foreign_lab, node_names
from tests.cluster.hosts import NEEDS_ETCD, ClusterHost, eventually

pytestmark = NEEDS_ETCD

SHARED = "etcd does not keep nodes apart: all show it the same certificate, or none"
ENDS = "the certificate that is shown to etcd expires at "
PLAIN = "etcd has no TLS, and does not keep nodes apart: whoever reaches it"


@pytest.fixture(params=["a user with few rights", "no users", "no TLS"])
def adopted(request: pytest.FixtureRequest) -> Iterator[tuple[ForeignLab, list[str], str]]:
    """(the lab, flags of `init`, the warning)"""
    options: dict[str, Any] = {"no users": {"auth": False}, "no TLS": {"tls": False}}.get(request.param, {})
    with foreign_lab(**options) as lab:
        lab.etcd.etcdctl("put", "/theirs/key", "1")
        if request.param == "no TLS":
            yield lab, ["--etcd", lab.url], PLAIN
        elif request.param == "no users":
            yield lab, lab.tls("anybody"), SHARED
        else:
            lab.etcd.etcdctl("user", "add", "cnm", "--no-password")
            lab.etcd.etcdctl("role", "add", "cnm")
            lab.etcd.etcdctl("role", "grant-permission", "cnm", "--prefix", "readwrite", "/cnm/v1/")
            lab.etcd.etcdctl("user", "grant-role", "cnm", "cnm")
            yield lab, lab.tls("cnm"), SHARED


def warned(host: ClusterHost, warning: str) -> bool:
    """Of this, and nothing else but that the certificate, which is good for a day, is soon over."""
    found = host.status()
    wanted = [warning, ENDS] if warning == SHARED else [warning]
    said = found["Warnings"]
    return found["State"] == "ready" and len(said) == len(wanted) and all(map(str.startswith, said, wanted))


def test_a_cluster_where_nodes_are_not_kept_apart(adopted: tuple[ForeignLab, list[str], str]) -> None:
    lab, flags, warning = adopted
    one, two, three = (lab.h[number] for number in (1, 2, 3))

    done = one.cnmctl("init", "--name", "h1", *flags)

    assert (done.returncode, f"WARNING: {warning}" in done.stderr) == (0, True), done.stderr
    two.join(one)
    three.join(two, "--client")
    for host in (one, two, three):
        eventually(lambda host=host: warned(host, warning))  # type: ignore[misc]
        assert host.etcd_pids() == []
    one.cnmd.create_network("web", Driver="overlay")
    eventually(lambda: "web" in [each["Name"] for each in three.cnmd.ask("GET", "/networks")])
    assert one.cnmd.create_sandbox("aa")
    assert one.cnmd.connect("web", "aa")

    stolen = (three.home / "node.pem").read_text()
    three.says("rotate")
    good = (three.home / "node.pem").read_text()
    (three.home / "node.pem").write_text(stolen)
    assert "was replaced by another: it is good for nothing any more" in three.fails("rotate")
    (three.home / "node.pem").write_text(good)

    three.die()
    one.says("rm", "--force", "h3")
    assert node_names(two) == ["h1", "h2"]
    two.says("leave")
    one.says("leave", "--force")
    assert lab.all_keys() == ["/theirs/key"]
