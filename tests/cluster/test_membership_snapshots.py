"""What a cluster knows is saved and restored; what cannot be restored changes nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cnm.cluster import keys
from tests.cluster.hosts import NEEDS_ETCD, ClusterHost, ClusterLab, eventually, new_lab
from tests.cluster.node_client import client_of

pytestmark = NEEDS_ETCD


@pytest.fixture
def lab(request: pytest.FixtureRequest) -> Iterator[ClusterLab]:
    """Hosts in no cluster, as many as the test says."""
    with new_lab(request.param) as lab:
        yield lab


def hosts(count: int) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("lab", [count], indirect=True, ids=[f"{count} hosts"])


def is_ready(host: ClusterHost) -> bool:
    return bool(host.status()["State"] == "ready")


@hosts(2)
def test_what_was_saved_is_restored(lab: ClusterLab) -> None:
    lab.h[1].init()
    lab.h[2].join(lab.h[1], "--client")
    saved = lab.h[1].cnmd.place / "saved"
    with client_of(lab.h[2]) as node:
        node.put(keys.network("n1"), b"saved")
        size = lab.h[1].says("snapshot", "save", str(saved))
        node.put(keys.network("n1"), b"lost")
        lab.h[1].says("rotate")

        assert size == f"{saved}: {saved.stat().st_size} bytes\n"
        assert saved.stat().st_mode & 0o777 == 0o600
        assert (
            lab.h[1]
            .fails("snapshot", "restore", str(saved))
            .startswith("what the cluster knows now is replaced")
        )
        lab.h[1].says("snapshot", "restore", "--force", str(saved))

        eventually(lambda: (found := node.get(keys.network("n1"), stale=True)) and found.value == b"saved")
    assert is_ready(lab.h[1])
    eventually(lambda: is_ready(lab.h[2]))
    assert lab.h[1].token().startswith("CNM1-")


@hosts(1)
def test_a_snapshot_that_is_none_changes_nothing(lab: ClusterLab) -> None:
    lab.h[1].init()
    bad = lab.h[1].cnmd.place / "bad"
    bad.write_bytes(b"nonsense" * 1000)
    before = lab.h[1].etcd_pids()

    assert (
        lab.h[1]
        .fails("snapshot", "restore", "-f", str(bad))
        .startswith(f"{bad} is no snapshot that can be restored")
    )
    assert (
        lab.h[1].fails("snapshot", "restore", "-f", "/nowhere")
        == "no snapshot /nowhere: it must be on this host"
    )
    assert (
        lab.h[1].fails("snapshot", "save", "/nowhere/x")
        == "/nowhere/x cannot be written: no such file or directory"
    )

    assert is_ready(lab.h[1])
    assert lab.h[1].etcd_pids() == before


@hosts(3)
def test_after_a_restoration_other_members_come_back_by_joining(lab: ClusterLab) -> None:
    one, two, three = lab.h.values()
    one.init()
    two.join(one)
    three.join(one, "--client")
    saved = str(one.cnmd.place / "saved")
    one.says("snapshot", "save", saved)

    one.says("snapshot", "restore", "--force", saved)

    assert [each["Name"] for each in one.status()["Members"]] == ["h1"]
    assert [each["Name"] for each in one.status()["Nodes"]] == ["h1", "h3"]
    eventually(lambda: is_ready(three))
    two.says("leave", "--force")
    two.join(one)
    eventually(lambda: [each["Name"] for each in three.status()["Members"]] == ["h1", "h2"])
    assert three.fails("snapshot", "save", "/run/x").startswith(
        "snapshots are saved on a member, and h3 is none"
    )
