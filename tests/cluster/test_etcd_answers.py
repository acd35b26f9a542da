"""Answers of etcd that a real one gives at bad moments only: what is repeated, and what is said."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from cnm.cluster.etcd.contract import Ambiguous, Compacted, EtcdError, Following, Put
from cnm.cluster.etcd.messages import LEASE_GRANT, LEASE_KEEP_ALIVE, MESSAGES, PUT, RANGE, STATUS, TXN, WATCH
from cnm.errors import CnmError
from tests.support.etcd_stage import Heard, eventually
from tests.support.scripted_etcd import Answer, refuse, say, scripted_etcds

CODE = grpc.StatusCode
HEADER = MESSAGES["ResponseHeader"]
DONE = say(PUT, header=HEADER(revision=7))
CHANGED = say(TXN, succeeded=True, header=HEADER(revision=7), responses=[MESSAGES["ResponseOp"]()])

NOT_DONE = [
    (CODE.UNKNOWN, "auth: revision in header is old"),
    (CODE.INVALID_ARGUMENT, "etcdserver: revision of auth store is old"),
    (CODE.UNAUTHENTICATED, "etcdserver: invalid auth token"),
    (CODE.UNAVAILABLE, "etcdserver: no leader"),
    (CODE.UNAVAILABLE, "etcdserver: rpc not supported for learner"),
    (CODE.RESOURCE_EXHAUSTED, "etcdserver: too many requests"),
]
PERHAPS_DONE = [
    (CODE.UNAVAILABLE, "etcdserver: request timed out, possibly due to connection lost"),
    (CODE.UNAVAILABLE, "etcdserver: leader changed"),
    (CODE.UNAVAILABLE, "Socket closed"),
    (CODE.UNKNOWN, "context deadline exceeded"),
    (CODE.INTERNAL, "stream terminated by RST_STREAM"),
]


@pytest.mark.parametrize(("code", "text"), [*NOT_DONE, *PERHAPS_DONE])
def test_a_put_is_made_again(code: grpc.StatusCode, text: str) -> None:
    with scripted_etcds() as (client, (etcd,)):
        etcd.on(PUT, refuse(code, text), DONE)

        assert client.put("/a", b"1") == 7
        assert len(etcd.asked(PUT)) == 2


@pytest.mark.parametrize(("code", "text"), NOT_DONE)
def test_a_transaction_that_was_certainly_not_made_is_made_again(code: grpc.StatusCode, text: str) -> None:
    with scripted_etcds() as (client, (etcd,)):
        etcd.on(TXN, refuse(code, text), CHANGED)

        assert client.transact([], [Put("/a", b"1")]).revision == 7


@pytest.mark.parametrize(("code", "text"), PERHAPS_DONE)
def test_a_transaction_that_was_perhaps_made_is_not_made_again(code: grpc.StatusCode, text: str) -> None:
    with scripted_etcds(2) as (client, (etcd, other)):
        etcd.on(TXN, refuse(code, text))
        other.on(TXN, CHANGED)

        with pytest.raises(Ambiguous, match="change /a"):
            client.transact([], [Put("/a", b"1"), Put("/a/b", b"1")])
        assert len(etcd.asked(TXN) + other.asked(TXN)) == 1


def test_what_one_member_cannot_do_another_one_does() -> None:
    with scripted_etcds(2) as (client, (etcd, other)):
        etcd.on(TXN, refuse(CODE.UNAVAILABLE, "etcdserver: no leader"))
        other.on(TXN, CHANGED)

        for _ in range(3):
            assert client.transact([], [Put("/a", b"1")]).succeeded
        assert (len(etcd.asked(TXN)), len(other.asked(TXN))) == (1, 3)


def test_a_put_of_which_nothing_is_known_in_the_end_says_so() -> None:
    with scripted_etcds() as (client, (etcd,)):
        etcd.on(PUT, refuse(CODE.UNKNOWN, "context deadline exceeded"))

        with pytest.raises(Ambiguous, match="write /a"):
            client.put("/a", b"1")


@pytest.mark.parametrize(
    ("code", "text", "line"),
    [
        (
            CODE.RESOURCE_EXHAUSTED,
            "etcdserver: mvcc: database space exceeded",
            "etcd cannot write /a: mvcc: database space exceeded",
        ),
        (CODE.DATA_LOSS, "etcdserver: corrupt cluster", "etcd cannot write /a: corrupt cluster"),
        (
            CODE.INVALID_ARGUMENT,
            "etcdserver: request is too large",
            "etcd cannot write /a: request is too large",
        ),
        (
            CODE.INVALID_ARGUMENT,
            "etcdserver: user name is empty",
            "etcd cannot write /a: user name is empty",
        ),
    ],
)
def test_what_is_refused_is_not_tried_again(code: grpc.StatusCode, text: str, line: str) -> None:
    with scripted_etcds(2) as (client, (etcd, other)):
        etcd.on(PUT, refuse(code, text))
        other.on(PUT, DONE)

        with pytest.raises(CnmError) as caught:
            client.put("/a", b"1")
        assert str(caught.value) == line
        assert len(etcd.asked(PUT) + other.asked(PUT)) == 1


# Pages.


def _page(name: str, more: bool, revision: int = 5) -> Answer:
    kv = MESSAGES["KeyValue"](key=name.encode(), value=b"v", mod_revision=1)
    return say(RANGE, header=HEADER(revision=revision), kvs=[kv], more=more)


COMPACTED = refuse(CODE.OUT_OF_RANGE, "etcdserver: mvcc: required revision has been compacted")
FUTURE = refuse(CODE.OUT_OF_RANGE, "etcdserver: mvcc: required revision is a future revision")


def test_pages_after_the_first_are_of_its_revision_and_from_any_member() -> None:
    with scripted_etcds() as (client, (etcd,)):
        etcd.on(RANGE, _page("/a/1", True), _page("/a/2", False, 9))

        found = client.list("/a/")

        assert (found.revision, [item.key for item in found.items]) == (5, ["/a/1", "/a/2"])
        first, second = etcd.asked(RANGE)
        assert (first.revision, first.serializable, first.range_end) == (0, False, b"/a0")
        assert (second.revision, second.serializable, second.key) == (5, True, b"/a/1\0")


def test_a_list_whose_revision_is_compacted_under_it_starts_again() -> None:
    with scripted_etcds() as (client, (etcd,)):
        etcd.on(RANGE, _page("/a/1", True), COMPACTED, _page("/a/1", True, 8), _page("/a/2", False))

        found = client.list("/a/")

        assert (found.revision, [item.key for item in found.items]) == (8, ["/a/1", "/a/2"])


def test_a_list_that_never_comes_to_its_end_says_so() -> None:
    with scripted_etcds() as (client, (etcd,)):
        etcd.on(RANGE, *[_page("/a/1", True), COMPACTED] * 20)

        with pytest.raises(Compacted):
            client.list("/a/")


def test_a_member_that_is_behind_is_asked_to_catch_up() -> None:
    with scripted_etcds() as (client, (etcd,)):
        etcd.on(RANGE, _page("/a/1", True), FUTURE, _page("/a/2", False))

        assert len(client.list("/a/").items) == 2
        assert [request.serializable for request in etcd.asked(RANGE)] == [False, True, False]


# Leases.


def test_a_lease_whose_grant_was_not_heard_of_is_taken() -> None:
    with scripted_etcds() as (client, (etcd,)):
        etcd.on(
            LEASE_GRANT,
            refuse(CODE.UNKNOWN, "context deadline exceeded"),
            refuse(CODE.FAILED_PRECONDITION, "etcdserver: lease already exists"),
        )
        etcd.on(LEASE_KEEP_ALIVE, say(LEASE_KEEP_ALIVE, TTL=9))
        ids: list[int] = []

        client.keep_lease(9, ids.append)
        eventually(lambda: ids)

        assert {request.ID for request in etcd.asked(LEASE_GRANT)} == set(ids)


def test_a_lease_is_lost_when_etcd_says_so_and_not_when_it_fails() -> None:
    with scripted_etcds() as (client, (etcd,)):
        etcd.on(LEASE_GRANT, lambda request, context: LEASE_GRANT.response(ID=request.ID, TTL=1))
        etcd.on(
            LEASE_KEEP_ALIVE,
            *[refuse(CODE.UNAVAILABLE, "etcdserver: no leader")] * 15,
            say(LEASE_KEEP_ALIVE, TTL=1),
            say(LEASE_KEEP_ALIVE, TTL=0),
            say(LEASE_KEEP_ALIVE, TTL=1),
        )
        ids: list[int] = []

        lease = client.keep_lease(1, ids.append)
        eventually(lambda: len(ids) == 2)
        kept = [request.ID for request in etcd.asked(LEASE_KEEP_ALIVE)]

        assert kept[:17] == [ids[0]] * 17
        assert lease.id == ids[1] != ids[0]


# Watches.


def _created(request: Any, **fields: Any) -> Any:
    return WATCH.response(
        header=HEADER(revision=5), watch_id=request.create_request.watch_id, created=True, **fields
    )


def _said(number: int, *names: str, fragment: bool = False, revision: int = 6) -> Any:
    event, kv = MESSAGES["Event"], MESSAGES["KeyValue"]
    events = [event(kv=kv(key=name.encode(), mod_revision=revision)) for name in names]
    return WATCH.response(header=HEADER(revision=revision), watch_id=number, events=events, fragment=fragment)


def _quiet(requests: Iterator[Any], context: Any) -> Iterator[Any]:
    """All watches are made, and all probes answered."""
    for request in requests:
        if request.HasField("create_request"):
            yield _created(request)
        elif request.HasField("progress_request"):
            yield WATCH.response(header=HEADER(revision=100), watch_id=-1)


def test_the_fragments_of_an_answer_are_heard_together() -> None:
    def answer(requests: Iterator[Any], context: Any) -> Iterator[Any]:
        yield _created(next(requests))
        yield _said(1, "/a/1", "/a/2", fragment=True)
        yield _said(1, "/a/3", fragment=True)
        yield _said(1, "/a/4")
        yield from _quiet(requests, context)

    with scripted_etcds() as (client, (etcd,)):
        etcd.on(WATCH, answer)
        heard = Heard()

        client.watch("/a/", 3, heard.listener)
        heard.wait_for(4)

        assert len(heard.answers) == 1
        assert etcd.opened[0][0].create_request.fragment


def test_an_answer_that_breaks_off_is_heard_whole_the_next_time() -> None:
    def breaks_off(requests: Iterator[Any], context: Any) -> Iterator[Any]:
        yield _created(next(requests))
        yield _said(1, "/a/1", revision=6)
        yield _said(1, "/a/2", fragment=True, revision=7)

    def whole(requests: Iterator[Any], context: Any) -> Iterator[Any]:
        yield _created(next(requests))
        yield _said(1, "/a/2", fragment=True, revision=7)
        yield _said(1, "/a/3", revision=7)
        yield from _quiet(requests, context)

    with scripted_etcds() as (client, (etcd,)):
        etcd.on(WATCH, breaks_off, whole)
        heard = Heard()

        client.watch("/a/", 3, heard.listener)
        heard.wait_for(3)

        assert [[event.key for event in answer] for answer in heard.answers] == [
            ["/a/1"],
            ["/a/2", "/a/3"],
        ]
        assert [asked[0].create_request.start_revision for asked in etcd.opened] == [3, 7]


def test_a_watch_that_heard_of_no_change_goes_on_from_what_it_was_told_last() -> None:
    def ends(requests: Iterator[Any], context: Any) -> Iterator[Any]:
        yield _created(next(requests))
        yield WATCH.response(header=HEADER(revision=40), watch_id=1)

    with scripted_etcds() as (client, (etcd,)):
        etcd.on(WATCH, ends, _quiet)
        heard = Heard()

        client.watch("/a/", 3, heard.listener)
        eventually(lambda: len(etcd.opened) == 2 and etcd.opened[1])

        assert etcd.opened[1][0].create_request.start_revision == 41
        assert heard.events == []


def test_a_refusal_without_a_number_is_the_oldest_request_that_was_not_answered() -> None:
    refused = "rpc error: code = PermissionDenied desc = etcdserver: permission denied"

    def answer(requests: Iterator[Any], context: Any) -> Iterator[Any]:
        first, second, third = next(requests), next(requests), next(requests)
        yield _created(first)
        yield WATCH.response(watch_id=-1, created=True, canceled=True, cancel_reason=refused)
        yield _created(third)
        assert second.create_request.key == b"/b/"
        yield from _quiet(requests, context)

    with scripted_etcds() as (client, (etcd,)):
        etcd.on(RANGE, refuse(CODE.PERMISSION_DENIED, "etcdserver: permission denied"))
        etcd.on(WATCH, answer)
        listeners = [Heard() for _ in range(3)]

        for prefix, heard in zip(("/a/", "/b/", "/c/"), listeners, strict=True):
            client.watch(prefix, 3, heard.listener)
        listeners[1].wait_until(Following.DENIED)
        listeners[2].wait_until(Following.CURRENT)

        assert [heard.stood for heard in listeners] == [
            [Following.CURRENT],
            [Following.DENIED],
            [Following.CURRENT],
        ]


def test_a_member_that_has_not_heard_of_a_new_role_is_asked_again() -> None:
    refused = "rpc error: code = PermissionDenied desc = etcdserver: permission denied"

    def answer(requests: Iterator[Any], context: Any) -> Iterator[Any]:
        next(requests)
        yield WATCH.response(watch_id=-1, created=True, canceled=True, cancel_reason=refused)
        yield from _quiet(requests, context)

    with scripted_etcds() as (client, (etcd,)):
        etcd.on(RANGE, say(RANGE))
        etcd.on(WATCH, answer)
        heard = Heard()

        client.watch("/a/", 3, heard.listener)
        heard.wait_until(Following.CURRENT)

        assert heard.stood == [Following.CURRENT]


def test_a_watch_that_is_cancelled_for_no_reason_is_made_again() -> None:
    def cancels(requests: Iterator[Any], context: Any) -> Iterator[Any]:
        yield _created(next(requests))
        yield WATCH.response(watch_id=1, canceled=True)
        yield from _quiet(requests, context)

    with scripted_etcds() as (client, (etcd,)):
        etcd.on(WATCH, cancels, _quiet)
        heard = Heard()

        client.watch("/a/", 3, heard.listener)

        eventually(lambda: heard.stood == [Following.CURRENT, Following.DEGRADED, Following.CURRENT])


def test_watches_leave_a_member_that_does_not_answer_their_probes() -> None:
    def silent(requests: Iterator[Any], context: Any) -> Iterator[Any]:
        yield _created(next(requests))
        for _ in requests:
            pass

    with scripted_etcds(2) as (client, (etcd, other)):
        etcd.on(WATCH, silent)
        other.on(WATCH, _quiet)
        heard = Heard()

        client.watch("/a/", 3, heard.listener)
        eventually(lambda: other.opened)

        assert [request.WhichOneof("union") for request in etcd.opened[0]] == [
            "create_request",
            "progress_request",
            "progress_request",
        ]
        assert heard.stood == [Following.CURRENT]


def test_watches_stay_with_a_member_that_is_only_slow_to_change() -> None:
    """The majority is slow, and the member lives: two puts without an answer are no reason to move."""

    def sleeps(request: Any, context: Any) -> Any:
        while context.is_active():
            eventually(lambda: not context.is_active())
        return PUT.response()

    with scripted_etcds() as (client, (etcd,)):
        etcd.on(WATCH, _quiet)
        etcd.on(STATUS, say(STATUS))
        etcd.on(PUT, sleeps)
        heard = Heard()
        client.watch("/a/", 3, heard.listener)

        for _ in range(3):
            with pytest.raises(EtcdError):
                client.put("/a/b", b"")

        assert len(etcd.opened) == 1
        assert heard.stood == [Following.CURRENT]
