"""Three members of etcd fail in every way they can, one at a time and two: what a client makes of it."""

from __future__ import annotations

import itertools
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pytest

from cnm.cluster.etcd.admin import Admin
from cnm.cluster.etcd.client import Client
from cnm.cluster.etcd.contract import Ambiguous, EtcdError, Following, Put
from tests.support.etcd import EtcdCluster, EtcdMember
from tests.support.etcd_stage import Heard, connect, eventually

_NUMBERS = itertools.count(1)

NO_LEADER_KNOWN = 4.0
"""Seconds after the loss of a majority, by which the members that are left say so."""
IN_TIME = 1.3
"""A call is over by then, on a machine that does other things as well."""


@pytest.fixture
def at() -> str:
    return f"/failover/{next(_NUMBERS)}/"


@pytest.fixture
def client(three_etcds: EtcdCluster) -> Iterator[Client]:
    made = connect(three_etcds)
    yield made
    made.close()


def _own(cluster: EtcdCluster, client: Client) -> EtcdMember:
    """The member that the client asks first."""
    return cluster.member_of(client.calls.members.current().endpoint)


def _others(cluster: EtcdCluster, member: EtcdMember) -> list[EtcdMember]:
    return [each for each in cluster.members if each is not member]


def _avoid(cluster: EtcdCluster, client: Client, member: EtcdMember) -> None:
    """Have the client ask another one first."""
    client.set_endpoints([each.endpoint for each in _others(cluster, member)])
    client.set_endpoints(cluster.endpoints)


def _watched(client: Client, at: str) -> Heard:
    heard = Heard()
    client.watch(at, client.list(at).revision + 1, heard.listener)
    heard.wait_until(Following.CURRENT)
    return heard


def _seconds(call: Callable[[], object]) -> float:
    began = time.monotonic()
    call()
    return time.monotonic() - began


def _failing_seconds(call: Callable[[], object], match: str = "etcd") -> float:
    began = time.monotonic()
    with pytest.raises(EtcdError, match=match):
        call()
    return time.monotonic() - began


class _Written(NamedTuple):
    acknowledged: list[int]
    failed: list[str]
    pauses: list[float]


@contextmanager
def _writing(client: Client, at: str) -> Iterator[_Written]:
    """A thread that writes numbered keys, one after the other, for as long as the block lasts."""
    written = _Written([], [], [])
    stopping = threading.Event()

    def write() -> None:
        last = time.monotonic()
        for number in itertools.count():
            if stopping.wait(0.002):
                return
            try:
                client.put(f"{at}{number:06}", b"")
            except EtcdError as error:
                written.failed.append(str(error))
            else:
                written.pauses.append(time.monotonic() - last)
                written.acknowledged.append(number)
                last = time.monotonic()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        eventually(lambda: len(written.acknowledged) > 20)
        yield written
        count = len(written.acknowledged)
        eventually(lambda: len(written.acknowledged) > count + 20)
    finally:
        stopping.set()
        thread.join()


def _all_heard(heard: Heard, at: str, written: _Written) -> None:
    """Every write that was acknowledged was heard, in order, and none twice."""
    wanted = {f"{at}{number:06}" for number in written.acknowledged}
    eventually(lambda: wanted <= {event.key for event in heard.events})
    revisions = [event.mod_revision for event in heard.events]
    assert revisions == sorted(set(revisions))


# A member goes.


def test_the_next_member_is_asked_at_once_when_one_is_killed(
    three_etcds: EtcdCluster, client: Client, at: str
) -> None:
    client.put(at + "a", b"1")
    leader = three_etcds.leader()
    follower = next(each for each in three_etcds.members if each is not leader)
    only = connect(three_etcds, endpoints=[follower.endpoint])
    heard = _watched(only, at)
    only.set_endpoints(three_etcds.endpoints)
    assert _own(three_etcds, only) is follower

    follower.kill()
    took = _seconds(lambda: only.put(at + "b", b"2"))
    heard.wait_for(1)
    only.close()

    assert took < 0.5
    assert heard.changes == [(at + "b", b"2")]
    assert heard.stood == [Following.CURRENT]


