"""Hosts that join a cluster, and what each mistake is told as; the cluster is the same after it."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cnm.cluster import tokens
from cnm.cluster.tokens import JoinToken
from tests.cluster.hosts import NEEDS_ETCD, ClusterHost, ClusterLab, eventually, new_lab

pytestmark = NEEDS_ETCD


@pytest.fixture(scope="module")
def lab() -> Iterator[ClusterLab]:
    """h1 and h2 are members, h3 is a client, h4 is outside."""
    with new_lab(4) as lab:
        lab.h[1].init()
        lab.h[2].join(lab.h[1])
        lab.h[3].join(lab.h[2], "--client")
        yield lab


def assert_nothing_is_left(lab: ClusterLab, outside: ClusterHost) -> None:
    """Neither on the host nor in the cluster."""
    known = lab.h[1].status()
    assert not outside.home.exists()
    assert outside.status()["State"] == "out"
    assert outside.etcd_pids() == []
    assert [node["Name"] for node in known["Nodes"]] == ["h1", "h2", "h3"]
    assert [member["Name"] for member in known["Members"]] == ["h1", "h2"]


def test_every_node_sees_the_whole_cluster(lab: ClusterLab) -> None:
    for host in (lab.h[1], lab.h[2], lab.h[3]):
        found = eventually(lambda host=host: (seen := host.status())["State"] == "ready" and seen)  # type: ignore[misc]

        assert [(node["Name"], node["Role"], node["Address"]) for node in found["Nodes"]] == [
            ("h1", "member", "192.0.2.1"),
            ("h2", "member", "192.0.2.2"),
            ("h3", "client", "192.0.2.3"),
        ]
        assert sorted(member["State"] for member in found["Members"]) == ["follower", "leader"]
        assert {member["Name"] for member in found["Members"]} == {"h1", "h2"}
        assert found["Name"] == host.name


def test_only_members_hold_the_authoritys_key_and_none_is_readable_by_others(lab: ClusterLab) -> None:
    for host, secret in ((lab.h[1], True), (lab.h[2], True), (lab.h[3], False)):
        assert (host.home / "ca.key").exists() is secret
        assert (host.home / "root.pem").exists() is secret
        assert host.home.stat().st_mode & 0o777 == 0o700
        assert {
            each.stat().st_mode & 0o77 for each in host.home.iterdir() if each.suffix in (".pem", ".key")
        } == {0}


def test_a_client_runs_no_etcd(lab: ClusterLab) -> None:
    assert len(lab.h[1].etcd_pids()) == len(lab.h[2].etcd_pids()) == 1
    assert lab.h[3].etcd_pids() == []


def test_joining_tells_its_steps(lab: ClusterLab) -> None:
    outside = lab.h[4]

    said = outside.join(lab.h[2]).splitlines()
    outside.says("leave")

    steps = ["asking 192.0.2.2...", "certificate received", "member added", "catching up"]
    assert said[:4] == steps
    assert said[-1].startswith("joined cluster ")
    assert said[-1].endswith(" as member h4")
    eventually(lambda: len(lab.h[1].status()["Members"]) == 2)
    outside_left = lab.h[4].home.with_name("cluster.left")
    assert not [each for each in outside_left.iterdir() if each.suffix in (".pem", ".key")]


def test_a_token_is_good_for_one_host(lab: ClusterLab) -> None:
    token = lab.h[1].token()
    lab.h[4].says("join", "--client", "--name", "h4", token, "192.0.2.1")
    lab.h[4].says("leave")

    error = lab.h[4].fails("join", "--client", "--name", "h5", token, "192.0.2.2")

    assert error == (
        "the join token was used by h4 already: make another with 'cnmctl cluster token' on a member"
    )
    assert_nothing_is_left(lab, lab.h[4])


def test_a_token_that_was_never_given_out_is_wrong(lab: ClusterLab) -> None:
    known = tokens.parse(lab.h[1].token())
    token = tokens.new(known.authority, int(time.time()) + 600)

    error = lab.h[4].fails("join", str(token), "192.0.2.1")

    assert error.startswith("the join token is wrong, or was removed: make another with")
    assert_nothing_is_left(lab, lab.h[4])


def test_a_token_that_is_over_is_told_when(lab: ClusterLab) -> None:
    known = tokens.parse(lab.h[1].token())
    token = tokens.new(known.authority, 1_700_000_000)

    error = lab.h[4].fails("join", str(token), "192.0.2.1")

    assert error.startswith("the join token expired at 2023-11-14T22:13:20Z: make another with")
    assert_nothing_is_left(lab, lab.h[4])


def test_a_token_of_another_cluster_is_never_shown_to_this_one(lab: ClusterLab) -> None:
    known = tokens.parse(lab.h[1].token())
    other = JoinToken(bytes(32), known.secret)

    error = lab.h[4].fails("join", str(other), "192.0.2.1")

    assert error == (
        "192.0.2.1 is in another cluster than the join token: the digest of its certificate is not the token's"
    )
    assert_nothing_is_left(lab, lab.h[4])
    lab.h[4].says("join", "--client", "--name", "h4", str(known), "192.0.2.1")  # nobody has used its secret
    lab.h[4].says("leave")


def test_a_malformed_token_is_told_so(lab: ClusterLab) -> None:
    assert (
        lab.h[4]
        .fails("join", "SWMTKN-1-xyz", "192.0.2.1")
        .startswith("malformed join token: it begins with CNM1-")
    )


@pytest.mark.parametrize("host", ["192.0.2.4", "192.0.2.1:9"])
def test_a_host_that_does_not_listen_is_told_so(lab: ClusterLab, host: str) -> None:
    error = lab.h[4].fails("join", lab.h[1].token(), host)

    where = host if ":" in host else f"{host}:2378"
    assert error == (
        f"cannot reach {where}: connection refused: is it a member of the cluster, and is the port open there?"
    )
    assert_nothing_is_left(lab, lab.h[4])


def test_a_name_that_is_taken_is_refused(lab: ClusterLab) -> None:
    error = lab.h[4].fails("join", "--name", "h3", lab.h[1].token(), "192.0.2.1")

    assert error == (
        "node h3 is in the cluster already: 'cnmctl cluster rm h3' there first, or set another name with --name"
    )
    assert_nothing_is_left(lab, lab.h[4])


def test_an_underlay_address_that_is_not_on_this_host_is_refused(lab: ClusterLab) -> None:
    error = lab.h[4].fails("join", "--advertise", "192.0.2.77", lab.h[1].token(), "192.0.2.1")

    assert error == "underlay address 192.0.2.77 is not on this host: give one that 'ip address' shows"
    assert lab.h[4].fails("init", "--advertise", "127.0.0.1").startswith("127.0.0.1 cannot be advertised")
    assert_nothing_is_left(lab, lab.h[4])


def test_a_port_that_is_taken_names_who_has_it(lab: ClusterLab) -> None:
    with lab.h[4].net.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("192.0.2.4", 2379))
        other.listen()
        error = lab.h[4].fails("init")

    name = Path("/proc/self/comm").read_text().strip()
    assert error == (
        f"port 192.0.2.4:2379 for etcd's clients is in use by {name} (pid {os.getpid()}): stop it, "
        "or choose another: --client-port"
    )
    assert_nothing_is_left(lab, lab.h[4])


def test_a_host_that_is_in_a_cluster_joins_no_other(lab: ClusterLab) -> None:
    error = lab.h[2].fails("join", lab.h[1].token(), "192.0.2.1")

    assert error == "this host is in a cluster already, as h2: leave it first: cnmctl cluster leave"
    assert lab.h[2].fails("init") == error


def test_a_client_makes_no_tokens(lab: ClusterLab) -> None:
    assert lab.h[3].fails("token") == (
        "tokens are made on a member, and h3 is none: see 'cnmctl cluster status'"
    )


def test_a_host_in_no_cluster_says_so(lab: ClusterLab) -> None:
    nowhere = "this host is in no cluster: cnmctl cluster init, or cnmctl cluster join"

    for command in (
        ["token"],
        ["leave"],
        ["rm", "h1"],
        ["rotate"],
        ["snapshot", "save", "/tmp/x"],
        ["recover", "-f"],
    ):
        assert lab.h[4].fails(*command) == nowhere, command
    assert lab.h[4].says("status").startswith("This host is in no cluster")


def test_a_certificate_is_rotated_and_the_old_one_is_worth_nothing(lab: ClusterLab) -> None:
    for host in (lab.h[2], lab.h[3]):
        old = (host.home / "node.pem").read_text()

        host.says("rotate")

        assert (host.home / "node.pem").read_text() != old
        assert host.status()["State"] == "ready"
        new = (host.home / "node.pem").read_text()
        (host.home / "node.pem").write_text(old)
        error = host.fails("rotate")
        (host.home / "node.pem").write_text(new)
        assert "was replaced by another: it is good for nothing any more" in error
        host.says("rotate")
