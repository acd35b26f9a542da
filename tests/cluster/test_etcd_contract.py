"""What a client of etcd keeps: the same cases over a real one and over the one in memory."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from cnm.cluster.etcd.contract import (
    Compare,
    Delete,
    Denied,
    EtcdError,
    Following,
    Get,
    Listener,
    Put,
    Subject,
    absent,
    exists,
    holds,
    unchanged,
)
from cnm.cluster.etcd.roles import Access, Permission
from cnm.errors import InvalidParameter
from tests.support.etcd_stage import Heard, MemoryStage, RealStage, Stage, eventually

_NUMBERS = itertools.count(1)


@pytest.fixture(params=["memory", "real"])
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    made: Stage = (
        MemoryStage() if request.param == "memory" else RealStage(request.getfixturevalue("lone_etcd"))
    )
    yield made
    made.close()


@pytest.fixture
def at() -> str:
    """A prefix that no other test uses."""
    return f"/test/{next(_NUMBERS)}/"


def _now(stage: Stage) -> int:
    return stage.etcd.list("/nothing/").revision


# Reading and writing.


def test_what_was_put_is_got(stage: Stage, at: str) -> None:
    revision = stage.etcd.put(at + "a", b"1")

    found = stage.etcd.get(at + "a")

    assert found is not None
    assert found == (at + "a", b"1", revision, revision, 1, 0)


def test_a_key_that_is_put_again_keeps_its_creation(stage: Stage, at: str) -> None:
    created = stage.etcd.put(at + "a", b"1")
    changed = stage.etcd.put(at + "a", b"2")

    assert stage.etcd.get(at + "a") == (at + "a", b"2", created, changed, 2, 0)


def test_what_is_not_there_is_none(stage: Stage, at: str) -> None:
    assert stage.etcd.get(at + "a") is None


def test_text_beyond_ascii_and_any_bytes_are_kept(stage: Stage, at: str) -> None:
    stage.etcd.put(at + "größe", bytes(range(256)))

    assert [(item.key, item.value) for item in stage.etcd.list(at).items] == [
        (at + "größe", bytes(range(256)))
    ]


def test_a_list_has_what_begins_so_in_order(stage: Stage, at: str) -> None:
    for name in ("b", "a", "a/x"):
        stage.etcd.put(at + name, b"")
    revision = stage.etcd.put(at[:-1] + "0", b"just after the prefix")

    assert [item.key for item in stage.etcd.list(at).items] == [at + "a", at + "a/x", at + "b"]
    assert stage.etcd.list(at).revision == revision
    assert stage.etcd.list(at, stale=True).items == stage.etcd.list(at).items


def test_a_list_of_many_pages_is_whole(stage: Stage, at: str) -> None:
    for start in range(0, 2500, 100):
        stage.etcd.transact([], [Put(f"{at}{n:05}", b"%d" % n) for n in range(start, start + 100)])

    for stale in (False, True):
        items = stage.etcd.list(at, stale=stale).items
        assert [item.value for item in items] == [b"%d" % n for n in range(2500)]


def test_an_empty_prefix_is_everything(stage: Stage, at: str) -> None:
    stage.etcd.put(at + "a", b"")

    assert at + "a" in [item.key for item in stage.etcd.list("").items]


def test_deleting_says_how_many_there_were(stage: Stage, at: str) -> None:
    for name in ("a", "b/1", "b/2"):
        stage.etcd.put(at + name, b"")

    assert stage.etcd.delete(at + "a") == 1
    assert stage.etcd.delete(at + "a") == 0
    assert stage.etcd.delete(at + "b/", prefix=True) == 2
    assert stage.etcd.list(at).items == []


# Transactions.


def test_of_two_that_claim_a_key_one_gets_it_and_the_other_learns_who(stage: Stage, at: str) -> None:
    key = at + "claim"
    first = stage.etcd.transact([absent(key)], [Put(key, b"one")], [Get(key)])
    second = stage.etcd.transact([absent(key)], [Put(key, b"two")], [Get(key)])

    assert (first.succeeded, first.found) == (True, [])
    assert second.succeeded is False
    assert [item.value for item in second.found[0]] == [b"one"]


def test_all_operations_have_one_revision_and_see_those_before_them(stage: Stage, at: str) -> None:
    stage.etcd.put(at + "old", b"")

    outcome = stage.etcd.transact(
        [],
        [
            Put(at + "a", b"1"),
            Get(at, prefix=True),
            Delete(at + "old"),
            Put(at + "b", b"2"),
            Get(at, prefix=True),
        ],
    )

    before, after = ([item.key for item in found] for found in outcome.found)
    assert before == [at + "a", at + "old"]
    assert after == [at + "a", at + "b"]
    assert {item.mod_revision for item in stage.etcd.list(at).items} == {outcome.revision}


def test_a_transaction_that_changes_nothing_is_no_revision(stage: Stage, at: str) -> None:
    before = _now(stage)

    outcome = stage.etcd.transact([exists(at + "a")], [Put(at + "a", b"")], [Delete(at + "a")])

    assert (outcome.succeeded, outcome.revision, outcome.found) == (False, before, [])


@pytest.mark.parametrize(
    ("condition", "holds_true"),
    [
        (absent("a"), False),
        (absent("none"), True),
        (absent("none/", prefix=True), True),
        (absent("", prefix=True), False),
        (exists("a"), True),
        (exists("none"), False),
        (holds("a", b"1"), True),
        (holds("a", b"2"), False),
        (holds("none", b""), False),
        (Compare("none", Subject.VALUE, b"1", differs=True), False),
        (Compare("a", Subject.VALUE, b"2", differs=True), True),
        (unchanged("none", 0), True),
        (unchanged("a", 0), False),
        (Compare("a", Subject.LEASE, 0), True),
        (Compare("a", Subject.LEASE, 0, differs=True), False),
        (Compare("", Subject.VALUE, b"1", prefix=True), False),
        (Compare("same/", Subject.VALUE, b"s", prefix=True), True),
    ],
)
def test_a_condition(stage: Stage, at: str, condition: Compare, holds_true: bool) -> None:
    stage.etcd.put(at + "a", b"1")
    stage.etcd.put(at + "same/1", b"s")
    stage.etcd.put(at + "same/2", b"s")

    assert stage.etcd.transact([condition._replace(key=at + condition.key)], []).succeeded is holds_true


def test_a_key_is_unchanged_until_it_is_put_again(stage: Stage, at: str) -> None:
    revision = stage.etcd.put(at + "a", b"1")
    assert stage.etcd.transact([unchanged(at + "a", revision)], []).succeeded

    stage.etcd.put(at + "a", b"1")

    assert not stage.etcd.transact([unchanged(at + "a", revision)], []).succeeded


def test_all_conditions_must_hold(stage: Stage, at: str) -> None:
    stage.etcd.put(at + "a", b"1")

    assert not stage.etcd.transact([exists(at + "a"), exists(at + "b")], []).succeeded


def test_128_operations_are_done_and_one_more_is_refused(stage: Stage, at: str) -> None:
    puts = [Put(f"{at}{n}", b"") for n in range(129)]

    assert stage.etcd.transact([], puts[:128], puts[:128]).succeeded
    with pytest.raises(InvalidParameter, match="too many operations"):
        stage.etcd.transact([], puts)
    assert len(stage.etcd.list(at).items) == 128


@pytest.mark.parametrize("other", [Put("a", b"2"), Delete("a"), Delete("", prefix=True)])
def test_a_key_that_is_put_twice_at_once_is_refused(stage: Stage, at: str, other: Any) -> None:
    with pytest.raises(InvalidParameter, match="duplicate key"):
        stage.etcd.transact([], [Put(at + "a", b"1"), other._replace(key=at + other.key)])


# Watching.


def test_a_watch_hears_what_was_and_what_comes(stage: Stage, at: str) -> None:
    start = stage.etcd.put(at + "a", b"1")
    stage.etcd.put(at + "a", b"2")
    heard = Heard()

    stage.etcd.watch(at, start, heard.listener)
    heard.wait_for(2)
    stage.etcd.delete(at + "a")
    heard.wait_for(3)

    assert heard.changes == [(at + "a", b"1"), (at + "a", b"2"), (at + "a", None)]
    assert [event.mod_revision for event in heard.events] == [start, start + 1, start + 2]
    assert [event.create_revision for event in heard.events] == [start, start, 0]
    assert heard.revisions[-1] >= start + 2
    assert heard.stood == [Following.CURRENT]
    assert threading.get_ident() not in heard.threads


def test_a_watch_from_after_a_snapshot_hears_nothing_twice(stage: Stage, at: str) -> None:
    stage.etcd.put(at + "a", b"1")
    snapshot = stage.etcd.list(at)
    heard = Heard()

    stage.etcd.watch(at, snapshot.revision + 1, heard.listener)
    stage.etcd.put(at + "b", b"2")
    heard.wait_for(1)

    assert heard.changes == [(at + "b", b"2")]


def test_a_watch_hears_of_its_prefix_only(stage: Stage, at: str) -> None:
    heard, start = Heard(), _now(stage) + 1
    stage.etcd.watch(at + "in/", start, heard.listener)

    for name in ("in", "in/1", "in0", "in/2"):
        stage.etcd.put(at + name, b"")
    heard.wait_for(2)

    assert [event.key for event in heard.events] == [at + "in/1", at + "in/2"]


def test_what_was_done_at_once_is_heard_at_once(stage: Stage, at: str) -> None:
    heard, start = Heard(), _now(stage) + 1
    stage.etcd.watch(at, start, heard.listener)
    heard.wait_until(Following.CURRENT)

    stage.etcd.transact([], [Put(f"{at}{n}", b"") for n in range(100)])
    heard.wait_for(100)

    assert [len(answer) for answer in heard.answers] == [100]


def test_a_watch_from_what_was_forgotten_is_over(stage: Stage, at: str) -> None:
    start = stage.etcd.put(at + "a", b"1")
    stage.compact(stage.etcd.put(at + "a", b"2"))
    heard = Heard()

    stage.etcd.watch(at, start, heard.listener)
    heard.wait_until(Following.COMPACTED)
    stage.etcd.put(at + "a", b"3")
    other = Heard()
    stage.etcd.watch(at, _now(stage), other.listener)
    other.wait_for(1)

    assert heard.events == []


def test_a_closed_watch_hears_nothing(stage: Stage, at: str) -> None:
    heard, other, start = Heard(), Heard(), _now(stage) + 1
    watch = stage.etcd.watch(at, start, heard.listener)
    stage.etcd.put(at + "a", b"1")
    heard.wait_for(1)

    watch.close()
    watch.close()
    stage.etcd.watch(at, start, other.listener)
    stage.etcd.put(at + "a", b"2")
    other.wait_for(2)

    assert len(heard.events) == 1


def test_a_watch_may_be_closed_from_within(stage: Stage, at: str) -> None:
    heard, start = Heard(), _now(stage) + 1
    watches: list[Any] = []

    def changed(events: Any, revision: int) -> None:
        heard.listener.changed(events, revision)
        watches[0].close()

    watches.append(stage.etcd.watch(at, start, Listener(changed, heard.listener.stands)))
    other = Heard()
    stage.etcd.watch(at, start, other.listener)
    for _ in range(3):
        stage.etcd.put(at + "a", b"")
        eventually(lambda: heard.events)
    other.wait_for(3)

    assert len(heard.events) == 1


def test_closing_waits_for_the_listener(stage: Stage, at: str) -> None:
    inside, go_on, left = threading.Event(), threading.Event(), threading.Event()

    def changed(events: Any, revision: int) -> None:
        inside.set()
        go_on.wait(10)
        left.set()

    watch = stage.etcd.watch(at, _now(stage) + 1, Listener(changed, lambda how: None))
    stage.etcd.put(at + "a", b"")
    assert inside.wait(10)
    closing = threading.Thread(target=watch.close)
    closing.start()
    closing.join(0.1)
    assert closing.is_alive()

    go_on.set()
    closing.join(10)

    assert left.is_set()


def test_a_listener_that_fails_is_told_of_the_next_change(
    stage: Stage, at: str, caplog: pytest.LogCaptureFixture
) -> None:
    heard = Heard()

    def changed(events: Any, revision: int) -> None:
        heard.listener.changed(events, revision)
        raise RuntimeError("the listener is broken")

    stage.etcd.watch(at, _now(stage) + 1, Listener(changed, heard.listener.stands))
    for count in (1, 2):
        stage.etcd.put(at + "a", b"")
        heard.wait_for(count)

    eventually(lambda: len(caplog.records) == 2)
    assert "the listener is broken" in caplog.text


def test_a_hundred_watches_hear_each_their_own(stage: Stage, at: str) -> None:
    start = _now(stage) + 1
    all_heard = [Heard() for _ in range(100)]
    for number, heard in enumerate(all_heard):
        stage.etcd.watch(f"{at}{number}/", start, heard.listener)

    for number in range(100):
        stage.etcd.put(f"{at}{number}/key", b"%d" % number)

    for number, heard in enumerate(all_heard):
        heard.wait_for(1)
        assert heard.changes == [(f"{at}{number}/key", b"%d" % number)]


# Roles.


def test_who_may_not_is_denied_by_every_call(stage: Stage, at: str) -> None:
    client = stage.client(Permission(at + "mine/"))
    foreign = at + "foreign/a"
    stage.etcd.put(foreign, b"1")

    for refused in (
        lambda: client.get(foreign),
        lambda: client.get(foreign, stale=True),
        lambda: client.list(at),
        lambda: client.put(foreign, b""),
        lambda: client.delete(foreign),
        lambda: client.delete(at, prefix=True),
        lambda: client.transact([], [Put(foreign, b"")]),
        lambda: client.transact([absent(foreign)], [Put(at + "mine/a", b"")]),
        lambda: client.transact([exists(at + "mine/a")], [Delete(foreign)], []),
    ):
        with pytest.raises(Denied, match="permission denied"):
            refused()
    assert [item.key for item in stage.etcd.list(at).items] == [foreign]


def test_who_may_read_may_not_write(stage: Stage, at: str) -> None:
    client = stage.client(Permission(at, Access.READ), Permission(at + "one", Access.WRITE, prefix=False))
    stage.etcd.put(at + "a", b"1")

    assert [item.value for item in client.list(at).items] == [b"1"]
    with pytest.raises(Denied):
        client.put(at + "a", b"2")
    client.put(at + "one", b"3")
    with pytest.raises(Denied):
        client.put(at + "one/more", b"4")


def test_a_watch_of_what_one_may_not_read_is_over(stage: Stage, at: str) -> None:
    client = stage.client(Permission(at + "mine/"))
    refused, mine, start = Heard(), Heard(), _now(stage) + 1

    client.watch(at + "mine/", start, mine.listener)
    client.watch(at + "foreign/", start, refused.listener)
    client.watch(at + "mine/too/", start, Heard().listener)
    refused.wait_until(Following.DENIED)
    stage.etcd.put(at + "foreign/a", b"")
    stage.etcd.put(at + "mine/a", b"")
    mine.wait_for(1)

    assert refused.events == []
    assert mine.stood == [Following.CURRENT]


# Leases.


def test_what_is_put_under_a_lease_goes_when_it_is_revoked(stage: Stage, at: str) -> None:
    ids: list[int] = []
    heard, start = Heard(), _now(stage) + 1
    stage.etcd.watch(at, start, heard.listener)
    lease = stage.etcd.keep_lease(10, ids.append)
    eventually(lambda: ids)
    assert lease.id == ids[0] != 0
    stage.etcd.put(at + "a", b"", lease.id)
    stage.etcd.put(at + "b", b"", lease.id)
    stage.etcd.put(at + "b", b"no longer", 0)
    found = stage.etcd.get(at + "a")
    assert found is not None
    assert found.lease == ids[0]

    lease.close(revoke=True)
    heard.wait_for(4)

    assert heard.changes[-1] == (at + "a", None)
    assert [item.key for item in stage.etcd.list(at).items] == [at + "b"]


def test_a_lease_that_is_only_closed_leaves_its_keys(stage: Stage, at: str) -> None:
    ids: list[int] = []
    lease = stage.etcd.keep_lease(10, ids.append)
    eventually(lambda: ids)
    stage.etcd.put(at + "a", b"", lease.id)

    lease.close()

    assert stage.etcd.get(at + "a") is not None
    stage.revoke(ids[0])


def test_a_lost_lease_is_replaced(stage: Stage, at: str) -> None:
    ids: list[int] = []

    def renewed(number: int) -> None:
        stage.etcd.put(at + "a", b"", number)
        ids.append(number)

    lease = stage.etcd.keep_lease(2, renewed)
    eventually(lambda: ids)
    stage.revoke(ids[0])
    eventually(lambda: len(ids) == 2)

    found = stage.etcd.get(at + "a")
    assert found is not None
    assert found.lease == lease.id == ids[1] != ids[0]
    lease.close(revoke=True)
    assert stage.etcd.get(at + "a") is None


def test_a_lease_may_be_closed_from_within(stage: Stage) -> None:
    leases: list[Any] = []
    made, closed = threading.Event(), threading.Event()

    def renewed(number: int) -> None:
        made.wait(10)
        leases[0].close(revoke=True)
        closed.set()

    leases.append(stage.etcd.keep_lease(10, renewed))
    made.set()

    assert closed.wait(10)
    assert leases[0].id == 0


def test_nothing_is_put_under_a_lease_that_does_not_exist(stage: Stage, at: str) -> None:
    with pytest.raises(EtcdError, match="lease not found"):
        stage.etcd.put(at + "a", b"", 77)
    with pytest.raises(EtcdError, match="lease not found"):
        stage.etcd.transact([], [Put(at + "b", b""), Put(at + "a", b"", 77)])
    assert stage.etcd.list(at).items == []


# When nobody answers.


def test_calls_fail_while_nobody_answers_and_watches_go_on_afterwards(stage: Stage, at: str) -> None:
    heard, start = Heard(), _now(stage) + 1
    ids: list[int] = []
    stage.etcd.watch(at, start, heard.listener)
    lease = stage.etcd.keep_lease(20, ids.append)
    eventually(lambda: ids)
    stage.etcd.put(at + "a", b"1", lease.id)
    heard.wait_for(1)

    with stage.away():
        for failing in (
            lambda: stage.etcd.get(at + "a"),
            lambda: stage.etcd.list(at, stale=True),
            lambda: stage.etcd.put(at + "a", b"2"),
            lambda: stage.etcd.delete(at + "a"),
            lambda: stage.etcd.transact([], [Put(at + "a", b"2")]),
        ):
            with pytest.raises(EtcdError):
                failing()
        heard.wait_until(Following.DEGRADED)
    heard.wait_until(Following.CURRENT)
    stage.etcd.put(at + "a", b"3")
    heard.wait_for(2)

    assert heard.changes == [(at + "a", b"1"), (at + "a", b"3")]
    assert heard.stood == [Following.CURRENT, Following.DEGRADED, Following.CURRENT]
    assert len(ids) == 1
    lease.close(revoke=True)


def test_a_closed_client_says_so_and_calls_nobody(stage: Stage, at: str) -> None:
    client, heard = stage.client(), Heard()
    client.watch(at, _now(stage) + 1, heard.listener)
    heard.wait_until(Following.CURRENT)
    client.keep_lease(10, lambda number: None)

    client.close()
    client.close()
    stage.etcd.put(at + "a", b"")

    for failing in (
        lambda: client.put(at + "a", b""),
        lambda: client.get(at + "a"),
        lambda: client.watch(at, 1, heard.listener),
        lambda: client.keep_lease(10, lambda number: None),
    ):
        with pytest.raises(EtcdError, match="closed"):
            failing()
    assert heard.events == []
    assert heard.stood == [Following.CURRENT]