def test_a_killed_leader_interrupts_writes_for_an_election(
    three_etcds: EtcdCluster, client: Client, at: str
) -> None:
    heard = _watched(client, at)

    with _writing(client, at) as written:
        three_etcds.leader().kill()

    _all_heard(heard, at, written)
    assert max(written.pauses) < 6.0
    assert heard.stood[-1] is Following.CURRENT


def test_a_leader_that_is_told_to_end_hands_over_without_an_error(
    three_etcds: EtcdCluster, client: Client, at: str
) -> None:
    heard = _watched(client, at)

    with _writing(client, at) as written:
        three_etcds.leader().terminate()

    _all_heard(heard, at, written)
    assert written.failed == []
    assert max(written.pauses) < IN_TIME


def test_a_frozen_member_is_given_up_at_the_second_call_without_an_answer(
    three_etcds: EtcdCluster, client: Client, at: str
) -> None:
    _avoid(three_etcds, client, three_etcds.leader())  # that would be an election as well
    heard = _watched(client, at)
    frozen = _own(three_etcds, client)

    frozen.freeze()
    first = _seconds(lambda: client.put(at + "a", b"1"))
    assert _own(three_etcds, client) is frozen
    second = _seconds(lambda: client.put(at + "b", b"2"))
    third = _seconds(lambda: client.put(at + "c", b"3"))
    eventually(lambda: [value for _, value in heard.changes][-3:] == [b"1", b"2", b"3"], 2.0)

    assert first < IN_TIME
    assert second < IN_TIME
    assert third < 0.5
    assert _own(three_etcds, client) is not frozen
    assert set(heard.stood) == {Following.CURRENT}


def test_a_watch_leaves_a_frozen_member_though_nobody_calls(
    three_etcds: EtcdCluster, client: Client, at: str
) -> None:
    heard = _watched(client, at)
    frozen = _own(three_etcds, client)
    frozen.freeze()
    writer = connect(three_etcds, endpoints=[each.endpoint for each in _others(three_etcds, frozen)])

    def written() -> bool:  # it may have been the leader
        try:
            writer.put(at + "a", b"1")
        except EtcdError:
            return False
        return True

    eventually(written)
    eventually(lambda: heard.events, 8.0)
    writer.close()

    assert heard.changes[0] == (at + "a", b"1")


def test_a_lease_outlives_a_frozen_member(three_etcds: EtcdCluster, client: Client, at: str) -> None:
    ids: list[int] = []
    lease = client.keep_lease(3, ids.append)
    eventually(lambda: ids)
    client.put(at + "a", b"1", lease.id)

    _own(three_etcds, client).freeze()
    time.sleep(5.0)  # more than the lease lasts by itself

    assert client.get(at + "a") is not None
    assert ids == [lease.id]
    lease.close(revoke=True)
    assert client.get(at + "a") is None


def test_a_member_that_cannot_be_reached_is_passed_over(three_etcds: EtcdCluster, at: str) -> None:
    unreachable = three_etcds.members[0]
    port = unreachable.endpoint.rpartition(":")[2]
    with _dropped(port):
        client = connect(three_etcds)
        while client.endpoints[0] != unreachable.endpoint:
            client.close()
            client = connect(three_etcds)
        heard = Heard()
        client.watch(at, 1, heard.listener)
        first = _seconds(lambda: client.put(at + "a", b"1"))
        second = _seconds(lambda: client.put(at + "b", b"2"))
        third = _seconds(lambda: client.put(at + "c", b"3"))
        heard.wait_for(3)
        client.close()

    assert max(first, second) < IN_TIME
    assert third < 0.5


@contextmanager
def _dropped(port: str) -> Iterator[None]:
    """Nobody reaches this TCP port, and nobody is told."""
    table = "table inet unreachable"
    rule = f"{table} {{ chain in {{ type filter hook input priority 0; tcp dport {port} drop; }}; }}"
    subprocess.run(["nft", rule], check=True)
    try:
        yield
    finally:
        subprocess.run(["nft", "delete", *table.split()], check=True)


# The majority goes.


