"""What becomes of layers that a failure has left: dropped, or kept for the next one for a while."""

from __future__ import annotations

import threading
from collections.abc import Collection

import pytest

from cnm.errors import CnmError
from cnm.launcher.layers_on_their_way import LayersOnTheirWay


class Store:
    """Layers by name; what was dropped, each time."""

    def __init__(self, *layers: str) -> None:
        self.layers = set(layers)
        self.drops: list[set[str]] = []
        self.dropped = threading.Event()
        self.refuses = False

    def known(self) -> Collection[str]:
        return set(self.layers)

    def drop(self, kept: Collection[str]) -> None:
        if self.refuses:
            raise CnmError("the disk is read-only")
        self.drops.append(self.layers - set(kept))
        self.layers &= set(kept)
        self.dropped.set()


def _fails(layers: LayersOnTheirWay, store: Store, brought: str, why: str = "no", **how: bool) -> None:
    def bring() -> None:
        with layers.adding(**how):
            store.layers.add(brought)
            raise CnmError(why)

    with pytest.raises(CnmError, match=why):
        bring()


def test_what_a_failure_left_goes_and_what_was_there_stays() -> None:
    store = Store("before")
    layers = LayersOnTheirWay(store.known, store.drop)

    _fails(layers, store, "new")

    assert store.layers == {"before"}


def test_nothing_goes_where_nothing_fails() -> None:
    store = Store()
    with LayersOnTheirWay(store.known, store.drop).adding():
        store.layers.add("new")

    assert (store.layers, store.drops) == ({"new"}, [])


def test_nothing_goes_while_somebody_else_brings_layers() -> None:
    store = Store()
    layers = LayersOnTheirWay(store.known, store.drop)

    with layers.adding():
        store.layers.add("other's")
        _fails(layers, store, "new")
        assert store.drops == []

    assert store.layers == set()


def test_what_a_pull_left_whole_stays_and_halves_go() -> None:
    store = Store()
    layers = LayersOnTheirWay(store.known, store.drop)

    _fails(layers, store, "pulled", resumes=True)

    assert (store.layers, store.drops) == ({"pulled"}, [set()])


def test_it_stays_too_when_something_else_fails_later() -> None:
    store = Store()
    layers = LayersOnTheirWay(store.known, store.drop)
    _fails(layers, store, "pulled", resumes=True)

    _fails(layers, store, "built")

    assert store.layers == {"pulled"}


def test_it_goes_after_a_while() -> None:
    store = Store()
    layers = LayersOnTheirWay(store.known, store.drop, kept_seconds=0.01)

    with layers.adding():
        _fails(layers, store, "pulled", resumes=True)
        store.dropped.clear()
    while store.layers:
        assert store.dropped.wait(20)
        store.dropped.clear()

    assert store.drops[-1] == {"pulled"}


def test_on_a_full_disk_everything_goes_at_once() -> None:
    store = Store()
    layers = LayersOnTheirWay(store.known, store.drop)
    _fails(layers, store, "earlier", resumes=True)

    _fails(layers, store, "pulled", why="write x: no space left on device", resumes=True)

    assert store.layers == set()


def test_everything_goes_when_it_is_asked_for_once_nobody_brings_layers() -> None:
    store = Store()
    layers = LayersOnTheirWay(store.known, store.drop)
    _fails(layers, store, "pulled", resumes=True)

    with layers.adding():
        layers.drop_all()
        assert store.layers == {"pulled"}
    assert store.layers == set()


def test_what_cannot_be_dropped_does_not_hide_why_something_failed(caplog: pytest.LogCaptureFixture) -> None:
    store = Store()
    store.refuses = True

    _fails(LayersOnTheirWay(store.known, store.drop), store, "new", why="the reason")

    assert caplog.messages == ["layers that no image has stay: the disk is read-only"]
