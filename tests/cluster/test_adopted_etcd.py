"""A cluster in an etcd that somebody else runs and that has users: each node has one of its own, and no member runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from cnm.cluster import keys
from cnm.cluster.etcd.contract import Denied
from tests.cluster.foreign_etcd import ForeignLab, as_node, common_name, foreign_lab, node_names
from tests.cluster.hosts import NEEDS_ETCD, ClusterHost, eventually

pytestmark = NEEDS_ETCD


@pytest.fixture(scope="module")
def empty() -> Iterator[ForeignLab]:
    """Somebody has a key and a role there."""
    with foreign_lab() as lab:
        lab.etcd.etcdctl("put", "/theirs/key", "1")
        lab.etcd.etcdctl("user", "add", "web.example", "--no-password")
        lab.etcd.etcdctl("role", "add", "theirs")
        yield lab


@pytest.fixture(scope="module")
def lab(empty: ForeignLab) -> ForeignLab:
    """h1 and h2 are members, h3 is a client."""
    empty.h[1].init(*empty.tls(), "--ca-key", empty.ca_key)
    empty.h[2].join(empty.h[1])
    empty.h[3].join(empty.h[2], "--client")
    return empty


def test_nodes_are_what_they_are_called_and_run_no_etcd(lab: ForeignLab) -> None:
    for number, role in ((1, "member"), (2, "member"), (3, "client")):
        host = lab.h[number]
        found = eventually(lambda host=host: well(host))  # type: ignore[misc]

        assert [node["Name"] for node in found["Nodes"]] == ["h1", "h2", "h3"]
        assert (found["Role"], found["Etcd"]) == (role, "apart")
        assert [each["Endpoint"] for each in found["Members"]] == ["192.0.2.4:2379"]
        assert host.etcd_pids() == []
        assert common_name(host).startswith(f"{host.name}.")
        assert (host.home / "root.pem").exists() is (role == "member")


def well(host: ClusterHost) -> Any:
    found = host.status()
    return found if found["State"] == "ready" and not found["Warnings"] else None


def test_each_node_has_a_user_and_a_role_of_its_own(lab: ForeignLab) -> None:
    there = lab.users_and_roles()

    assert {"node:h1", "node:h2", "node:h3", "theirs", "web.example"} <= set(there)
    assert {common_name(lab.h[number]) for number in (1, 2, 3)} <= set(there)
    with as_node(lab, lab.h[3]) as thief:
        thief.put(keys.node("h3"), b"{}")
        thief.delete(keys.node("h3"))
        for key in (keys.node("h1"), keys.registration("h3"), "/theirs/key"):
            with pytest.raises(Denied):
                thief.put(key, b"{}")
        with pytest.raises(Denied):
            thief.get("/theirs/key")


def test_networks_are_on_every_host(lab: ForeignLab) -> None:
    lab.h[1].cnmd.create_network("web", Driver="overlay")

    made = eventually(lambda: network_of(lab.h[3], "web"))

    assert made["Driver"] == "overlay"
    lab.h[3].cnmd.ask("DELETE", "/networks/web")
    eventually(lambda: not network_of(lab.h[1], "web"))


def network_of(host: ClusterHost, name: str) -> Any:
    return next((each for each in host.cnmd.ask("GET", "/networks") if each["Name"] == name), None)


def test_certificates_are_rotated(lab: ForeignLab) -> None:
    for number in (2, 3):
        before = common_name(lab.h[number])

        lab.h[number].says("rotate")

        assert common_name(lab.h[number]) != before
        assert before not in lab.users_and_roles()
        eventually(lambda number=number: lab.h[number].status()["State"] == "ready")


def test_another_cluster_has_no_room_there(lab: ForeignLab) -> None:
    lab.h[3].says("leave")
    before = lab.all_keys()

    error = lab.h[3].fails("init", *lab.tls(), "--ca-key", lab.ca_key)

    assert error == (
        "there is a cluster in this etcd already, below /cnm/v1/: join that one with a token of it; if nobody is in it "
        "any more: etcdctl del --prefix /cnm/v1/"
    )
    assert not lab.h[3].home.exists()
    assert [key for key in lab.all_keys() if "/token/" not in key] == [
        key for key in before if "/token/" not in key
    ]
    lab.h[3].join(lab.h[1], "--client")


def test_what_belongs_to_the_etcd_is_left_to_whoever_runs_it(lab: ForeignLab) -> None:
    for command in (
        ["snapshot", "save", "/run/x"],
        ["snapshot", "restore", "-f", "/run/x"],
        ["recover", "-f"],
    ):
        assert "by whoever runs the etcd that this cluster was made in" in lab.h[1].fails(*command)


def test_a_dead_node_is_removed(lab: ForeignLab) -> None:
    lab.h[2].die()
    eventually(lambda: lab.h[1].status()["Nodes"][1]["State"] == "down")

    lab.h[1].says("rm", "h2")

    assert node_names(lab.h[1]) == ["h1", "h3"]
    assert [each for each in lab.users_and_roles() if "h2" in each] == []
    lab.h[2].start()
    eventually(lambda: lab.h[2].status()["State"] == "removed")
    lab.h[2].says("leave", "--force")
    lab.h[2].join(lab.h[1])


def test_a_node_comes_back_after_a_power_cut(lab: ForeignLab) -> None:
    for number in (1, 3):
        lab.h[number].die()
        lab.h[number].start()

    for number in (1, 3):
        eventually(lambda number=number: lab.h[number].status()["State"] == "ready")  # type: ignore[misc]


def test_an_etcd_that_went_away_and_came_back_is_used_again(lab: ForeignLab) -> None:
    (member,) = lab.etcd.members
    member.kill()
    try:
        found = eventually(lambda: (seen := lab.h[3].status())["State"] == "away" and seen)
        assert found["Members"][0]["State"] == "unreachable"
        assert "etcd" in lab.h[1].fails("token")
        assert lab.h[3].fails("leave").startswith("etcd cannot ")
    finally:
        member.start()

    for number in (1, 2, 3):
        eventually(lambda number=number: lab.h[number].status()["State"] == "ready")  # type: ignore[misc]
    assert lab.h[1].token().startswith("CNM1-")


def test_the_last_host_takes_everything_of_ours_with_it_and_nothing_else(lab: ForeignLab) -> None:
    lab.h[1].says("leave")
    assert lab.h[2].fails("leave").startswith("h2 is the last member, and h3 need it: have another")
    lab.h[3].says("leave")
    lab.h[2].says("leave")

    assert lab.all_keys() == ["/theirs/key"]
    assert lab.users_and_roles() == ["root", "root", "theirs", "web.example"]
    for number in (1, 2, 3):
        assert lab.h[number].status()["State"] == "out"
        left = lab.h[number].home.with_name("cluster.left")
        assert [each.name for each in left.iterdir() if each.suffix in (".pem", ".key")] == []
