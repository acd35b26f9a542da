"""`cnmctl cluster`: what it asks and what it prints."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cnm.cli.main import main
from tests.unit.cli_daemon import FakeDaemon, fake_daemon

TOKEN = {"Token": "CNM1-aa-bb", "Host": "192.0.2.1", "Expires": "2026-01-02T03:04:05Z"}
JOIN = """To add a host to this cluster, run there:

    cnmctl cluster join CNM1-aa-bb 192.0.2.1

The token is good for one host, until 2026-01-02T03:04:05Z; 'cnmctl cluster token' makes another.
"""


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDaemon]:
    with fake_daemon() as made:
        monkeypatch.setenv("CNM_HOST", f"unix://{made.socket}")
        yield made


def said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `cnmctl cluster WORDS`."""
    code = main(("cluster", *words))
    out, err = capsys.readouterr()
    return code, out, err


def test_init_prints_the_command_that_joins(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    answer = {"ClusterId": "ab" * 32, "Name": "h1", "Advertise": "192.0.2.1", "Join": TOKEN}
    daemon.answers("POST", "/cnm/v1/cluster/init", answer)

    code, out, err = said(
        capsys, "init", "--advertise", "192.0.2.1", "--vxlan-port", "4790", "--peer-port", "1"
    )

    assert (code, err) == (0, "")
    assert out == f"Cluster initialized: this host, h1 at 192.0.2.1, is its first member.\n\n{JOIN}"
    assert daemon.requests[0].body == {
        "Advertise": "192.0.2.1",
        "Name": "",
        "VxlanPort": 4790,
        "PeerPort": 1,
    }


def test_init_names_the_files_of_an_etcd_by_their_whole_paths(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.refuses("POST", "/cnm/v1/cluster/init", 501, "not yet")

    said(
        capsys,
        "init",
        "--etcd",
        "https://a:2379,https://b:2379",
        "--cacert",
        "ca.pem",
        "--ca-key",
        "/a",
        "--cert",
        "/c",
        "--key",
        "/k",
    )

    assert daemon.requests[0].body["Etcd"] == {
        "Endpoints": ["https://a:2379", "https://b:2379"],
        "Ca": os.path.abspath("ca.pem"),
        "CaKey": "/a",
        "Cert": "/c",
        "Key": "/k",
    }


def test_files_of_an_etcd_need_its_urls(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = said(capsys, "init", "--cacert", "/c")

    assert (code, "--cacert is for an etcd that runs already: give its URLs with --etcd" in err) == (2, True)
    assert daemon.requests == []


def test_init_prints_what_is_to_be_known(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    answer = {"ClusterId": "ab" * 32, "Name": "h1", "Advertise": "192.0.2.1", "Join": TOKEN}
    daemon.answers("POST", "/cnm/v1/cluster/init", {**answer, "Warnings": ["etcd has no TLS"]})

    assert said(capsys, "init", "--etcd", "http://a")[2] == "\nWARNING: etcd has no TLS\n"


def test_join_prints_the_steps(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    steps = [{"Progress": text, "Error": ""} for text in ("asking 192.0.2.1...", "joined")]
    daemon.streams("/cnm/v1/cluster/join", *steps, method="POST")

    assert said(capsys, "join", "--client", "--name", "h2", "T", "192.0.2.1") == (
        0,
        "asking 192.0.2.1...\njoined\n",
        "",
    )
    assert daemon.requests[0].body == {
        "Token": "T",
        "Host": "192.0.2.1",
        "Advertise": "",
        "Name": "h2",
        "Client": True,
    }


def test_join_that_fails_on_the_way_says_why(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.streams(
        "/cnm/v1/cluster/join",
        {"Progress": "asking", "Error": ""},
        {"Progress": "", "Error": "the join token is wrong"},
        method="POST",
    )

    assert said(capsys, "join", "T", "h") == (
        1,
        "asking\n",
        "Error response from daemon: the join token is wrong\n",
    )


def test_join_that_fails_at_once_says_why(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.refuses("POST", "/cnm/v1/cluster/join", 400, "malformed join token")

    assert said(capsys, "join", "T", "h")[::2] == (1, "Error response from daemon: malformed join token\n")


@pytest.mark.parametrize(("ttl", "seconds"), [("90", 90), ("30m", 1800), ("1h30m", 5400), ("2h0m5s", 7205)])
def test_token_takes_a_duration(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str], ttl: str, seconds: int
) -> None:
    daemon.answers("POST", "/cnm/v1/cluster/token", TOKEN, status=201)

    assert said(capsys, "token", "--ttl", ttl) == (0, JOIN, "")
    assert said(capsys, "token", "-q") == (0, "CNM1-aa-bb\n", "")
    assert [request.body for request in daemon.requests] == [{"Ttl": seconds}, {"Ttl": 3600}]


def test_tokens_are_listed(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    known = {"Expires": "2026-01-02T03:04:05Z", "MadeBy": "h1", "UsedBy": ""}
    daemon.answers("GET", "/cnm/v1/cluster/tokens", [{"Id": "ab" * 32, **known}])

    _, out, _ = said(capsys, "token", "ls")

    assert [line.split() for line in out.splitlines()] == [
        ["TOKEN", "EXPIRES", "MADE", "BY", "USED", "BY"],
        ["abababababab", "2026-01-02T03:04:05Z", "h1", "-"],
    ]
    assert said(capsys, "token", "ls", "-q") == (0, "abababababab\n", "")


def test_tokens_are_removed(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    for each in ("ab", "cd"):
        daemon.answers("DELETE", f"/cnm/v1/cluster/tokens/{each}", None, status=204)

    assert said(capsys, "token", "rm", "ab", "cd") == (0, "ab\ncd\n", "")


@pytest.mark.parametrize("words", [["rm"], ["ls", "x"], ["make"]])
def test_what_is_neither_list_nor_removal_is_told(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    code, _, err = said(capsys, "token", *words)

    assert (code, "'token ls' lists them, 'token rm ID...' removes" in err) == (2, True)
    assert daemon.requests == []


@pytest.mark.parametrize("ttl", ["", "1d", "h", "-5", "1h 5m"])
def test_what_is_no_duration_is_refused(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str], ttl: str
) -> None:
    code, _, err = said(capsys, "token", f"--ttl={ttl}")

    assert (code, err) == (1, f'cnmctl: invalid duration "{ttl}": as 30m, or 1h30m\n')
    assert daemon.requests == []


@pytest.mark.parametrize(
    ("words", "method", "path", "body", "answer", "out"),
    [
        (["leave", "-f"], "POST", "/leave", {"Force": True}, None, "Node left the cluster.\n"),
        (["rm", "h2"], "DELETE", "/nodes/h2", None, None, "h2\n"),
        (
            ["rotate"],
            "POST",
            "/rotate",
            {"Authority": False},
            None,
            "This node has a new key and certificate; the old ones are worth nothing.\n",
        ),
        (
            ["rotate", "--keys"],
            "POST",
            "/rotate",
            {"Keys": True},
            None,
            "All nodes make new keys for encrypted networks, and change over when the others have them.\n",
        ),
        (
            ["snapshot", "save", "/x"],
            "POST",
            "/snapshot",
            {"Path": "/x"},
            {"Path": "/x", "Size": 9},
            "/x: 9 bytes\n",
        ),
        (
            ["snapshot", "restore", "-f", "/x"],
            "POST",
            "/restore",
            {"Path": "/x", "Force": True},
            None,
            "Restored: this host is the only member now.\n",
        ),
        (
            ["recover", "--force"],
            "POST",
            "/recover",
            {"Force": True},
            None,
            "Recovered: this host is the only member now.\n",
        ),
    ],
)
def test_each_command_is_one_request(
    daemon: FakeDaemon,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    method: str,
    path: str,
    body: Any,
    answer: Any,
    out: str,
) -> None:
    daemon.answers(method, f"/cnm/v1/cluster{path}", answer)

    assert said(capsys, *words) == (0, out, "")
    assert daemon.requests[0].body == body


def test_a_snapshot_is_saved_or_restored(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = said(capsys, "snapshot", "list", "/x")

    assert (code, err) == (2, "cnmctl: 'cnmctl cluster snapshot' saves or restores: 'list' is neither\n")


STATUS = {
    "State": "degraded",
    "Stale": True,
    "ClusterId": "ab" * 32,
    "Created": "2026-01-02T03:04:05Z",
    "Name": "h1",
    "Role": "member",
    "Advertise": "192.0.2.1",
    "VxlanPort": 4789,
    "CertificateExpires": "2027-01-02T03:04:05Z",
    "CertificateSince": "2026-01-02T03:04:05Z",
    "AuthorityExpires": "2036-01-02T03:04:05Z",
    "Members": [
        {
            "Name": "h1",
            "Endpoint": "192.0.2.1:2379",
            "State": "leader",
            "Lag": 2,
            "Milliseconds": 1.5,
            "Version": "3.4.23",
            "DbSize": 2**20,
            "Error": "",
        },
        {
            "Name": "",
            "Endpoint": "192.0.2.2:2379",
            "State": "unreachable",
            "Lag": 0,
            "Milliseconds": 0,
            "Version": "",
            "DbSize": 0,
            "Error": "does not answer",
        },
    ],
    "Nodes": [
        {
            "Name": "h1",
            "Role": "member",
            "State": "ready",
            "Address": "192.0.2.1",
            "Mtu": 1500,
            "Version": "1",
            "Since": "",
            "CertificateExpires": "2027",
            "Docker": "",
            "Transport": "fd00::1",
            "KeysSince": "",
            "Tunnel": "",
        },
        {
            "Name": "h2",
            "Role": "client",
            "State": "down",
            "Address": "192.0.2.2",
            "Mtu": 0,
            "Version": "",
            "Since": "",
            "CertificateExpires": "",
            "Docker": "",
            "Transport": "",
            "KeysSince": "",
            "Tunnel": "",
        },
    ],
    "Warnings": ["the members have no majority"],
}


def test_status_shows_members_and_nodes(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.answers("GET", "/cnm/v1/cluster", STATUS)

    code, out, err = said(capsys, "status")

    assert (code, err) == (0, "WARNING: the members have no majority\n")
    assert [line.split() for line in out.splitlines()] == [
        ["State:", "degraded", "(what", "follows", "may", "be", "old)"],
        ["Cluster:", "abababababab"],
        ["Created:", "2026-01-02T03:04:05Z"],
        ["This", "node:", "h1,", "member,", "at", "192.0.2.1"],
        ["Certificate:", "from", "2026-01-02T03:04:05Z", "until", "2027-01-02T03:04:05Z"],
        ["Authority:", "until", "2036-01-02T03:04:05Z"],
        ["VXLAN", "port:", "4789"],
        [],
        ["MEMBER", "ENDPOINT", "STATE", "LAG", "ANSWER", "DATA", "ETCD"],
        ["h1", "192.0.2.1:2379", "leader", "2", "1.5", "ms", "1.0", "MiB", "3.4.23"],
        ["-", "192.0.2.2:2379", "unreachable", "-", "-", "-", "-"],
        [],
        ["NODE", "ROLE", "STATE", "ADDRESS", "MTU", "CERTIFICATE", "VERSION"],
        ["h1", "member", "ready", "192.0.2.1", "1500", "2027", "1"],
        ["h2", "client", "down", "192.0.2.2", "-", "-", "-"],
    ]


def test_status_shows_who_encrypts_with_keys_of_which_age(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    hours_ago = (datetime.now(UTC) - timedelta(hours=5, minutes=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    own, other = STATUS["Nodes"]
    nodes = [
        {**own, "KeysSince": hours_ago},
        {**other, "Transport": "fd00::2", "KeysSince": "2020-01-01T00:00:00Z"},
    ]
    nodes[1]["Tunnel"] = "silent"
    daemon.answers("GET", "/cnm/v1/cluster", {**STATUS, "Nodes": nodes})

    _, out, _ = said(capsys, "status")

    head, first, second = [line.split() for line in out.splitlines()[-3:]]
    assert head == ["ENCRYPTS", "INSIDE", "KEY", "AGE", "TUNNEL"]
    assert first == ["h1", "fd00::1", "5h", "-"]
    assert (second[:2], second[3]) == (["h2", "fd00::2"], "silent")
    assert second[2].endswith("d")


def test_status_has_a_format(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.answers("GET", "/cnm/v1/cluster", STATUS)

    assert said(capsys, "status", "--format", "{{.State}} {{.Name}}") == (0, "degraded h1\n", "")


def test_status_of_a_host_in_no_cluster_says_what_to_do(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.answers("GET", "/cnm/v1/cluster", {**STATUS, "State": "out"})

    assert said(capsys, "status") == (
        0,
        "This host is in no cluster: cnmctl cluster init, or cnmctl cluster join\n",
        "",
    )
