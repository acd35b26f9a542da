"""Volumes that all hosts of a cluster reach: told of once, used by many, removed by nobody while one has them."""

from __future__ import annotations

import pytest

from cnm.cluster import keys, records
from cnm.cluster.etcd.contract import EtcdError, Put
from cnm.cluster.etcd.memory import MemoryEtcd, MemoryStore
from cnm.cluster.records import SharedVolume
from cnm.cluster.volumes import SharedVolumes
from cnm.errors import Conflict

FAR = SharedVolume(driver="fuse", name="far/away", created=7, labels={"a": "b"}, options={"device": "x"})


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def host(store: MemoryStore, name: str) -> SharedVolumes:
    etcd = MemoryEtcd(store)
    return SharedVolumes(lambda: etcd, lambda: name)


@pytest.fixture
def here(store: MemoryStore) -> SharedVolumes:
    return host(store, "h1")


@pytest.fixture
def there(store: MemoryStore) -> SharedVolumes:
    return host(store, "h2")


def test_what_was_asked_for_is_the_same_everywhere(here: SharedVolumes, there: SharedVolumes) -> None:
    here.take(FAR, (), new=True)

    known = there.take(SharedVolume(driver="fuse", name="far/away", created=9), ["c2"])

    assert (known.created, known.labels, known.options, known.node) == (7, {"a": "b"}, {"device": "x"}, "h1")
    (found,) = here.all()
    assert (found.volume, found.users) == (known, {"h2": ("c2",)})


def test_who_has_it_keeps_it(here: SharedVolumes, there: SharedVolumes) -> None:
    here.take(FAR, ["c1", "c2"])

    with pytest.raises(Conflict, match=r"^volume is in use on host h1 - \[c1, c2\]$"):
        there.begin_removal("fuse", "far/away")

    here.take(FAR, ())
    there.begin_removal("fuse", "far/away")
    there.end_removal("fuse", "far/away", removed=True)
    assert here.all() == []


def test_nobody_takes_what_is_being_removed(here: SharedVolumes, there: SharedVolumes) -> None:
    here.take(FAR, (), new=True)
    there.begin_removal("fuse", "far/away")

    with pytest.raises(Conflict, match=r"^volume far/away is being removed by host h2$"):
        here.take(FAR, ["c1"])

    there.end_removal("fuse", "far/away", removed=False)
    here.take(FAR, ["c1"])
    assert here.all()[0].users == {"h1": ("c1",)}


def test_one_that_was_made_beside_is_removed_too(here: SharedVolumes, there: SharedVolumes) -> None:
    there.begin_removal("fuse", "unknown")
    with pytest.raises(Conflict):
        here.take(SharedVolume(driver="fuse", name="unknown"), ["c1"])
    there.end_removal("fuse", "unknown", removed=True)

    assert here.all() == []


def test_who_lets_go_of_what_is_gone_does_not_bring_it_back(here: SharedVolumes) -> None:
    here.take(FAR, ())

    assert here.all() == []


def test_a_host_that_began_a_removal_and_died_may_use_it_again(here: SharedVolumes) -> None:
    here.take(FAR, (), new=True)
    here.begin_removal("fuse", "far/away")

    here.take(FAR, ["c1"])

    assert here.all()[0].volume.removing == ""


def test_what_was_removed_by_force_is_forgotten_and_nothing_newer(
    here: SharedVolumes, there: SharedVolumes
) -> None:
    here.take(FAR, (), new=True)

    there.end_removal("fuse", "far/away", removed=True, created=8)
    assert len(here.all()) == 1

    there.end_removal("fuse", "far/away", removed=True, created=7)
    assert here.all() == []


class _Racing(MemoryEtcd):
    """Another host takes the volume after it was looked whether anybody has it."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        self.other = host(store, "h1")
        self.races = 1

    def transact(self, conditions, then, otherwise=()):  # type: ignore[no-untyped-def]
        if self.races:
            self.races -= 1
            self.other.take(FAR, ["c1"])
        return super().transact(conditions, then, otherwise)


def test_a_removal_and_a_use_at_once_see_each_other(store: MemoryStore, here: SharedVolumes) -> None:
    here.take(FAR, (), new=True)
    racing = _Racing(store)

    with pytest.raises(Conflict, match="in use on host h1"):
        SharedVolumes(lambda: racing, lambda: "h2").begin_removal("fuse", "far/away")

    assert here.all()[0].users == {"h1": ("c1",)}


def test_what_a_newer_version_wrote_there_stays(store: MemoryStore, here: SharedVolumes) -> None:
    key = keys.volume("fuse", "far/away")
    value = records.encode(FAR)[:-1] + b',"more":1}'
    MemoryEtcd(store).transact((), [Put(key, value)])

    here.take(FAR, ["c1"])

    found = MemoryEtcd(store).get(key)
    assert found is not None
    assert found.value == value


def test_a_cluster_that_is_away_is_told_so(store: MemoryStore, here: SharedVolumes) -> None:
    store.quorum = False
    with pytest.raises(EtcdError):
        here.take(FAR, ["c1"])
