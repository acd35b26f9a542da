"""What tests can do to an etcd in memory, beyond the contract's cases."""

from __future__ import annotations

import threading

import pytest

from cnm.cluster.etcd.contract import Ambiguous, Delete, EtcdError, Following, Get, Listener, Put
from cnm.cluster.etcd.memory import MemoryEtcd, MemoryStore
from cnm.cluster.etcd.roles import Access, Permission
from tests.support.etcd_stage import Heard


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def etcd(store: MemoryStore) -> MemoryEtcd:
    return MemoryEtcd(store)


def test_a_client_that_is_away_hears_later_what_others_did(store: MemoryStore, etcd: MemoryEtcd) -> None:
    other, heard = MemoryEtcd(store), Heard()
    etcd.watch("/a/", 1, heard.listener)

    etcd.away = True
    other.put("/a/1", b"1")
    other.put("/a/2", b"2")
    with pytest.raises(EtcdError, match="write /a/3: it is away"):
        etcd.put("/a/3", b"")
    etcd.settle()
    assert heard.events == []
    etcd.away = False
    etcd.settle()

    assert heard.changes == [("/a/1", b"1"), ("/a/2", b"2")]
    assert len(heard.answers) == 1
    assert heard.stood == [Following.CURRENT, Following.DEGRADED, Following.CURRENT]


def test_what_was_compacted_while_a_client_was_away_ends_its_watch(
    store: MemoryStore, etcd: MemoryEtcd
) -> None:
    other, heard = MemoryEtcd(store), Heard()
    etcd.watch("/a/", 1, heard.listener)

    etcd.away = True
    other.put("/a/1", b"1")
    store.compact(other.put("/a/1", b"2"))
    etcd.away = False
    other.put("/a/1", b"3")
    etcd.settle()

    assert heard.stood == [Following.CURRENT, Following.DEGRADED, Following.COMPACTED]
    assert heard.events == []


def test_without_a_majority_only_stale_reads_are_answered(store: MemoryStore, etcd: MemoryEtcd) -> None:
    etcd.put("/a", b"1")
    store.quorum = False

    assert [item.value for item in etcd.list("/a", stale=True).items] == [b"1"]
    stale = etcd.get("/a", stale=True)
    assert stale is not None
    for failing in (
        lambda: etcd.get("/a"),
        lambda: etcd.list("/a"),
        lambda: etcd.delete("/a"),
        lambda: etcd.transact([], [Get("/a")]),
    ):
        with pytest.raises(EtcdError, match="no leader"):
            failing()


def test_a_lease_ends_when_its_client_is_away_for_that_long(store: MemoryStore, etcd: MemoryEtcd) -> None:
    other, heard = MemoryEtcd(store), Heard()
    ids: list[int] = []
    lease = etcd.keep_lease(10, ids.append)
    etcd.settle()
    etcd.put("/a", b"", lease.id)
    other.watch("/a", store.revision + 1, heard.listener)

    store.advance(100)
    assert other.get("/a") is not None
    etcd.away = True
    store.advance(9)
    assert other.get("/a") is not None
    store.advance(1)
    assert other.get("/a") is None
    etcd.away = False
    etcd.settle()
    other.settle()

    assert ids == [ids[0], lease.id]
    assert ids[0] != lease.id
    assert heard.changes == [("/a", None)]


def test_no_lease_ends_without_a_majority_and_each_has_all_its_time_after(
    store: MemoryStore, etcd: MemoryEtcd
) -> None:
    lease = etcd.keep_lease(10, lambda number: None)
    etcd.put("/a", b"", lease.id)

    store.quorum = False
    etcd.away = True
    store.advance(1000)
    store.quorum = True
    store.advance(9)
    assert MemoryEtcd(store).get("/a") is not None
    store.advance(1)

    assert MemoryEtcd(store).get("/a") is None


def test_a_transaction_whose_answer_is_lost_was_made(etcd: MemoryEtcd) -> None:
    etcd.lose_answers()

    with pytest.raises(Ambiguous):
        etcd.transact([], [Put("/a", b"1")])

    found = etcd.get("/a")
    assert found is not None
    assert found.version == 1


def test_a_put_whose_answer_is_lost_is_made_twice(etcd: MemoryEtcd) -> None:
    etcd.lose_answers()

    etcd.put("/a", b"1")

    found = etcd.get("/a")
    assert found is not None
    assert found.version == 2


def test_what_is_deleted_and_put_again_in_one_transaction_was_made_anew(etcd: MemoryEtcd) -> None:
    etcd.put("/a/1", b"1")

    outcome = etcd.transact([], [Delete("/a/1"), Put("/b", b"2"), Get("/", prefix=True)])

    assert [item.key for item in outcome.found[0]] == ["/b"]


def test_settling_tells_who_does_not_return(etcd: MemoryEtcd) -> None:
    go_on = threading.Event()
    etcd.watch("/a", 1, Listener(lambda events, revision: None, lambda how: go_on.wait(10)))

    with pytest.raises(TimeoutError, match=r"0\.01 s"):
        etcd.settle(0.01)
    go_on.set()
    etcd.settle()


@pytest.mark.parametrize(
    ("permission", "key", "prefix", "allowed"),
    [
        (Permission("/a/"), "/a/b", False, True),
        (Permission("/a/"), "/a/b", True, True),
        (Permission("/a/"), "/a", True, False),
        (Permission("/a", prefix=False), "/a", False, True),
        (Permission("/a", prefix=False), "/a", True, False),
        (Permission("/a", prefix=False), "/ab", False, False),
        (Permission(""), "", True, True),
        (Permission("/a/", Access.WRITE), "/a/b", False, False),
        (Permission("/a/", Access.READ), "/a/b", False, True),
    ],
)
def test_a_permission_to_read(permission: Permission, key: str, prefix: bool, allowed: bool) -> None:
    assert permission.allows(Access.READ, key, prefix) is allowed
