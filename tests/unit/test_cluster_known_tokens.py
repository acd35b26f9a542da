"""Join tokens that were made: listed, and taken back."""

from __future__ import annotations

import pytest

from cnm.cluster import certificates, keys, records
from cnm.cluster.etcd.memory import MemoryEtcd, MemoryStore
from cnm.cluster.registry import Applicant, Registry
from cnm.errors import Conflict, Forbidden, NotFound
from tests.support.memory_users import MemoryUsers

CLUSTER_ID = "ab" * 32
AUTHORITY = certificates.new_authority(CLUSTER_ID)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def members(store: MemoryStore) -> Registry:
    etcd = MemoryEtcd(store)
    etcd.put(keys.CLUSTER, records.encode(records.Cluster(id=CLUSTER_ID, created="")))
    return Registry(etcd, MemoryUsers(), AUTHORITY)


def applicant(name: str) -> Applicant:
    return Applicant(name, ["192.0.2.7"], certificates.request(certificates.new_key(), name), member=False)


def test_several_are_good_at_once_and_each_for_one_node(members: Registry) -> None:
    one, two = members.new_token(600, "h1"), members.new_token(600, "h2")

    members.enrol(two.secret, applicant("web2"))
    members.enrol(one.secret, applicant("web1"))

    assert sorted((each.made_by, each.used_by) for _, each in members.tokens()) == [
        ("h1", "web1"),
        ("h2", "web2"),
    ]


def test_they_are_listed_in_the_order_in_which_they_expire(members: Registry) -> None:
    late, soon = members.new_token(6000, "h1"), members.new_token(60, "h1")

    assert [digest for digest, _ in members.tokens()] == [soon.key, late.key]


def test_one_that_expired_is_not_listed(members: Registry, store: MemoryStore) -> None:
    members.new_token(60, "h1")

    store.advance(61)

    assert members.tokens() == []


def test_nobody_joins_with_one_that_was_removed(members: Registry) -> None:
    kept, removed = members.new_token(600, "h1"), members.new_token(600, "h1")

    assert members.remove_token(removed.key[:12]) == removed.key

    with pytest.raises(Forbidden, match=r"^the join token is wrong, or was removed: make another"):
        members.enrol(removed.secret, applicant("web1"))
    members.enrol(kept.secret, applicant("web1"))


@pytest.mark.parametrize("begin", ["", "zz", "f" * 65])
def test_one_that_is_not_there_is_told_so(members: Registry, begin: str) -> None:
    members.new_token(600, "h1")

    with pytest.raises(NotFound, match=r"^no join token .*: see 'cnmctl cluster token ls'$"):
        members.remove_token(begin)


def test_a_beginning_of_several_is_refused(members: Registry) -> None:
    first = {members.new_token(600, "h1").key[:1] for _ in range(17)}
    begin = next(each for each in first if sum(d.startswith(each) for d, _ in members.tokens()) > 1)

    with pytest.raises(Conflict, match=rf" join tokens begin with {begin}: give more of the id$"):
        members.remove_token(begin)
    assert len(members.tokens()) == 17