def test_without_a_majority_changes_fail_in_time_and_everything_goes_on_when_it_is_back(
    three_etcds: EtcdCluster, client: Client, at: str
) -> None:
    heard = _watched(client, at)
    ids: list[int] = []
    lease = client.keep_lease(3, ids.append)
    eventually(lambda: ids)
    client.put(at + "leased", b"", lease.id)
    heard.wait_for(1)
    lost = three_etcds.members[:2]
    for member in lost:
        member.kill()
    gone_at = time.monotonic()

    while time.monotonic() < gone_at + NO_LEADER_KNOWN:
        assert _failing_seconds(lambda: client.put(at + "a", b"1")) < IN_TIME
    assert _failing_seconds(lambda: client.put(at + "a", b"1"), "no leader") < IN_TIME
    assert _failing_seconds(lambda: client.get(at + "a"), "cannot read .*/a: .*no leader") < IN_TIME
    assert _failing_seconds(lambda: client.transact([], [Put(at + "t", b"")])) < IN_TIME
    stale = client.get(at + "leased", stale=True)
    assert stale is not None
    assert [item.key for item in client.list(at, stale=True).items][-1] == at + "leased"
    heard.wait_until(Following.DEGRADED)
    statuses = Admin(client).status()
    assert [each.answers for each in statuses].count(True) == 1
    assert len(Admin(client).members()) == 3

    for member in lost:
        member.spawn()
    heard.wait_until(Following.CURRENT)
    eventually(lambda: _succeeds(lambda: client.put(at + "b", b"2")))
    eventually(lambda: (at + "b", b"2") in heard.changes)

    assert (at + "leased", None) not in heard.changes
    time.sleep(3.5)  # more than the lease lasts by itself
    assert client.get(at + "leased") is not None
    assert ids == [lease.id]
    lease.close(revoke=True)


def _succeeds(call: Callable[[], object]) -> bool:
    try:
        call()
    except EtcdError:
        return False
    return True


def test_a_transaction_whose_answer_does_not_come_is_ambiguous_and_not_repeated(
    three_etcds: EtcdCluster, client: Client, at: str
) -> None:
    client.put(at + "count", b"")
    frozen = _own(three_etcds, client)

    frozen.freeze()
    began = time.monotonic()
    with pytest.raises(Ambiguous, match=r"not known: .*does not answer"):
        client.transact([], [Put(at + "count", b"")])
    took = time.monotonic() - began
    frozen.thaw()

    assert took < IN_TIME
    eventually(lambda: _succeeds(lambda: client.get(at + "count")))
    found = client.get(at + "count")
    assert found is not None
    assert found.version <= 2


def test_a_watch_whose_history_is_gone_when_its_member_is_back_is_over(
    three_etcds: EtcdCluster, client: Client, at: str
) -> None:
    own = next(each for each in three_etcds.members if each is not three_etcds.leader())
    alone = connect(three_etcds, endpoints=[own.endpoint])
    client.set_endpoints([each.endpoint for each in _others(three_etcds, own)])
    heard = _watched(alone, at)

    own.kill()
    client.put(at + "a", b"1")
    Admin(client).compact(client.put(at + "a", b"2"))
    own.start()
    heard.wait_until(Following.COMPACTED)
    alone.close()

    assert heard.events == []


# Who the members are changes.


def test_watches_and_calls_move_to_new_members(three_etcds: EtcdCluster, client: Client, at: str) -> None:
    first, second = three_etcds.members[0], three_etcds.members[1]
    client.set_endpoints([first.endpoint])
    heard = _watched(client, at)

    client.set_endpoints([second.endpoint])
    client.put(at + "a", b"1")
    heard.wait_for(1)
    eventually(lambda: not client.calls.members.leaving)
    client.put(at + "b", b"2")
    heard.wait_for(2)

    assert heard.stood == [Following.CURRENT]
    assert client.endpoints == [second.endpoint]


def test_a_renewed_certificate_is_used_without_a_gap(
    three_etcds: EtcdCluster, client: Client, at: str
) -> None:
    heard = _watched(client, at)
    renewed = three_etcds.authority.client("root")

    with _writing(client, at) as written:
        client.set_identity(three_etcds.authority.pem, renewed.cert, renewed.key)
        eventually(lambda: not client.calls.members.leaving)

    _all_heard(heard, at, written)
    assert written.failed == []
    assert heard.stood == [Following.CURRENT]
