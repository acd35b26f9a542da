"""Moves that are cut off, on the host that a volume leaves: what may be elsewhere is unused there, until that ends."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from cnm.errors import CnmError, Conflict, NotFound, Unavailable
from cnm.events import EventBus
from cnm.launcher.moving import departing, notes, settling
from cnm.launcher.moving.arriving import Offer
from cnm.launcher.moving.departing import Departures
from cnm.launcher.moving.departure import Departure
from cnm.launcher.moving.frames import Frame
from cnm.launcher.moving.peers import ClusterPeers, Peer
from cnm.launcher.moving.sender import Broken
from cnm.launcher.moving.settling import Settling
from cnm.launcher.registry import Registry
from cnm.launcher.volumes.volume import Volume
from cnm.launcher.volumes.volumes import Volumes

H2 = Peer("h2", "192.0.2.2")
_OVERTAKING_SECONDS = 0.5
"""For which one thread lets another one come first."""


class Cluster:
    """As this host's cnmd has it, and what h2 says."""

    def __init__(self) -> None:
        self.is_in = True
        self.nodes = {"h2"}
        self.arrived: set[str] = set()
        """Moves that have come to their end on h2."""
        self.confirmed: list[str] = []
        self.is_silent = False
        """h2 commits, but its answers do not come."""

    def own(self) -> str | None:
        return "h1" if self.is_in else None

    def find(self, name: str) -> Peer:
        self.known(name)
        return H2

    def known(self, name: str) -> dict[str, Any]:
        if not self.is_in:
            raise Unavailable("the cluster does not answer")
        if name not in self.nodes:
            raise NotFound(f"no host {name} in the cluster")
        return {"Name": name, "Address": H2.address}


class ToH2:
    """What h2 hears, without a connection."""

    def __init__(self, peers: Cluster, peer: Peer, move: str, volume: str) -> None:
        self._cluster, self._move = peers, move

    def close(self) -> None: ...

    def offer(self, offer: Offer) -> None: ...

    def content(self, frames: Iterator[Frame]) -> None:
        list(frames)

    def commit(self) -> None:
        self._cluster.arrived.add(self._move)
        self._answer()

    def settle(self) -> bool:
        self._answer()
        return self._move in self._cluster.arrived

    def confirm(self) -> None:
        self._answer()
        self._cluster.confirmed.append(self._move)

    def came_from_here(self) -> bool:
        return False

    def _answer(self) -> None:
        if self._cluster.is_silent:
            raise Broken("the connection to host h2 broke: it was closed")


