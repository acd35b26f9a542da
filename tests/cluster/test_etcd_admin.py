"""What root does to a real etcd, checked with etcdctl."""

from __future__ import annotations

import itertools
import json
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cnm.cluster.etcd.admin import Admin, MemberStatus
from cnm.cluster.etcd.client import Client
from cnm.cluster.etcd.contract import Compacted, Denied, EtcdError
from cnm.cluster.etcd.roles import Access, Permission
from cnm.errors import Conflict, NotFound
from tests.support.etcd import PROGRAMS, EtcdCluster, running_etcd
from tests.support.etcd_stage import Heard, connect, eventually
from tests.support.unpacked import environment, lacking, program

_NUMBERS = itertools.count(1)


@pytest.fixture
def client(lone_etcd: EtcdCluster) -> Iterator[Client]:
    made = connect(lone_etcd)
    yield made
    made.close()


@pytest.fixture
def admin(client: Client) -> Admin:
    return Admin(client)


@pytest.fixture
def name() -> str:
    return f"admin{next(_NUMBERS)}"


def _asked(cluster: EtcdCluster, *arguments: str) -> Any:
    return json.loads(cluster.etcdctl(*arguments, "-w", "json"))


def test_members_and_their_state_are_what_etcdctl_says(lone_etcd: EtcdCluster, admin: Admin) -> None:
    (wanted,) = _asked(lone_etcd, "member", "list")["members"]
    (state,) = _asked(lone_etcd, "endpoint", "status")

    (member,) = admin.members()
    (status,) = admin.status()

    assert member == (wanted["ID"], wanted["name"], wanted["peerURLs"], wanted["clientURLs"], False)
    assert member.endpoints == lone_etcd.endpoints
    told = state["Status"]
    assert (status.member_id, status.version, status.leader, status.raft_term, status.db_size) == (
        told["header"]["member_id"],
        told["version"],
        told["leader"],
        told["raftTerm"],
        told["dbSize"],
    )
    assert status.db_used == told["dbSizeInUse"]
    assert status.raft_index >= told["raftIndex"] > 0
    assert status.raft_applied >= told["raftAppliedIndex"] > 0
    assert (status.answers, status.learner, status.errors) == (True, False, ())


def test_the_state_of_one_that_does_not_answer_is_its_error(lone_etcd: EtcdCluster, admin: Admin) -> None:
    (member,) = lone_etcd.members
    assert admin.status(["127.0.0.1:1"]) == [MemberStatus("127.0.0.1:1", "connection refused")]

    member.freeze()
    try:
        frozen = admin.status([member.endpoint, "127.0.0.1:1"], seconds=0.3)
    finally:
        member.thaw()

    assert [each.error for each in frozen] == ["does not answer", "connection refused"]


def test_a_member_joins_as_learner_gets_a_vote_and_leaves() -> None:
    if reason := lacking(*PROGRAMS):
        pytest.skip(reason)
    place = Path("/run") / f"etcd-joins-{next(_NUMBERS)}"
    with running_etcd(place) as cluster:
        client = connect(cluster)
        admin, joining = Admin(client), cluster.another("joining")
        try:
            added = admin.add_member([joining.peer_url], learner=True)
            assert admin.add_member([joining.peer_url], learner=True) == added
            assert (added.learner, added.name, added.endpoints) == (True, "", [])
            with pytest.raises(Conflict, match="in sync with leader"):
                admin.promote_member(added.id)

            joining.start()
            (learner,) = (each for each in admin.status([joining.endpoint]) if each.learner)
            assert learner.member_id == added.id
            eventually(lambda: _done(lambda: admin.promote_member(added.id)))
            admin.promote_member(added.id)
            members = {each.id: each for each in admin.members()}
            assert (members[added.id].name, members[added.id].learner) == ("joining", False)
            assert members[added.id].endpoints == [joining.endpoint]

            admin.update_member(added.id, ["https://127.0.0.2:2380"])
            assert "https://127.0.0.2:2380" in [url for each in admin.members() for url in each.peer_urls]
            admin.update_member(added.id, [joining.peer_url])
            admin.remove_member(added.id)
            admin.remove_member(added.id)
            assert len(admin.members()) == 1
            with pytest.raises(NotFound, match="member not found"):
                admin.update_member(added.id, [joining.peer_url])
            assert joining.process.wait(10) == 0
        finally:
            joining.kill()
            client.close()
    subprocess.run(["rm", "-r", str(place)], check=True)


