"""What the resolver was told: changes one by one, snapshots as a whole, and nothing by what is no message."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from cnm.resolver.messages import Message, Verb
from cnm.resolver.records import Found, Link, Member, Record, Scope, Server
from cnm.resolver.state import Settings, Sockets, State

FRONT = Member("w1", ("front", "www"), "10.1.0.2", "fd01::2")
BACK = Member("w2", ("back",), "10.1.0.3", "")


def tell(state: State, verb: Verb, ident: str = "", body: Any = None, sockets: Sockets | None = None) -> None:
    """As it comes over a socket."""
    state.apply(Message.decode(Message(verb, ident, body).encode()), sockets or {})


def tell_scope(state: State, scope: Scope, sockets: Sockets | None = None) -> None:
    tell(state, Verb.SCOPE, scope.id, {"scope": scope, "sockets": list(sockets or {})}, sockets)


def tell_all(state: State, scopes: dict[str, Sockets], members: Sequence[Member] = (FRONT, BACK)) -> None:
    """A snapshot of the network web, and of scopes on it."""
    tell(state, Verb.BEGIN)
    tell(state, Verb.ZONE, "w", "web")
    for member in members:
        tell(state, Verb.MEMBER, "w", member)
    for ident, sockets in scopes.items():
        tell_scope(state, Scope(ident, ("w",)), sockets)
    tell(state, Verb.COMMIT)


def found(state: State, name: str, scope: str = "box") -> list[str] | None:
    """IPv4 addresses."""
    them = state.book.find(scope, name)
    return None if them is None else [socket.inet_ntoa(each) for each in them.ipv4]


def is_closed(each: socket.socket) -> bool:
    return each.fileno() < 0


@pytest.fixture
def make_sockets() -> Iterator[Callable[[], Sockets]]:
    made: list[socket.socket] = []

    def pair() -> Sockets:
        made.extend(socket.socketpair())
        return {"udp": made[-2], "tcp": made[-1]}

    yield pair
    for each in made:
        each.close()


MakeSockets = Callable[[], Sockets]


@pytest.fixture
def state(make_sockets: MakeSockets) -> State:
    """The scope `box` on the network web."""
    made = State()
    tell_all(made, {"box": make_sockets()})
    return made


# One by one


def test_a_member_that_is_told_is_found(state: State) -> None:
    assert state.book.find("box", "front") == Found(
        (socket.inet_aton("10.1.0.2"),), (socket.inet_pton(socket.AF_INET6, "fd01::2"),)
    )


def test_a_member_that_is_told_anew_is_as_it_was_told_last(state: State) -> None:
    tell(state, Verb.MEMBER, "w", FRONT._replace(names=("face",), ipv4="10.1.0.9"))

    assert (found(state, "front"), found(state, "www"), found(state, "face")) == (None, None, ["10.1.0.9"])


def test_a_member_that_leaves_is_unknown(state: State) -> None:
    tell(state, Verb.UNMEMBER, "w", "w1")

    assert (found(state, "front"), found(state, "back")) == (None, ["10.1.0.3"])


@pytest.mark.parametrize(
    ("verb", "ident", "body"),
    [
        (Verb.UNMEMBER, "w", "nobody"),
        (Verb.UNMEMBER, "nowhere", "w1"),
        (Verb.UNZONE, "nowhere", None),
        (Verb.UNSCOPE, "nobody", None),
    ],
    ids=["member", "member of no zone", "zone", "scope"],
)
def test_what_is_not_there_may_go_again(state: State, verb: Verb, ident: str, body: str | None) -> None:
    tell(state, verb, ident, body)

    assert found(state, "front") == ["10.1.0.2"]


def test_a_zone_that_goes_takes_its_members_along(state: State) -> None:
    tell(state, Verb.UNZONE, "w")
    tell(state, Verb.ZONE, "w", "web")

    assert found(state, "front") is None


def test_a_zone_that_is_told_anew_keeps_its_members_under_its_new_name(state: State) -> None:
    tell(state, Verb.ZONE, "w", "net")

    assert (found(state, "front.net"), found(state, "front.web")) == (["10.1.0.2"], None)


def test_records_take_the_place_of_all_earlier_ones(state: State) -> None:
    tell(state, Verb.RECORDS, "w", [Record("a", "A", "192.0.2.1"), Record("b", "A", "192.0.2.2")])
    tell(state, Verb.RECORDS, "w", [Record("b", "A", "192.0.2.3")])

    assert (found(state, "a"), found(state, "b")) == (None, ["192.0.2.3"])


def test_a_scope_is_all_that_was_told_of_it(state: State) -> None:
    scope = Scope("box", ("w", "d"), (Link("w", "db", "front"),), (Server("192.0.2.53", True),), False, 1)

    tell_scope(state, scope)

    assert state.book.scope("box") == scope
    assert found(state, "db") == ["10.1.0.2"]


def test_settings_are_those_told_last(state: State) -> None:
    assert state.settings == Settings("/etc/resolv.conf", True, ())

    tell(state, Verb.SETTINGS, "", Settings("/run/resolv.conf", False, ("192.0.2.1",)))

    assert state.settings == Settings("/run/resolv.conf", False, ("192.0.2.1",))


# Sockets


class Heard:
    """What whoever serves is told, and whether the sockets were open then."""

    def __init__(self, state: State) -> None:
        self._state = state
        self.told: list[tuple[str, str]] = []
        state.opened = lambda scope: self._hear("opened", scope)
        state.closing = lambda scope: self._hear("closing", scope)

    def _hear(self, what: str, scope: str) -> None:
        assert not any(is_closed(each) for each in self._state.sockets[scope].values())
        self._state.book.scope(scope)
        self.told.append((what, scope))


def test_a_scope_that_comes_with_sockets_is_opened(state: State, make_sockets: MakeSockets) -> None:
    heard = Heard(state)
    sockets = make_sockets()

    tell_scope(state, Scope("crate", ("w",)), sockets)

    assert heard.told == [("opened", "crate")]
    assert state.sockets["crate"] == sockets


def test_a_scope_that_comes_without_sockets_keeps_those_it_has(state: State) -> None:
    heard = Heard(state)
    sockets = state.sockets["box"]

    tell_scope(state, Scope("box", ()))

    assert heard.told == []
    assert state.sockets["box"] == sockets
    assert found(state, "front") is None


def test_new_sockets_of_a_scope_take_the_place_of_the_old_ones(
    state: State, make_sockets: MakeSockets
) -> None:
    heard = Heard(state)
    old, new = state.sockets["box"], make_sockets()

    tell_scope(state, Scope("box", ("w",)), new)

    assert heard.told == [("closing", "box"), ("opened", "box")]
    assert all(is_closed(each) for each in old.values())
    assert state.sockets["box"] == new


def test_a_scope_that_goes_is_told_of_before_its_sockets_are_closed(state: State) -> None:
    heard = Heard(state)
    sockets = state.sockets["box"]

    tell(state, Verb.UNSCOPE, "box")

    assert heard.told == [("closing", "box")]
    assert all(is_closed(each) for each in sockets.values())
    assert state.sockets == {}
    with pytest.raises(KeyError):
        state.book.scope("box")


def test_duplicates_of_what_is_served_change_nothing(state: State) -> None:
    heard = Heard(state)
    before = dict(state.sockets["box"])
    carried = {name: each.dup() for name, each in before.items()}

    tell_scope(state, Scope("box", ("w",), ndots=1), carried)
    state.close_spare("box", carried)

    assert heard.told == []
    assert state.sockets["box"] == before
    assert state.book.scope("box").ndots == 1
    assert all(is_closed(each) for each in carried.values())


# Snapshots


def test_a_scope_that_a_snapshot_does_not_tell_is_dropped(state: State, make_sockets: MakeSockets) -> None:
    tell_scope(state, Scope("crate", ("w",)), make_sockets())
    heard = Heard(state)
    sockets = state.sockets["box"]

    tell_all(state, {"crate": {}})

    assert heard.told == [("closing", "box")]
    assert all(is_closed(each) for each in sockets.values())
    assert list(state.sockets) == ["crate"]


def test_a_member_that_a_snapshot_does_not_tell_is_dropped(state: State) -> None:
    tell_all(state, {"box": {}}, [BACK])

    assert (found(state, "front"), found(state, "back")) == (None, ["10.1.0.3"])


def test_a_zone_that_a_snapshot_does_not_tell_is_dropped(state: State) -> None:
    tell(state, Verb.ZONE, "d", "db")
    tell(state, Verb.MEMBER, "d", Member("d1", ("store",), "10.2.0.2", ""))
    tell_scope(state, Scope("box", ("w", "d")))
    assert found(state, "store") == ["10.2.0.2"]

    tell_all(state, {"box": {}})
    tell_scope(state, Scope("box", ("w", "d")))

    assert found(state, "store") is None


def test_what_a_snapshot_tells_again_is_served_all_the_while(state: State) -> None:
    heard = Heard(state)
    sockets = state.sockets["box"]

    tell_all(state, {"box": {}})

    assert heard.told == []
    assert not any(is_closed(each) for each in sockets.values())
    assert found(state, "front") == ["10.1.0.2"]


def test_until_its_end_a_snapshot_drops_nothing(state: State) -> None:
    tell(state, Verb.BEGIN)
    tell(state, Verb.ZONE, "w", "web")

    assert found(state, "front") == ["10.1.0.2"]


def test_an_empty_snapshot_drops_all(state: State) -> None:
    tell(state, Verb.BEGIN)
    tell(state, Verb.COMMIT)

    assert state.sockets == {}
    with pytest.raises(ValueError, match="malformed"):
        tell(state, Verb.MEMBER, "w", FRONT)


def test_a_member_that_a_snapshot_tells_of_another_zone_is_dropped_from_its_own(state: State) -> None:
    tell(state, Verb.BEGIN)
    for zone in ("w", "d"):
        tell(state, Verb.ZONE, zone, zone)
    tell(state, Verb.MEMBER, "d", FRONT)
    tell_scope(state, Scope("box", ("w",)))
    tell(state, Verb.COMMIT)

    assert found(state, "front") is None


def test_a_snapshot_that_was_broken_off_does_not_count_for_the_next_one(state: State) -> None:
    tell(state, Verb.BEGIN)
    tell(state, Verb.ZONE, "w", "web")
    tell(state, Verb.MEMBER, "w", FRONT)

    tell_all(state, {"box": {}}, [BACK])

    assert found(state, "front") is None


def test_changes_behind_a_snapshot_drop_nothing(state: State, make_sockets: MakeSockets) -> None:
    tell_scope(state, Scope("crate", ("w",)), make_sockets())
    tell(state, Verb.MEMBER, "w", Member("w3", ("third",), "10.1.0.4", ""))

    assert (found(state, "front"), found(state, "third")) == (["10.1.0.2"], ["10.1.0.4"])
    assert sorted(state.sockets) == ["box", "crate"]


# What is no message


def known(state: State) -> tuple[object, ...]:
    names = ("front", "www", "back", "front.web", "own")
    return (
        [state.book.find("box", name) for name in names],
        state.book.name_of("box", socket.inet_aton("10.1.0.2")),
        state.book.scope("box"),
        state.settings,
        {scope: list(sockets) for scope, sockets in state.sockets.items()},
        [is_closed(each) for each in state.sockets["box"].values()],
    )


MALFORMED: list[tuple[Verb, str, Any]] = [
    (Verb.MEMBER, "w", None),
    (Verb.MEMBER, "w", ["w1", ["front"], "10.1.0.9"]),
    (Verb.MEMBER, "w", ["w1", ["front"], "10.1.0.9", "", "more"]),
    (Verb.MEMBER, "w", ["w1", None, "10.1.0.9", ""]),
    (Verb.MEMBER, "w", ["w1", ["front"], "10.1.0.9/24", ""]),
    (Verb.MEMBER, "w", ["w1", ["front"], "10.1.0.9", "fd01::g"]),
    (Verb.MEMBER, "w", ["w1", ["front"], 9, ""]),
    (Verb.MEMBER, "w", [["w1"], ["front"], "10.1.0.9", ""]),
    (Verb.MEMBER, "nowhere", FRONT),
    (Verb.RECORDS, "nowhere", []),
    (Verb.RECORDS, "w", None),
    (Verb.RECORDS, "w", [["own", "A"]]),
    (Verb.RECORDS, "w", [["own", "A", "192.0.2.9"], ["own", "A", "example.com"]]),
    (Verb.SCOPE, "box", None),
    (Verb.SCOPE, "box", {}),
    (Verb.SCOPE, "box", {"scope": ["box", []]}),
    (Verb.SCOPE, "box", {"scope": ["box", None, [], [], True, 0, False]}),
    (Verb.SCOPE, "box", {"scope": ["box", [], [["w", "db"]], [], True, 0, False]}),
    (Verb.SCOPE, "box", {"scope": ["box", [], [], ["192.0.2.1"], True, 0, False]}),
    (Verb.SETTINGS, "", None),
    (Verb.SETTINGS, "", ["/run/resolv.conf", False]),
    (Verb.SETTINGS, "", ["/run/resolv.conf", False, None]),
]


@pytest.mark.parametrize(
    ("verb", "ident", "body"), MALFORMED, ids=[f"{verb} {json.dumps(body)}" for verb, _, body in MALFORMED]
)
def test_what_is_malformed_is_an_error_and_changes_nothing(
    state: State, verb: Verb, ident: str, body: object
) -> None:
    tell(state, Verb.RECORDS, "w", [Record("own", "A", "192.0.2.1")])
    before = known(state)

    with pytest.raises(ValueError, match=r"malformed|values|no address"):
        tell(state, verb, ident, body)

    assert known(state) == before


@pytest.mark.parametrize("verb", [Verb.HELLO, Verb.LIST, Verb.HELD, Verb.STATS, Verb.END, Verb.DONE])
def test_what_is_no_change_is_an_error(state: State, verb: Verb) -> None:
    with pytest.raises(ValueError, match="changes nothing"):
        tell(state, verb, "box", {})


def test_after_what_was_malformed_a_member_can_be_told_and_go(state: State) -> None:
    with pytest.raises(ValueError, match="no address"):
        tell(state, Verb.MEMBER, "w", ["w3", ["third"], "10.1.0", ""])

    tell(state, Verb.MEMBER, "w", ["w3", ["third"], "10.1.0.4", ""])
    assert found(state, "third") == ["10.1.0.4"]
    tell(state, Verb.UNMEMBER, "w", "w3")
    assert found(state, "third") is None


@pytest.mark.parametrize("names", [["front", 5], ["a", None]])
def test_names_that_are_none_change_nothing(state: State, names: list[object]) -> None:
    before = known(state)
    with pytest.raises(ValueError, match="no text"):
        tell(state, Verb.MEMBER, "w", ["w1", names, "10.1.0.9", ""])
    assert known(state) == before


def test_after_names_that_are_none_the_member_can_be_told_again(state: State) -> None:
    with pytest.raises(ValueError, match="no text"):
        tell(state, Verb.MEMBER, "w", ["w1", [5, "front"], "10.1.0.9", ""])
    tell(state, Verb.MEMBER, "w", FRONT)
    assert found(state, "front") == ["10.1.0.2"]


def test_malformed_zones_of_a_scope_change_nothing(state: State, make_sockets: MakeSockets) -> None:
    before = known(state)
    body = {"scope": ["box", [["w"]], [], [], True, 0, False], "sockets": []}
    with pytest.raises(ValueError, match="no text"):
        tell(state, Verb.SCOPE, "box", body, make_sockets())
    assert known(state) == before


def test_malformed_records_change_nothing(state: State) -> None:
    tell(state, Verb.RECORDS, "w", [["own", "A", "192.0.2.1"]])
    before = known(state)
    with pytest.raises(ValueError, match="no text"):
        tell(state, Verb.RECORDS, "w", [[5, "A", "192.0.2.1"]])
    assert known(state) == before


def test_a_commit_without_a_begin_drops_nothing(state: State) -> None:
    with pytest.raises(ValueError, match="begun"):
        tell(state, Verb.COMMIT)
    assert list(state.sockets) == ["box"]


def test_a_scope_without_sockets_that_a_snapshot_does_not_tell_is_dropped(state: State) -> None:
    tell_scope(state, Scope("crate", ()))
    tell(state, Verb.BEGIN)
    tell(state, Verb.COMMIT)
    assert state.book.scopes() == []
