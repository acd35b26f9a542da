"""What cnmd keeps on a disk that is full: what is there can go, nothing new comes, and nothing is lost."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from cnm.errors import CnmError
from cnm.network import Network, NetworkState
from cnm.store.database import Store

_ROOM = 16 << 20
_MANY = 200
_FULL = "database or disk is full"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_ROOM}", "none", tmp_path], check=True)
    try:
        yield tmp_path
    finally:
        subprocess.run(["umount", tmp_path], check=True)


@pytest.fixture
def store(disk: Path) -> Iterator[Store]:
    store = Store(str(disk / "cnm.db"))
    store.commit(put=[_network(number) for number in range(_MANY)], durable=True)
    yield store
    store.close()


def _network(number: int, driver: str = "bridge") -> Network:
    return Network(
        id=f"{number:064x}", name=f"n{number}", driver=driver, created="", state=NetworkState.ACTIVE
    )


def _fill(disk: Path) -> Path:
    filler = disk / "filler"
    with filler.open("ab", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)) == 4096:
            pass
    return filler


def test_everything_can_go_one_by_one(store: Store, disk: Path) -> None:
    for number in range(_MANY):
        _fill(disk)  # whatever room there is, somebody takes it
        store.commit(delete=[_network(number)], durable=True)

    assert store.load(Network) == []


def test_what_is_there_can_change(store: Store, disk: Path) -> None:
    _fill(disk)

    store.commit(put=[_network(3, driver="null")], delete=[_network(4)], durable=True)

    found = {network.name: network.driver for network in store.load(Network)}
    assert len(found) == _MANY - 1
    assert found["n3"] == "null"


def test_nothing_new_takes_the_reserve(store: Store, disk: Path) -> None:
    _fill(disk)
    before = store.load(Network)

    for number in range(_MANY, 2 * _MANY):  # the file may have room for a few
        with suppress(CnmError):
            store.commit(put=[_network(number)], durable=True)
    with pytest.raises(CnmError, match=f"{_FULL}; nothing was changed"):
        store.commit(put=[_network(9_999), _network(3, driver="null")], delete=before, durable=True)

    assert [each for each in store.load(Network) if each.id <= before[-1].id] == before
    store.commit(delete=before, durable=True)


def test_it_opens_on_a_full_disk_and_has_its_reserve_again_when_there_is_room(disk: Path) -> None:
    path = str(disk / "cnm.db")
    first = Store(path)
    first.commit(put=[_network(number) for number in range(_MANY)], durable=True)
    first.close()
    filler = _fill(disk)

    store = Store(path)
    store.commit(delete=[_network(3)], durable=True)
    low = (disk / "cnm.db-reserve").stat().st_size
    filler.unlink()
    store.commit(delete=[_network(4)], durable=True)

    assert len(store.load(Network)) == _MANY - 2
    assert low < (disk / "cnm.db-reserve").stat().st_size == 4 << 20
    store.close()


def test_a_full_disk_without_a_reserve_is_told(disk: Path) -> None:
    _fill(disk)

    with pytest.raises(CnmError, match=f"cannot open .*cnm.db: {_FULL}: make room"):
        Store(str(disk / "cnm.db"))