def _done(change: Callable[[], object]) -> bool:
    try:
        change()
    except Conflict:
        return False
    return True


def test_users_have_roles_and_roles_permissions(lone_etcd: EtcdCluster, admin: Admin, name: str) -> None:
    for _ in range(2):
        admin.add_user(name)
        admin.add_role(name)
        admin.grant(name, Permission(f"/{name}/"))
        admin.grant(name, Permission(f"/{name}", Access.READ, prefix=False))
        admin.grant(name, Permission("/w/", Access.WRITE))
        admin.grant_role(name, name)

    assert name in admin.users()
    assert name in admin.roles()
    assert admin.roles_of(name) == [name]
    assert set(admin.permissions(name)) == {
        Permission(f"/{name}/"),
        Permission(f"/{name}", Access.READ, prefix=False),
        Permission("/w/", Access.WRITE),
    }
    told = lone_etcd.etcdctl("role", "get", name)
    assert f"[/{name}/, /{name}0) (prefix /{name}/)" in told

    for _ in range(2):
        admin.revoke(name, Permission("/w/"))
        admin.revoke(name, Permission(f"/{name}", prefix=False))
    assert admin.permissions(name) == [Permission(f"/{name}/")]
    for _ in range(2):
        admin.delete_role(name)
    assert admin.roles_of(name) == []
    for _ in range(2):
        admin.delete_user(name)
    assert name not in admin.users() + admin.roles()


def test_a_permission_for_everything_is_one(admin: Admin, name: str) -> None:
    admin.add_role(name)

    admin.grant(name, Permission("", Access.READ))

    assert admin.permissions(name) == [Permission("", Access.READ)]


def test_what_is_granted_and_revoked_holds_for_the_next_call(
    lone_etcd: EtcdCluster, admin: Admin, name: str
) -> None:
    admin.add_user(name)
    admin.add_role(name)
    admin.grant_role(name, name)
    user, heard = connect(lone_etcd, lone_etcd.authority.client(name)), Heard()
    with pytest.raises(Denied):
        user.put(f"/{name}/a", b"")

    admin.grant(name, Permission(f"/{name}/"))
    user.watch(f"/{name}/", user.put(f"/{name}/a", b""), heard.listener)
    heard.wait_for(1)
    admin.revoke(name, Permission(f"/{name}/"))

    with pytest.raises(Denied):
        user.get(f"/{name}/a")
    admin.delete_user(name)
    with pytest.raises(Denied):
        user.get(f"/{name}/a")
    user.close()


@pytest.mark.parametrize(
    "change",
    [
        lambda admin: admin.roles_of("nobody"),
        lambda admin: admin.permissions("nothing"),
        lambda admin: admin.grant_role("nobody", "root"),
        lambda admin: admin.grant_role("root", "nothing"),
        lambda admin: admin.grant("nothing", Permission("/")),
        lambda admin: admin.revoke("nothing", Permission("/")),
    ],
)
def test_users_and_roles_that_do_not_exist_are_named(admin: Admin, change: Callable[[Admin], Any]) -> None:
    with pytest.raises(NotFound, match=r"etcd cannot .*(nobody|nothing).*: (user|role) name not found"):
        change(admin)


