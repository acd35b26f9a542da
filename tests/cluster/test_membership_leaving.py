"""Nodes that leave, die, are removed and come back; snapshots; a cluster whose majority is lost for good."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cnm.cluster import keys, records
from cnm.config import Settings
from cnm.membership.membership import InCluster, Membership
from cnm.wire.cluster import ClusterInit
from tests.cluster.hosts import NEEDS_ETCD, ClusterHost, ClusterLab, eventually, new_lab
from tests.cluster.node_client import client_of
from tests.support.unpacked import program

pytestmark = NEEDS_ETCD

CNMCTL = str(Path(sys.executable).with_name("cnmctl"))


@pytest.fixture
def lab(request: pytest.FixtureRequest) -> Iterator[ClusterLab]:
    """Hosts in no cluster, as many as the test says."""
    with new_lab(request.param) as lab:
        yield lab


def hosts(count: int) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("lab", [count], indirect=True, ids=[f"{count} hosts"])


def nodes(host: ClusterHost) -> list[str]:
    return [node["Name"] for node in host.status()["Nodes"]]


def members(host: ClusterHost) -> list[str]:
    return [member["Name"] for member in host.status()["Members"]]


def is_ready(host: ClusterHost) -> bool:
    return bool(host.status()["State"] == "ready")


@hosts(3)
def test_the_last_member_does_not_leave_while_others_need_it(lab: ClusterLab) -> None:
    lab.h[1].init()
    lab.h[2].join(lab.h[1], "--client")

    error = lab.h[1].fails("leave")

    assert error == (
        "h1 is the last member, and h2 need it: have another host join as a member first, "
        "or leave with --force, and the cluster is gone"
    )
    assert is_ready(lab.h[2])
    lab.h[3].join(lab.h[1])  # a member: now the first one may go
    lab.h[1].says("leave")
    eventually(lambda: members(lab.h[2]) == ["h3"])
    assert nodes(lab.h[2]) == ["h2", "h3"]
    assert lab.h[1].etcd_pids() == []
    assert lab.h[1].status()["State"] == "out"

    lab.h[1].join(lab.h[3])  # and come back
    eventually(lambda: members(lab.h[2]) == ["h1", "h3"])
    lab.h[3].says("leave")
    lab.h[2].says("leave")
    lab.h[1].says("leave")
    assert [host.status()["State"] for host in lab.h.values()] == ["out"] * 3


@hosts(3)
def test_a_node_that_goes_leaves_nothing_of_its_own(lab: ClusterLab) -> None:
    lab.h[1].init()
    for number in (2, 3):
        lab.h[number].join(lab.h[1], "--client")
    with client_of(lab.h[2]) as node, client_of(lab.h[3]) as other:
        node.put(
            keys.address("10.1.0.0/24", "10.1.0.2"), records.encode(records.Claim(node="h2", owner="e1"))
        )
        other.put(
            keys.address("10.1.0.0/24", "10.1.0.3"), records.encode(records.Claim(node="h3", owner="e2"))
        )
        node.put(keys.network("n1"), b"{}")
        node.put(keys.participant("h2", "n1"), b"{}")

    lab.h[2].says("leave")

    with client_of(lab.h[1], "root.pem") as root:
        left = [each.key for each in root.list(keys.ROOT).items]
    assert keys.address("10.1.0.0/24", "10.1.0.3") in left
    assert keys.network("n1") in left
    assert [key for key in left if "h2" in key or key.endswith("10.1.0.2")] == []
    assert "h2" not in etcdctl(lab.h[1], "user", "list") + etcdctl(lab.h[1], "role", "list")


def etcdctl(host: ClusterHost, *arguments: str) -> str:
    home = host.home
    command = [
        str(program("etcdctl")),
        f"--endpoints=https://{host.address}:2379",
        f"--cacert={home / 'ca.crt'}",
    ]
    command += [f"--cert={home / 'root.pem'}", f"--key={home / 'root.pem'}", *arguments]
    return host.net.run(command, env={"ETCDCTL_API": "3"}).stdout


@hosts(4)
def test_a_dead_node_is_removed_and_another_takes_its_place(lab: ClusterLab) -> None:
    lab.h[1].init()
    for number in (2, 3):
        lab.h[number].join(lab.h[1])
    assert (
        lab.h[1]
        .fails("rm", "h3")
        .startswith("node h3 is alive: run 'cnmctl cluster leave' there, or remove it")
    )
    assert lab.h[1].fails("rm", "h1") == "h1 is this host: it leaves by 'cnmctl cluster leave'"
    assert lab.h[1].fails("rm", "h9") == "no node h9 in the cluster: see 'cnmctl cluster status'"

    lab.h[3].die()
    eventually(lambda: lab.h[1].status()["Nodes"][2]["State"] == "down")  # its lease is over
    assert lab.h[1].says("rm", "h3") == "h3\n"

    assert nodes(lab.h[2]) == members(lab.h[2]) == ["h1", "h2"]
    said = lab.h[4].says("join", "--name", "h3", lab.h[2].token(), "192.0.2.2")  # under its name
    assert said.splitlines()[-1].endswith("as member h3")
    eventually(lambda: members(lab.h[1]) == ["h1", "h2", "h3"])

    lab.h[3].start()  # the dead one comes back, and is told
    found = eventually(lambda: (seen := lab.h[3].status())["Warnings"] and seen)
    assert found["State"] == "removed"
    assert any("'cnmctl cluster leave --force'" in warning for warning in found["Warnings"])
    lab.h[3].says("leave", "--force")
    assert lab.h[3].status()["State"] == "out"
    assert members(lab.h[1]) == ["h1", "h2", "h3"]


@hosts(3)
def test_one_member_goes_on_where_the_majority_is_lost(lab: ClusterLab) -> None:
    lab.h[1].init()
    lab.h[2].join(lab.h[1])
    lab.h[3].join(lab.h[1], "--client")
    with client_of(lab.h[3]) as node:
        node.put(keys.network("n1"), b"kept")
    lab.h[2].die()

    assert (
        lab.h[1]
        .fails("recover")
        .startswith("the cluster goes on with this host's data alone: other members are")
    )
    lab.h[1].says("recover", "--force")

    assert (lab.h[1].status()["State"], members(lab.h[1]), nodes(lab.h[1])) == ("ready", ["h1"], ["h1", "h3"])
    eventually(lambda: is_ready(lab.h[3]))
    with client_of(lab.h[3]) as node:
        found = node.get(keys.network("n1"))
        assert found is not None
        assert found.value == b"kept"
    lab.h[1].die()  # and it is no more than one start that forgets the others
    lab.h[1].start()
    eventually(lambda: is_ready(lab.h[1]))
    lab.h[2].start()
    lab.h[2].says("leave", "--force")
    lab.h[2].join(lab.h[1])
    assert members(lab.h[3]) == ["h1", "h2"]


@hosts(2)
def test_a_join_that_was_killed_is_undone_at_the_next_start(lab: ClusterLab) -> None:
    lab.h[1].init()
    token = lab.h[1].token()
    joining = subprocess.Popen(
        ["cnmctl", "-H", lab.h[2].cnmd.socket, "cluster", "join", "--name", "h2", token, "192.0.2.1"],
        executable=CNMCTL,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert joining.stdout is not None
    for line in joining.stdout:
        if line == "member added\n":
            lab.h[2].cnmd.kill()
            break
    joining.wait(20)
    joining.stdout.close()
    assert nodes(lab.h[1]) == ["h1", "h2"]

    lab.h[2].start()

    eventually(lambda: lab.h[2].status()["State"] == "out")
    assert (nodes(lab.h[1]), members(lab.h[1]), lab.h[2].etcd_pids()) == (["h1"], ["h1"], [])
    assert not lab.h[2].home.exists()
    lab.h[2].join(lab.h[1])


@hosts(1)
def test_an_init_that_was_killed_is_undone_at_the_next_start(lab: ClusterLab) -> None:
    host = lab.h[1]
    founding = subprocess.Popen(
        ["cnmctl", "-H", host.cnmd.socket, "cluster", "init", "--name", "h1"],
        executable=CNMCTL,
        stderr=subprocess.DEVNULL,
    )
    eventually(lambda: host.etcd_pids())
    host.cnmd.kill()
    assert founding.wait(20) == 1

    host.start()

    eventually(lambda: host.status()["State"] == "out" and not host.home.exists())
    assert host.etcd_pids() == []
    host.init()


@hosts(2)
def test_a_join_that_fails_late_is_undone(lab: ClusterLab) -> None:
    lab.h[1].init()
    (lab.h[2].cnmd.place / "etcd").write_text("#!/bin/sh\nexit 1\n")
    (lab.h[2].cnmd.place / "etcd").chmod(0o755)
    lab.h[2].cnmd.config = f'etcd = "{lab.h[2].cnmd.place / "etcd"}"\nplugins = false\n'
    lab.h[2].cnmd.restart()

    done = lab.h[2].cnmctl("join", "--name", "h2", lab.h[1].token(), "192.0.2.1")

    assert done.stdout.splitlines() == [
        "asking 192.0.2.1...",
        "certificate received",
        "member added",
        "catching up",
    ]
    assert done.stderr == "Error response from daemon: etcd does not start: it ended without a word\n"
    assert (nodes(lab.h[1]), members(lab.h[1])) == (["h1"], ["h1"])
    assert not lab.h[2].home.exists()


@hosts(1)
def test_a_host_without_etcd_says_what_to_install(lab: ClusterLab) -> None:
    lab.h[1].cnmd.config = 'etcd = "/nowhere/etcd"\nplugins = false\n'
    lab.h[1].cnmd.restart()

    assert lab.h[1].fails("init") == (
        "etcd is not installed at /nowhere/etcd, where the setting 'etcd' says it is: install the package etcd-server"
    )
    assert not lab.h[1].home.exists()


@hosts(2)
def test_an_ipv6_underlay_serves_as_well(lab: ClusterLab) -> None:
    lab.h[1].init("--advertise", "2001:db8::1")

    lab.h[2].says("join", "--name", "h2", "--advertise", "2001:db8::2", lab.h[1].token(), "2001:db8::1")

    found = lab.h[2].status()
    assert [member["Endpoint"] for member in found["Members"]] == ["[2001:db8::1]:2379", "[2001:db8::2]:2379"]
    assert found["State"] == "ready"


@hosts(3)
def test_two_hosts_may_join_at_once(lab: ClusterLab) -> None:
    lab.h[1].init()

    with ThreadPoolExecutor() as pool:
        said = list(pool.map(lambda number: lab.h[number].join(lab.h[1]), (2, 3)))

    assert [text.splitlines()[-1].split(" as ")[1] for text in said] == ["member h2", "member h3"]
    eventually(lambda: members(lab.h[2]) == ["h1", "h2", "h3"])


@hosts(1)
def test_whoever_works_with_the_cluster_is_told_when_it_comes_and_goes(lab: ClusterLab) -> None:
    host = lab.h[1]
    host.cnmd.kill()
    told: list[InCluster | None] = []
    settings = Settings(root=str(host.cnmd.place / "root"), etcd=str(program("etcd")))
    with host.net.enter():
        membership = Membership(settings, lambda: ("192.0.2.1",))
        membership.on_change(told.append)
        membership.start()
        assert told == []

        membership.init(ClusterInit(name="h1"))

        (entered,) = told
        assert entered is not None
        assert (entered.name, entered.advertise, entered.member) == ("h1", "192.0.2.1", True)
        entered.etcd.put(keys.node("h1"), b"{}")
        membership.rotate()
        entered.etcd.put(keys.node("h1"), b"{}")  # the same client, with the new certificate
        membership.close()

        again = Membership(settings, lambda: ("192.0.2.1",))
        again.on_change(told.append)
        again.start()
        eventually(lambda: len(told) == 2)
        assert told[1] is not None
        eventually(lambda: again.status().state == "ready")
        again.leave()
        again.close()
    assert told[2:] == [None]
    assert host.etcd_pids() == []