class Host:
    """h1, with its volume `data`."""

    def __init__(self, place: Path, cluster: Cluster) -> None:
        self.place = place
        self.cluster = cluster
        self.start()

    def start(self) -> None:
        """Also again, as after a kill."""
        self.volumes = Volumes(str(self.place), EventBus())
        self.volumes.load()
        peers = cast(ClusterPeers, self.cluster)
        self.settling = Settling(self.volumes, peers)
        self.departures = Departures(self.volumes, cast(Registry, None), peers, self.settling)
        self.settling.load()

    def move(self) -> None:
        list(self.departures.begin("data", "h2").messages())

    def settle(self) -> None:
        """As a beat later does."""
        self.settling._next_try = 0
        self.settling.settle_all()

    def check_unused(self, why: str) -> None:
        with pytest.raises(Conflict) as caught:
            self.volumes.mount("data", "c1")
        assert why in str(caught.value)
        with pytest.raises(Conflict):
            self.volumes.remove("data", force=True)

    def check_used(self) -> None:
        path = self.volumes.mount("data", "c1")
        assert Path(path, "file").read_text() == "kept"
        self.volumes.unmount("data", "c1")
        assert notes.leaving(self.volumes.folder("data")) is None


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def host(tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Host:
    for module in (settling, departing):
        monkeypatch.setattr(module, "Sender", ToH2)
    place = tmp_path / "volumes"
    place.mkdir()
    made = Host(place, cluster)
    volume, _ = made.volumes.create("data")
    Path(made.volumes.path(volume), "file").write_text("kept")
    return made


# What cannot be deleted here


@pytest.fixture
def mounted(host: Host, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Something in it is a mount, from the commit on."""
    with monkeypatch.context() as patched:
        patched.setattr("cnm.launcher.volumes.local.mounts_below", lambda path: [f"{path}/x"])
        yield patched


_LEFT = "it is on host h2, and its files here cannot be deleted: remove data: "


def test_what_has_left_and_cannot_be_deleted_is_nobody_s(
    host: Host, cluster: Cluster, mounted: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Conflict, match=f"^volume data: {_LEFT}.*/x is a mount: unmount it first$"):
        host.move()

    host.check_unused(f"volume data: {_LEFT}")
    with pytest.raises(Conflict, match=_LEFT):
        host.move()
    assert cluster.confirmed == []
    mounted.undo()
    host.settle()
    assert os.listdir(host.place) == []
    assert set(cluster.confirmed) == cluster.arrived


def test_what_has_left_goes_when_the_other_host_is_no_more(
    host: Host, cluster: Cluster, mounted: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Conflict):
        host.move()
    cluster.nodes.clear()
    cluster.is_in = False
    with pytest.raises(Conflict, match=r"^keep data: it is on host h2$"):
        host.settling.keep("data")

    mounted.undo()
    host.settle()

    assert os.listdir(host.place) == []


def test_what_has_left_and_cannot_be_deleted_is_nobody_s_after_a_start(
    host: Host, cluster: Cluster, mounted: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Conflict):
        host.move()
    cluster.nodes.clear()  # who said so cannot say it again

    host.start()

    host.check_unused("it is on host h2")
    host.settle()
    host.check_unused(_LEFT)
    mounted.undo()
    host.settle()

    assert os.listdir(host.place) == []


def test_of_what_has_left_something_may_be_left_aside(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name is free then, and what is left is listed as any other removal's."""

    def refuses(path: str) -> None:
        raise OSError(5, os.strerror(5), path)

    with monkeypatch.context() as patched:
        patched.setattr("cnm.launcher.volumes.records.delete", refuses)
        host.move()

    (left,) = host.volumes.all().volumes
    assert left.name.startswith(".going-")
    host.volumes.create("data", container="c1")


# What nobody knows


def test_a_host_that_has_left_its_cluster_keeps_what_nobody_can_be_asked_about(
    host: Host, cluster: Cluster
) -> None:
    cluster.is_silent = True
    with pytest.raises(
        Unavailable, match=r"^whether volume data is on host h2 is not known, .*: the connection"
    ):
        host.move()
    host.check_unused("end that with 'cnmctl volume move data h2'")
    with pytest.raises(
        Conflict, match=r"^keep data: host h2 can be asked: 'cnmctl volume move data h2' does it;"
    ):
        host.settling.keep("data")

    cluster.is_in = False
    host.settle()

    remedy = "look on h2; 'cnmctl volume keep data' has what is here again"
    host.check_unused(remedy)
    with pytest.raises(Unavailable, match=f"^whether volume data is on host h2 is not known, .*{remedy}$"):
        host.move()
    host.start()
    host.check_unused(remedy)
    host.settling.keep("data")
    host.check_used()
    host.start()
    host.check_used()


def test_what_a_damaged_note_holds_can_be_kept(host: Host) -> None:
    (host.place / "data/leaving.json").write_text("{")
    host.start()
    host.check_unused("its leaving.json is damaged: look on the others; 'cnmctl volume keep data' has")

    host.settling.keep("data")

    host.check_used()


def test_what_is_this_host_s_may_be_kept(host: Host) -> None:
    host.settling.keep("data")
    with pytest.raises(NotFound, match=r"^get other: no such volume$"):
        host.settling.keep("other")
    host.check_used()


def test_a_node_that_was_removed_cannot_have_it(host: Host, cluster: Cluster) -> None:
    cluster.is_silent = True
    with pytest.raises(Unavailable):
        host.move()

    cluster.nodes.clear()
    host.settle()

    host.check_used()


def test_a_move_that_somebody_else_settles_first_has_succeeded(host: Host, cluster: Cluster) -> None:
    """The answer to the commit is lost, and the beat asks before the move does."""
    beat = threading.Thread(target=host.settle)
    opened = host.settling.open

    def opens(name: str, note: notes.Leaving) -> None:
        opened(name, note)
        cluster.is_silent = False
        beat.start()
        beat.join(_OVERTAKING_SECONDS)

    host.settling.open = opens  # type: ignore[method-assign]
    cluster.is_silent = True

    host.move()

    beat.join()
    assert os.listdir(host.place) == []


def test_a_full_disk_is_told_with_the_file_that_could_not_be_noted(
    host: Host, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patched:
        patched.setattr("cnm.launcher.moving.notes.os.fsync", full)
        with pytest.raises(CnmError, match=f"^volume data: {host.place}/data: no space left on device$"):
            host.move()

    assert cluster.arrived == set()
    host.check_used()


# Clients


def _waiting() -> tuple[Departure, threading.Event]:
    """A move that goes on until the event is set."""
    end = threading.Event()
    made = Departure(Volume(name="data"), H2, lambda departure: end.wait())
    made.start()
    return made, end


def test_a_client_that_goes_away_behind_the_first_line_ends_it() -> None:
    departure, end = _waiting()
    messages = departure.messages()
    next(messages)

    messages.close()  # type: ignore[attr-defined]

    with pytest.raises(Unavailable, match=r"^volume data is not moved: the client went away$"):
        departure.check_wanted()
    end.set()


def test_a_client_that_goes_away_before_the_first_line_ends_it(host: Host) -> None:
    from cnm.launcher.api import moving
    from cnm.launcher.api.calls import Call

    departure, end = _waiting()
    call = cast(Call[None], type("Called", (), {"environ": {}}))

    moving.answer(call, departure).close()

    with pytest.raises(Unavailable, match=r"^volume data is not moved: the client went away$"):
        departure.check_wanted()
    end.set()