def test_nobody_but_root_may(lone_etcd: EtcdCluster, admin: Admin, name: str) -> None:
    admin.add_user(name)
    user = connect(lone_etcd, lone_etcd.authority.client(name))

    for change in (
        lambda: Admin(user).add_user("other"),
        lambda: Admin(user).users(),
        lambda: Admin(user).grant("root", Permission("")),
        lambda: Admin(user).defragment(lone_etcd.endpoints[0]),
        lambda: Admin(user).save_snapshot(lone_etcd.place / "stolen"),
    ):
        with pytest.raises(Denied, match="permission denied"):
            change()
    assert not (lone_etcd.place / "stolen").exists()
    assert not (lone_etcd.place / "stolen.part").exists()
    user.close()


def test_authentication_is_enabled_once(tmp_path: Path) -> None:
    if reason := lacking(*PROGRAMS):
        pytest.skip(reason)
    with running_etcd(tmp_path, auth=False) as cluster:
        client = connect(cluster)
        admin = Admin(client)
        assert not admin.auth_enabled()

        admin.enable_auth()
        admin.enable_auth()

        assert admin.auth_enabled()
        stranger = connect(cluster, cluster.authority.client("stranger"))
        with pytest.raises(Denied):
            stranger.get("/a")
        assert admin.users() == ["root"]
        stranger.close()
        client.close()


def test_a_snapshot_is_whole_and_can_be_restored(
    lone_etcd: EtcdCluster, client: Client, admin: Admin, name: str, tmp_path: Path
) -> None:
    for number in range(100):
        client.put(f"/{name}/{number}", bytes(10_000))
    path = tmp_path / "saved"

    saved = admin.save_snapshot(path)

    assert saved.size == path.stat().st_size > 1_000_000
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]
    restore = [
        str(program("etcdctl")),
        "snapshot",
        "restore",
        str(path),
        "--data-dir",
        str(tmp_path / "data"),
    ]
    subprocess.run(restore, env={**environment(), "ETCDCTL_API": "3"}, check=True, capture_output=True)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    restore[-1] += "2"
    assert subprocess.run(restore, env={**environment(), "ETCDCTL_API": "3"}, capture_output=True).returncode


def test_a_snapshot_that_cannot_be_had_leaves_the_file_that_there_was(
    client: Client, admin: Admin, tmp_path: Path
) -> None:
    path = tmp_path / "saved"
    path.write_bytes(b"the last one")

    with pytest.raises(EtcdError, match=r"copy its data from 127\.0\.0\.1:1: connection refused"):
        admin.save_snapshot(path, "127.0.0.1:1")

    assert path.read_bytes() == b"the last one"
    assert list(tmp_path.iterdir()) == [path]


def test_compacting_and_defragmenting_give_space_back(client: Client, admin: Admin, name: str) -> None:
    (empty,) = admin.status()
    for _ in range(60):
        client.put(f"/{name}", bytes(100_000))
    eventually(lambda: admin.status()[0].db_used > empty.db_used + 5_000_000)
    (before,) = admin.status()

    revision = client.put(f"/{name}", b"")
    admin.compact(revision)
    admin.compact(revision)
    eventually(lambda: client.put(f"/{name}", b"") and admin.status()[0].db_used < before.db_used - 3_000_000)
    admin.defragment(admin.status()[0].endpoint)

    assert admin.status()[0].db_size < before.db_size - 3_000_000
    with pytest.raises(Compacted, match="future revision"):
        admin.compact(revision + 100_000)


def test_a_full_store_raises_an_alarm_that_ends_when_there_is_space(tmp_path: Path) -> None:
    if reason := lacking(*PROGRAMS):
        pytest.skip(reason)
    with running_etcd(tmp_path, flags=["--quota-backend-bytes=2000000"]) as cluster:
        client = connect(cluster)
        admin = Admin(client)
        assert admin.alarms() == []

        def fill() -> None:
            for _ in range(100):
                client.put("/a", bytes(200_000))

        with pytest.raises(EtcdError, match="etcd cannot write /a: mvcc: database space exceeded"):
            fill()
        (alarm,) = admin.alarms()
        assert alarm == (admin.members()[0].id, "nospace")
        admin.compact(client.list("/").revision)
        admin.defragment(cluster.endpoints[0])
        admin.disarm()

        assert admin.alarms() == []
        client.put("/a", b"")
        client.close()
