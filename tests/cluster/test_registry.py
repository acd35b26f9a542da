"""The nodes of a cluster in etcd, and who may write where: the same cases with a real etcd and with one in memory."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from cnm.cluster import certificates, keys, records, registry, tokens
from cnm.cluster.certificates import Authority
from cnm.cluster.etcd.admin import Admin
from cnm.cluster.etcd.client import Client
from cnm.cluster.etcd.contract import Etcd, EtcdError
from cnm.cluster.etcd.memory import MemoryEtcd, MemoryStore
from cnm.cluster.etcd.roles import Access, Permission
from cnm.cluster.grants import Grants
from cnm.cluster.identity import node_of, role_of, transport_pool
from cnm.cluster.registry import Applicant, Registry
from cnm.errors import Conflict, Forbidden, InvalidParameter, NotFound
from tests.cluster.hosts import eventually
from tests.support.etcd import EtcdCluster
from tests.support.memory_users import MemoryUsers

CLUSTER_ID = "0123456789abcdef" * 4
AUTHORITY: Authority = certificates.new_authority(CLUSTER_ID)


class World(NamedTuple):
    """One cluster without nodes; `users` has roles_of and roles beside."""

    etcd: Etcd
    users: Any
    registry: Registry

    def token(self) -> tokens.JoinToken:
        return self.registry.new_token(600, "h1")

    def enrol(self, name: str, *, member: bool = False) -> str:
        """The certificate of a new node."""
        return self.registry.enrol(self.token().secret, applicant(name, member=member))

    def registration(self, name: str) -> records.Registration:
        found = self.etcd.get(keys.registration(name))
        assert found is not None
        return records.decode(found.value, records.Registration)


def applicant(name: str, *, member: bool = False, key: str = "") -> Applicant:
    csr = certificates.request(key or certificates.new_key(), name)
    return Applicant(name, ["192.0.2.7"], csr, member)


@pytest.fixture(params=["memory", "etcd"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    if request.param == "memory":
        etcd: Etcd = MemoryEtcd(MemoryStore())
        users: Any = MemoryUsers()
    else:
        lone: EtcdCluster = request.getfixturevalue("lone_etcd")
        client = Client(lone.endpoints, lone.authority.pem, lone.root.cert, lone.root.key)
        etcd, users = client, Admin(client)
        client.delete(keys.ROOT, prefix=True)
    cluster = records.Cluster(id=CLUSTER_ID, created="", transport=transport_pool(CLUSTER_ID))
    etcd.put(keys.CLUSTER, records.encode(cluster))
    yield World(etcd, users, Registry(etcd, users, AUTHORITY))
    for user in users.users():
        if node_of(user):
            users.delete_user(user)
    for role in users.roles():
        if role.startswith("node:"):
            users.delete_role(role)
    etcd.delete(keys.ROOT, prefix=True)
    etcd.close()


# Tokens


def test_etcd_knows_a_token_by_its_digest_under_a_lease(world: World) -> None:
    token = world.token()

    found = world.etcd.get(keys.token(token.key))

    assert found is not None
    assert found.lease
    assert records.decode(found.value, records.Token).made_by == "h1"
    assert tokens.secret_text(token.secret).encode() not in found.value
    assert token.is_for(certificates.digest(AUTHORITY.certificate))
    assert 590 < token.expires - time.time() < 601


def test_a_token_enrols_one_node(world: World) -> None:
    token = world.token()
    world.registry.enrol(token.secret, applicant("web1"))

    with pytest.raises(Conflict, match=r"^the join token was used by web1 already: make another"):
        world.registry.enrol(token.secret, applicant("web2"))
    assert world.etcd.get(keys.registration("web2")) is None
    assert [user for user in world.users.users() if node_of(user) == "web2"] == []


def test_a_token_that_is_gone_with_its_time_has_expired() -> None:
    store = MemoryStore()
    etcd = MemoryEtcd(store)
    etcd.put(keys.CLUSTER, records.encode(records.Cluster(id=CLUSTER_ID, created="")))
    made = Registry(etcd, MemoryUsers(), AUTHORITY)
    token = made.new_token(60, "h1")

    store.advance(61)

    assert etcd.get(keys.token(token.key)) is None
    over = tokens.JoinToken(token.authority, int(time.time() - 1).to_bytes(4, "big") + token.secret[4:])
    with pytest.raises(Forbidden, match=r"^the join token expired at 20[0-9T:-]+Z: make another"):
        made.enrol(over.secret, applicant("web1"))


def test_a_token_nobody_gave_out_is_wrong(world: World) -> None:
    other = tokens.new(bytes(32), int(time.time()) + 60)

    with pytest.raises(Forbidden, match=r"^the join token is wrong"):
        world.registry.enrol(other.secret, applicant("web1"))


def test_without_an_etcd_there_is_no_token() -> None:
    store = MemoryStore()
    store.quorum = False

    with pytest.raises(EtcdError):
        Registry(MemoryEtcd(store), MemoryUsers(), AUTHORITY).new_token(60, "h1")


# Enrolment


def test_a_node_is_registered_with_all_that_is_its_own(world: World) -> None:
    certificate = world.enrol("web1", member=True)

    found = world.registration("web1")
    user = certificates.user(certificate)
    assert re.fullmatch(r"web1\.[0-9a-f]{8}", user)
    assert (found.name, found.member, found.user, found.address) == ("web1", True, user, "192.0.2.7")
    assert found.fingerprint == certificates.digest(certificate).hex()
    assert found.transport.startswith("fd01:2345:6789:0:")
    assert world.users.roles_of(user) == [role_of("web1")]
    allowed = world.users.permissions(role_of("web1"))
    assert sorted(allowed) == sorted(registry.own_permissions("web1"))


def test_a_role_allows_what_is_its_own_and_what_is_shared(world: World) -> None:
    allowed = registry.own_permissions("web1")

    def may(access: Access, key: str) -> bool:
        return any(each.allows(access, key) for each in allowed)

    for key in (keys.node("web1"), keys.participant("web1", "n"), keys.network("n"), keys.network_name("a")):
        assert may(Access.WRITE, key)
    for key in (
        keys.vni(5),
        keys.POOLS_CHANGED,
        keys.pool("10.0.0.0/8"),
        keys.address("10.0.0.0/8", "10.0.0.1"),
    ):
        assert may(Access.WRITE, key)
    for key in (
        keys.node("web"),
        keys.node("web11"),
        keys.participant("web11", "n"),
        keys.CLUSTER,
        keys.token("t"),
    ):
        assert may(Access.READ, key)
        assert not may(Access.WRITE, key)
    assert not may(Access.WRITE, keys.endpoint("n", "web1", "e"))
    assert not may(Access.READ, "/elsewhere")


def test_a_name_that_is_taken_is_refused_and_the_token_stays_good(world: World) -> None:
    world.enrol("web1")
    before = world.registration("web1")
    token = world.token()

    with pytest.raises(
        Conflict, match=r"^node web1 is in the cluster already: 'cnmctl cluster rm web1' there"
    ):
        world.registry.enrol(token.secret, applicant("WEB1"))

    assert world.registration("web1") == before
    world.registry.enrol(token.secret, applicant("web2"))


@pytest.mark.parametrize("name", ["", "a/b", "-a", "a b", "x" * 64, "ä"])
def test_a_name_that_cannot_be_is_refused(world: World, name: str) -> None:
    with pytest.raises(InvalidParameter, match=r"^invalid node name"):
        world.registry.enrol(world.token().secret, applicant("x")._replace(name=name))


def test_who_lost_the_answer_may_ask_again_with_the_same_key(world: World) -> None:
    token, asked = world.token(), applicant("web1")
    first = world.registry.enrol(token.secret, asked)

    again = world.registry.enrol(token.secret, asked)

    assert [user for user in world.users.users() if node_of(user) == "web1"] == [certificates.user(again)]
    assert world.registration("web1").user == certificates.user(again) != certificates.user(first)
    with pytest.raises(Conflict, match="was used by web1 already"):
        world.registry.enrol(token.secret, applicant("web1"))


def test_an_answer_of_etcd_that_is_lost_changes_nothing() -> None:
    etcd = MemoryEtcd(MemoryStore())
    etcd.put(keys.CLUSTER, records.encode(records.Cluster(id=CLUSTER_ID, created="")))
    made = Registry(etcd, MemoryUsers(), AUTHORITY)
    token = made.new_token(60, "h1")
    etcd.lose_answers()

    certificate = made.enrol(token.secret, applicant("web1"))

    found = etcd.get(keys.registration("web1"))
    assert found is not None
    assert records.decode(found.value, records.Registration).user == certificates.user(certificate)


# Certificates that are renewed


def test_an_old_certificate_is_good_until_the_new_one_is_shown(world: World) -> None:
    old = world.enrol("web1")

    new = world.registry.renew(certificates.user(old), applicant("web1").csr)

    users = [user for user in world.users.users() if node_of(user) == "web1"]
    assert sorted(users) == sorted([certificates.user(old), certificates.user(new)])
    world.registry.confirm(new)
    assert [user for user in world.users.users() if node_of(user) == "web1"] == [certificates.user(new)]
    assert world.registration("web1").fingerprint == certificates.digest(new).hex()
    for act in (
        lambda: world.registry.renew(certificates.user(old), ""),
        lambda: world.registry.confirm(old),
    ):
        with pytest.raises(Forbidden, match=r"was replaced by another: it is good for nothing any more$"):
            act()


def test_whoever_was_removed_renews_nothing(world: World) -> None:
    old = world.enrol("web1")
    world.registry.remove("web1")

    with pytest.raises(Forbidden, match="is no node of the cluster any more"):
        world.registry.renew(certificates.user(old), applicant("web1").csr)
    world.enrol("web1")  # another of the same name
    with pytest.raises(Forbidden, match=r"was replaced by another"):
        world.registry.renew(certificates.user(old), applicant("web1").csr)


# Removal


def test_a_removed_node_leaves_nothing_and_others_keep_theirs(world: World) -> None:
    world.enrol("web1")
    world.enrol("web11")
    for name in ("web1", "web11"):
        world.etcd.put(keys.node(name), b"{}")
        world.etcd.put(keys.participant(name, "n1"), b"{}")
        world.etcd.put(keys.endpoint("n1", name, "e"), b"{}")
    for number in range(150):
        claim = records.Claim(node="web1" if number % 3 else "web11", owner="e")
        world.etcd.put(keys.address("10.0.0.0/16", f"10.0.0.{number}"), records.encode(claim))

    world.registry.remove("web1")
    world.registry.remove("web1")  # once more, as after an interruption

    left = [each.key for each in world.etcd.list(keys.ROOT).items]
    assert sorted(key for key in left if "web1" in key) == sorted(
        (
            keys.registration("web11"),
            keys.node("web11"),
            keys.participant("web11", "n1"),
            keys.endpoint("n1", "web11", "e"),
        )
    )
    assert sum(key.startswith(keys.ADDRESSES) for key in left) == 50
    assert {node_of(user) for user in world.users.users()} >= {"web11"}
    assert "web1" not in {node_of(user) for user in world.users.users()}
    assert role_of("web1") not in world.users.roles()


def test_a_node_takes_only_itself_out(world: World) -> None:
    old = world.enrol("web1")
    world.registry.remove("web1")
    world.enrol("web1")

    world.registry.remove_self("web1", old)

    assert world.registration("web1").name == "web1"
    world.registry.remove_self(
        "web1", world.registry.renew(world.registration("web1").user, applicant("x").csr)
    )
    assert world.registration("web1").name == "web1"


def test_what_is_not_there_is_not_found(world: World) -> None:
    with pytest.raises(NotFound, match=r"^no node web9 in the cluster"):
        world.registry.runs_member("web9", "e", "l")
    world.etcd.delete(keys.CLUSTER)
    with pytest.raises(NotFound, match=r"^this etcd holds no cluster"):
        registry.read_cluster(world.etcd)


# Who may write where


@pytest.fixture
def grants(world: World) -> Iterator[Grants]:
    made = Grants(world.etcd, world.users, "h1", audit_seconds=0.5)
    yield made
    made.close()


def granted(world: World, node: str) -> list[str]:
    allowed = world.users.permissions(role_of(node))
    return sorted(each.key for each in allowed if each.key.startswith(keys.ENDPOINTS))


def test_who_takes_part_may_write_until_he_does_no_more(world: World, grants: Grants) -> None:
    for name in ("web1", "web2"):
        world.enrol(name)
    world.etcd.put(keys.network("n1"), b"{}")
    world.etcd.put(keys.participant("web1", "n1"), b"{}")
    world.etcd.put(keys.participant("web1", "nowhere"), b"{}")
    grants.start()

    eventually(lambda: granted(world, "web1") == [keys.endpoints_of("n1", "web1")])
    world.etcd.put(keys.network("n2"), b"{}")
    world.etcd.put(keys.participant("web1", "n2"), b"{}")
    eventually(lambda: len(granted(world, "web1")) == 2)
    assert granted(world, "web2") == []
    world.etcd.delete(keys.participant("web1", "n1"))
    eventually(lambda: granted(world, "web1") == [keys.endpoints_of("n2", "web1")])
    world.etcd.delete(keys.network("n2"))
    eventually(lambda: granted(world, "web1") == [])


def test_what_is_so_already_is_not_written_again() -> None:
    etcd, users = MemoryEtcd(MemoryStore()), MemoryUsers()
    etcd.put(keys.CLUSTER, records.encode(records.Cluster(id=CLUSTER_ID, created="")))
    made = Registry(etcd, users, AUTHORITY)
    for name in ("h1", "h2"):
        made.enrol(made.new_token(60, "h1").secret, applicant(name, member=True))
    first, second = (Grants(etcd, users, name, audit_seconds=0.02) for name in ("h1", "h2"))
    for each in (second, first):
        each.start()
    etcd.put(keys.network("n1"), b"{}")
    before = users.changes

    etcd.put(keys.participant("h2", "n1"), b"{}")

    role = role_of("h2")
    eventually(lambda: Permission(keys.endpoints_of("n1", "h2")) in users.permissions(role))
    looks = users.looks
    eventually(lambda: users.looks > looks + 8)  # of both, time and again
    for each in (first, second):
        each.close()
    assert users.changes == before + 1


def test_members_come_back_to_it_after_etcd_was_away() -> None:
    store, users = MemoryStore(), MemoryUsers()
    etcd = MemoryEtcd(store)
    users.add_role(role_of("web1"))
    etcd.put(keys.registration("web1"), records.encode(records.Registration(name="web1")))
    etcd.put(keys.network("n1"), b"{}")
    made = Grants(etcd, users, "h1")
    store.quorum = False
    made.start()
    store.quorum = True

    etcd.put(keys.participant("web1", "n1"), b"{}")

    def allowed() -> list[str]:
        found = [each.key for each in users.permissions(role_of("web1"))]
        return [key for key in found if key.startswith(keys.ENDPOINTS)]

    eventually(lambda: allowed() == [keys.endpoints_of("n1", "web1")])
    made.close()
