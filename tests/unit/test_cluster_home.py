"""What a node keeps, what its etcd is started with, and words for addresses and ports."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from cnm.cluster import addresses, identity, member, port_holders
from cnm.cluster.home import Home, NodeRecord, Phase, Ports
from cnm.cluster.member import MemberConfig
from cnm.errors import CnmError, InvalidParameter, NotFound

RECORD = NodeRecord(phase=Phase.STARTING, cluster_id="ab", name="h1", advertise="192.0.2.1")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(str(tmp_path))


def test_a_host_in_no_cluster_has_no_record(home: Home) -> None:
    assert home.record() is None
    assert not home.path.exists()


def test_the_record_is_what_was_written(home: Home) -> None:
    home.begin(RECORD)
    assert home.record() == RECORD

    changed = replace(RECORD, phase=Phase.IN, endpoints=("192.0.2.1:2379",), ports=Ports(peer=1))
    home.write_record(changed)

    assert home.record() == changed
    assert os.listdir(home.path) == ["node.json"]


def test_only_its_owner_reads_what_a_node_keeps(home: Home) -> None:
    home.begin(RECORD)
    home.write(home.node, "secret")

    assert home.path.stat().st_mode & 0o777 == 0o700
    assert home.node.stat().st_mode & 0o777 == 0o600


def test_a_new_beginning_forgets_the_old_one(home: Home) -> None:
    home.begin(RECORD)
    home.write(home.authority_key, "old")

    home.begin(RECORD)

    assert not home.authority_key.exists()


def test_who_leaves_keeps_no_key(home: Home) -> None:
    for _ in range(2):  # what was left before is replaced
        home.begin(RECORD)
        for path in (home.node, home.authority_key, home.root_user, home.authority):
            home.write(path, "x")
        home.data.mkdir()

        home.put_away()

        assert home.record() is None
        assert sorted(os.listdir(home.left)) == ["ca.crt", "etcd"]


def test_a_broken_record_is_told_with_the_remedy(home: Home) -> None:
    home.begin(RECORD)
    home.record_path.write_text("{")

    with pytest.raises(CnmError, match=r"node\.json cannot be read: .*: put it back from a copy, or remove"):
        home.record()


def test_a_file_that_is_gone_is_told(home: Home) -> None:
    with pytest.raises(
        CnmError, match=r"node\.pem cannot be read: no such file or directory: join the cluster anew"
    ):
        home.read(home.node)


def test_what_cannot_be_written_is_told(home: Home, tmp_path: Path) -> None:
    (tmp_path / "cluster").write_text("a file")

    with pytest.raises(CnmError, match=r"^cannot write .*/cluster: not a directory"):
        home.begin(RECORD)


# The member's process


def test_etcd_is_started_with_what_keeps_strangers_out(home: Home) -> None:
    config = MemberConfig("h1", "2001:db8::1", Ports(), {"h1": "https://[2001:db8::1]:2380"}, joins=False)
    flags = member.arguments(home, config)

    for flag in (
        "--client-cert-auth",
        "--peer-client-cert-auth",
        "--peer-cert-allowed-hostname=etcd.cnm",
        "--listen-client-urls=https://[2001:db8::1]:2379",
        "--listen-peer-urls=https://[2001:db8::1]:2380",
        "--initial-cluster-state=new",
        "--auto-compaction-mode=periodic",
        "--auto-compaction-retention=10m",
    ):
        assert flag in flags
    assert not [flag for flag in flags if "http://" in flag]
    assert "--initial-cluster-state=existing" in member.arguments(home, config._replace(joins=True))


def test_a_long_log_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "etcd.log"
    member.bound_log(path)  # there is none yet
    path.write_bytes(b"x" * member.LOG_BYTES)
    with path.open("ab") as etcd:
        member.bound_log(path)
        assert path.stat().st_size == member.LOG_BYTES
        etcd.write(b"one more\n")
        etcd.flush()

        member.bound_log(path)
        etcd.write(b"after it\n")

    assert path.read_bytes() == b"after it\n"
    assert path.with_name("etcd.log.1").stat().st_size == member.LOG_BYTES + 9


def test_an_etcd_that_is_not_installed_is_told() -> None:
    with pytest.raises(
        NotFound, match=r"^etcd is not installed at /nowhere/etcd, where the setting 'etcd' says it is"
    ):
        member.find_program("/nowhere/etcd")


def test_debians_own_etcd_is_known_by_its_unit() -> None:
    assert port_holders.words(7, "etcd", "etcd.service") == (
        "etcd.service (pid 7), which comes with the package etcd-server: stop it with 'systemctl disable --now etcd'"
    )
    assert port_holders.words(7, "etcd", "session-1.scope") == "etcd (pid 7): stop it"


# Words


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("192.0.2.1", ("192.0.2.1", 2378)),
        ("192.0.2.1:99", ("192.0.2.1", 99)),
        ("2001:db8::1", ("2001:db8::1", 2378)),
        ("[2001:db8::1]", ("2001:db8::1", 2378)),
        ("[2001:db8::1]:99", ("2001:db8::1", 99)),
        ("web1.example", ("web1.example", 2378)),
    ],
)
def test_a_host_may_have_a_port(text: str, found: tuple[str, int]) -> None:
    assert addresses.split_port(text, 2378) == found
    assert addresses.split_port(addresses.join_port(*found), 2378) == found


@pytest.mark.parametrize("text", ["", ":1", "a:b", "a:0", "a:65536", "[::1]:x"])
def test_what_is_no_host_is_refused(text: str) -> None:
    with pytest.raises(InvalidParameter, match=r"is no host with a port, as 192\.0\.2\.1:2378"):
        addresses.split_port(text, 2378)


@pytest.mark.parametrize("text", ["0.0.0.0", "127.0.0.1", "::1", "fe80::1", "224.0.0.1", "::"])
def test_an_address_that_others_do_not_reach_is_refused(text: str) -> None:
    with pytest.raises(
        InvalidParameter, match="cannot be advertised: other hosts do not reach this one by it"
    ):
        addresses.parse(text)


def test_a_user_belongs_to_its_node() -> None:
    for name in ("web1", "web1.example.com"):
        user = identity.new_user(name)
        assert identity.node_of(user) == name
        assert identity.new_user(name) != user
    assert identity.node_of("root") == ""
    assert identity.role_of("root") != "root"


def test_every_node_has_its_own_transport_address() -> None:
    pool = identity.transport_pool("0123456789abcdef" * 4)
    found = {identity.transport_address(pool, f"h{number}") for number in range(1000)}

    assert pool == "fd01:2345:6789::/64"
    assert len(found) == 1000
    assert all(each.startswith("fd01:2345:6789:0:") for each in found)


def test_a_daemon_in_no_cluster_loads_nothing_of_one() -> None:
    script = (
        "import sys, tempfile\n"
        "import cnm.daemon\n"
        "from cnm.config import Settings\n"
        "from cnm.membership.membership import Membership\n"
        "one = Membership(Settings(root=tempfile.mkdtemp()), tuple)\n"
        "one.start(); assert one.status().state == 'out'; one.close()\n"
        "print([name for name in ('grpc', 'google.protobuf', 'cryptography') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"
