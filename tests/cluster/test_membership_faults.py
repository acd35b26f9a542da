"""A cluster whose processes are killed: members come back, nodes fail over, nothing is lost; a node that was stolen."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from cnm.cluster import certificates, keys, records
from cnm.cluster.etcd.admin import Admin
from cnm.cluster.etcd.client import Client
from cnm.cluster.etcd.contract import Denied
from tests.cluster.hosts import NEEDS_ETCD, ClusterHost, ClusterLab, eventually, new_lab
from tests.cluster.node_client import client_of

pytestmark = NEEDS_ETCD


@pytest.fixture(scope="module")
def lab() -> Iterator[ClusterLab]:
    """h1, h2, h4 are members, h3 is a client."""
    with new_lab(4) as lab:
        lab.h[1].init()
        lab.h[2].join(lab.h[1])
        lab.h[3].join(lab.h[1], "--client")
        lab.h[4].join(lab.h[1])
        yield lab


def all_well(host: ClusterHost) -> bool:
    found = host.status()
    return found["State"] == "ready" and len(found["Members"]) == 3 and not found["Warnings"]


def test_a_killed_member_is_started_again(lab: ClusterLab) -> None:
    (before,) = lab.h[2].etcd_pids()

    lab.h[2].kill_etcd()

    eventually(lambda: (now := lab.h[2].etcd_pids()) and now != [before])
    eventually(lambda: all_well(lab.h[2]) and all_well(lab.h[1]))


def test_a_member_outlives_a_killed_cnmd_and_is_adopted_by_the_next(lab: ClusterLab) -> None:
    before = lab.h[1].etcd_pids()

    lab.h[1].cnmd.kill()
    assert lab.h[1].etcd_pids() == before
    lab.h[1].start()

    eventually(lambda: all_well(lab.h[1]))
    assert lab.h[1].etcd_pids() == before
    assert f"etcd {before[0]} is adopted" in lab.h[1].cnmd.log
    lab.h[1].kill_etcd()  # and watched
    eventually(lambda: (now := lab.h[1].etcd_pids()) and now != before)
    eventually(lambda: all_well(lab.h[1]))


def test_a_member_outlives_a_cnmd_that_ends(lab: ClusterLab) -> None:
    before = lab.h[4].etcd_pids()

    assert lab.h[4].cnmd.stop() == 0
    assert lab.h[4].etcd_pids() == before
    lab.h[4].start()

    eventually(lambda: all_well(lab.h[4]))
    assert lab.h[4].etcd_pids() == before


def test_a_node_goes_on_while_a_member_is_dead(lab: ClusterLab) -> None:
    lab.h[2].die()

    found = eventually(lambda: (seen := lab.h[3].status())["State"] == "ready" and seen)
    assert "member h2 is away: " + found["Members"][1]["Error"] in found["Warnings"]
    assert lab.h[1].token().startswith("CNM1-")

    lab.h[2].start()
    eventually(lambda: all_well(lab.h[3]))


def test_without_a_majority_status_is_quick_and_nothing_can_be_made(lab: ClusterLab) -> None:
    lab.h[2].die()
    lab.h[4].die()
    try:
        found = eventually(lambda: (seen := lab.h[1].status())["State"] == "degraded" and seen)
        assert [node["Name"] for node in found["Nodes"]] == ["h1", "h2", "h3", "h4"]
        assert any("have no majority" in warning for warning in found["Warnings"])
        assert "etcd" in lab.h[1].fails("token")
    finally:
        lab.h[2].start()
        lab.h[4].start()
    eventually(lambda: all_well(lab.h[1]))


def test_everything_comes_back_after_a_power_cut(lab: ClusterLab) -> None:
    for host in lab.h.values():
        host.die()

    for host in lab.h.values():
        host.start()

    eventually(lambda: all(all_well(host) for host in lab.h.values()))
    assert lab.h[4].token().startswith("CNM1-")


def test_cnmd_starts_at_once_while_every_member_is_away(lab: ClusterLab) -> None:
    for number in (1, 2, 4):
        lab.h[number].die()
    lab.h[3].cnmd.stop()

    lab.h[3].start()

    assert lab.h[3].status()["State"] in ("starting", "away")
    assert lab.h[3].cnmd.ask("GET", "/networks")
    for number in (1, 2, 4):
        lab.h[number].start()
    eventually(lambda: all_well(lab.h[3]))


# A node that was stolen


def test_a_stolen_node_can_write_nothing_of_others(lab: ClusterLab) -> None:
    with client_of(lab.h[3]) as thief:
        assert records.decode(thief.get(keys.CLUSTER).value, records.Cluster)  # type: ignore[union-attr]
        thief.put(keys.node("h3"), b"{}")
        thief.delete(keys.node("h3"))

        for key in (
            keys.node("h1"),
            keys.node("h33"),
            keys.registration("h3"),
            keys.registration("h1"),
            keys.CLUSTER,
            keys.token("a" * 64),
            keys.participant("h1", "n1"),
            keys.participants_of("h33"),
            keys.endpoint("n1", "h1", "e1"),
            keys.endpoint("n1", "h3", "e1"),  # not even its own, where it takes no part
            "/elsewhere",
        ):
            with pytest.raises(Denied):
                thief.put(key, b"{}")
            with pytest.raises(Denied):
                thief.delete(key)


def test_a_node_that_the_others_do_not_see_says_so(lab: ClusterLab) -> None:
    with client_of(lab.h[3]) as node:
        node.delete(keys.node("h3"))

    found = lab.h[3].status()
    assert found["State"] == "starting"
    assert [
        line for line in found["Warnings"] if line.startswith("the other hosts do not see this one yet: ")
    ]
    down = {node["Name"]: node["State"] for node in lab.h[1].status()["Nodes"]}
    assert down == {"h1": "ready", "h2": "ready", "h3": "down", "h4": "ready"}

    lab.h[3].cnmd.kill()
    lab.h[3].start()
    eventually(lambda: all_well(lab.h[3]))


def test_a_stolen_node_administers_nothing(lab: ClusterLab) -> None:
    with client_of(lab.h[3]) as thief:
        admin = Admin(thief)

        for act in (
            lambda: admin.add_user("mallory"),
            lambda: admin.grant_role("h3.0", "root"),
            lambda: admin.add_member(["https://192.0.2.9:2380"], learner=True),
            lambda: admin.remove_member(admin.members()[0].id),
            lambda: admin.users(),
        ):
            with pytest.raises(Denied):
                act()


def test_a_stolen_nodes_certificate_opens_no_door_between_members(lab: ClusterLab) -> None:
    own = str(lab.h[3].home / "node.pem")
    command = ["curl", "--silent", "--http1.1", "--cacert", str(lab.h[3].home / "ca.crt"), "--cert", own]
    url = "https://192.0.2.1:2380/members"

    refused = lab.h[3].net.run([*command, url], check=False)
    known = lab.h[1].net.run([*command[:-1], str(lab.h[1].home / "node.pem"), url])

    assert refused.returncode != 0
    assert refused.stdout == ""
    assert '"name":"h1"' in known.stdout


def test_a_client_node_cannot_stand_for_a_member_to_those_who_join(lab: ClusterLab) -> None:
    _, certificate = certificates.split((lab.h[3].home / "node.pem").read_text())

    assert (
        "etcd.cnm" not in lab.h[3].net.run(["openssl", "x509", "-noout", "-text"], input=certificate).stdout
    )


# Who may write where


def test_a_node_may_write_its_endpoints_where_it_takes_part_and_nowhere_else(lab: ClusterLab) -> None:
    with client_of(lab.h[3]) as node:
        node.put(keys.network("n1"), b"{}")
        node.put(keys.network("n2"), b"{}")
        node.put(keys.participant("h3", "n1"), b"{}")

        eventually(lambda: may_write(node, keys.endpoint("n1", "h3", "e1")), 5)
        for key in (
            keys.endpoint("n1", "h1", "e1"),
            keys.endpoint("n2", "h3", "e1"),
            keys.endpoint("n1", "h33", "e1"),
        ):
            assert not may_write(node, key)

        node.delete(keys.endpoint("n1", "h3", "e1"))
        node.delete(keys.participant("h3", "n1"))
        eventually(lambda: not may_write(node, keys.endpoint("n1", "h3", "e1")), 5)
        node.delete(keys.network("n1"))
        node.delete(keys.network("n2"))


def test_nobody_takes_part_in_a_network_that_is_not_there(lab: ClusterLab) -> None:
    with client_of(lab.h[3]) as node:
        node.put(keys.participant("h3", "later"), b"{}")
        node.put(keys.network("sooner"), b"{}")
        node.put(keys.participant("h3", "sooner"), b"{}")
        eventually(lambda: may_write(node, keys.endpoint("sooner", "h3", "e")), 5)
        assert not may_write(node, keys.endpoint("later", "h3", "e"))

        node.put(keys.network("later"), b"{}")

        eventually(lambda: may_write(node, keys.endpoint("later", "h3", "e")), 5)
        for network in ("later", "sooner"):
            node.delete(keys.endpoint(network, "h3", "e"))
            node.delete(keys.participant("h3", network))
            node.delete(keys.network(network))


def test_the_next_member_lets_nodes_write_where_the_first_one_is_dead(lab: ClusterLab) -> None:
    lab.h[1].cnmd.kill()
    with client_of(lab.h[3]) as node:
        node.put(keys.network("n3"), b"{}")
        node.put(keys.participant("h3", "n3"), b"{}")
        eventually(lambda: may_write(node, keys.endpoint("n3", "h3", "e1")), 5)
        node.delete(keys.endpoint("n3", "h3", "e1"))
        node.delete(keys.participant("h3", "n3"))
        node.delete(keys.network("n3"))
    lab.h[1].start()
    eventually(lambda: all_well(lab.h[1]))


def may_write(etcd: Client, key: str) -> bool:
    try:
        etcd.put(key, b"{}")
    except Denied:
        return False
    return True


def test_a_frozen_member_is_told_and_passed_over(lab: ClusterLab) -> None:
    lab.h[2].kill_etcd(signal.SIGSTOP)
    try:
        found = eventually(
            lambda: (seen := lab.h[3].status())["Members"][1]["State"] == "unreachable" and seen
        )
        assert found["State"] in ("ready", "starting")  # until it has another lease
        eventually(lambda: lab.h[3].status()["State"] == "ready")
    finally:
        lab.h[2].kill_etcd(signal.SIGCONT)
    eventually(lambda: all_well(lab.h[3]), 60)  # h2 is a node again when it has another lease
