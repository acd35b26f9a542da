"""The thread that deals with neighbours: it looks when something changed, and not when nothing did."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Hashable, Iterator

import pytest

from cnm.errors import KernelError
from cnm.neighbours import worker
from cnm.neighbours.neighbour import Report, State
from cnm.neighbours.worker import Neighbours


class FakeNeighbour:
    """Records what is asked of it."""

    in_tables = True

    def __init__(self) -> None:
        self.seen: Hashable | None = "there"
        self.allowed: list[frozenset[str]] = []
        self.undone: list[str] = []
        self.looks = 0
        self.changes = False
        self.fails = False
        self.closed = False

    def detect(self) -> Hashable | None:
        self.looks += 1
        return self.seen

    def needs(self, bridges: Collection[str]) -> Hashable:
        return bool(bridges)

    def allow(self, bridges: Collection[str]) -> Report | None:
        self.allowed.append(frozenset(bridges))
        if self.fails:
            raise KernelError("it is away")
        return Report("fake", State.OPEN, "as wished", changed=self.changes)

    def undo(self, why: str) -> Report | None:
        self.undone.append(why)
        return Report("fake", State.UNUSED, why)

    def close(self) -> None:
        self.closed = True


class Place:
    """A running worker over one neighbour, with the bridges that a test says."""

    def __init__(self, *, enabled: bool = True) -> None:
        self.neighbour = FakeNeighbour()
        self.bridges = frozenset({"cnm-1"})
        self.worker = Neighbours([self.neighbour], enabled=enabled)

    def start(self) -> None:
        self.worker.start(lambda: self.bridges)

    def looked(self, times: int = 2) -> bool:
        """Whether it looks so many times more: what was asked before is dealt with then."""
        before = self.neighbour.looks
        return comes_true(lambda: self.neighbour.looks >= before + times)


def comes_true(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_LOOK_SECONDS", 0.02)
    monkeypatch.setattr(worker, "_GATHER_SECONDS", 0.0)
    monkeypatch.setattr(worker, "_REST_SECONDS", 0.0)


@pytest.fixture
def place() -> Iterator[Place]:
    made = Place()
    yield made
    made.worker.close()
    assert made.neighbour.closed


def test_open_at_start_and_then_left_alone(place: Place) -> None:
    place.start()

    assert comes_true(lambda: place.worker.reports() != ())
    assert place.looked()
    assert place.neighbour.allowed == [place.bridges]
    assert place.worker.reports() == (Report("fake", State.OPEN, "as wished"),)


def test_neighbour_that_comes_later_is_noticed_and_one_that_goes_forgotten(place: Place) -> None:
    place.neighbour.seen = None
    place.start()
    assert place.looked()
    assert (place.neighbour.allowed, place.worker.reports()) == ([], ())

    place.neighbour.seen = "there"
    assert comes_true(lambda: place.worker.reports() != ())

    place.neighbour.seen = None
    assert comes_true(lambda: place.worker.reports() == ())


def test_change_that_can_be_seen_is_dealt_with(place: Place) -> None:
    place.start()
    assert comes_true(lambda: len(place.neighbour.allowed) == 1)

    place.neighbour.seen = "changed"

    assert comes_true(lambda: len(place.neighbour.allowed) == 2)


def test_what_was_written_is_looked_at_again(place: Place) -> None:
    place.neighbour.changes = True
    place.start()
    assert comes_true(lambda: len(place.neighbour.allowed) >= 2)

    place.neighbour.changes = False
    assert place.looked()
    before = len(place.neighbour.allowed)

    assert place.looked()
    assert len(place.neighbour.allowed) == before


def test_hint_is_dealt_with_though_nothing_can_be_seen(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_LOOK_SECONDS", 60.0)
    place.start()
    assert comes_true(lambda: len(place.neighbour.allowed) == 1)

    place.worker.tables_changed()

    assert comes_true(lambda: len(place.neighbour.allowed) == 2)


def test_hint_of_nftables_is_nothing_to_a_neighbour_that_is_not_in_them(place: Place) -> None:
    place.neighbour.in_tables = False
    place.start()
    assert comes_true(lambda: len(place.neighbour.allowed) == 1)

    place.worker.tables_changed()

    assert place.looked()
    assert len(place.neighbour.allowed) == 1


def test_last_network_undoes_and_the_first_opens_again(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_LOOK_SECONDS", 60.0)
    place.start()
    assert comes_true(lambda: len(place.neighbour.allowed) == 1)

    place.bridges = frozenset()
    place.worker.networks_changed()
    assert comes_true(lambda: place.neighbour.undone == ["no network needs it"])

    place.bridges = frozenset({"cnm-2"})
    place.worker.networks_changed()
    assert comes_true(lambda: len(place.neighbour.allowed) == 2)


def test_switched_off_it_undoes_once_and_ends() -> None:
    place = Place(enabled=False)
    place.start()

    assert comes_true(lambda: place.neighbour.undone == ["switched off in the settings"])
    place.worker.networks_changed()
    place.worker.close()

    assert (place.neighbour.allowed, len(place.neighbour.undone)) == ([], 1)


def test_failure_is_no_end(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    place.neighbour.fails = True
    place.start()
    assert comes_true(lambda: "it is away" in caplog.text)
    assert place.looked(5)
    assert caplog.text.count("it is away") == 1

    place.neighbour.fails = False

    assert comes_true(lambda: place.worker.reports() != ())


def test_rules_that_vanish_again_and_again_are_not_fought_for(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    place.neighbour.changes = True

    place.start()

    assert comes_true(lambda: "resting for a minute" in caplog.text)
    assert len(place.neighbour.allowed) == 1 + 20


def test_networks_that_come_one_after_the_other_are_no_fight(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    place.neighbour.needs = frozenset  # type: ignore[method-assign]
    place.neighbour.changes = True
    place.start()

    for number in range(25):
        before = len(place.neighbour.allowed)
        place.bridges |= {f"cnm-more-{number}"}
        assert comes_true(lambda before=before: len(place.neighbour.allowed) > before)

    assert "resting for a minute" not in caplog.text


def test_without_start_there_is_nothing() -> None:
    idle = Neighbours()

    idle.networks_changed()
    idle.close()

    assert idle.reports() == ()
