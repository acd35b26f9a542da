"""The containers that there are: who waits for one learns how it ended, even if it is gone by the time they look."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from cnm.errors import Conflict, NotFound
from cnm.launcher.container import Container, State, Status
from cnm.launcher.places import Places
from cnm.launcher.records import Records
from cnm.launcher.registry import Registry
from cnm.wire.containers import Config, HostConfig


def container(places: Places, ident: str = "ab" * 32, name: str = "one") -> Container:
    os.makedirs(places.container(ident))
    return Container(
        id=ident,
        name=name,
        created=1,
        image="sha256:00",
        layers=(),
        config=Config(),
        host=HostConfig(),
        networks={},
        args=("true",),
        state=State(status=Status.RUNNING),
    )


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(str(tmp_path), str(tmp_path))


@pytest.fixture
def registry(places: Places) -> Registry:
    return Registry(Records(places))


def test_how_one_that_is_gone_ended_is_known(registry: Registry, places: Places) -> None:
    running = registry.put(container(places))

    registry.drop(registry.note_state(running, status=Status.EXITED, exit_code=7))

    assert not registry.is_there(running.id)
    assert registry.last(running).state.exit_code == 7


def test_a_reserved_name_is_taken_and_finds_nothing(registry: Registry, places: Places) -> None:
    made = container(places)
    registry.reserve(made)

    with pytest.raises(NotFound, match="No such container: one"):
        registry.find("one")
    with pytest.raises(Conflict, match="is already in use by container"):
        registry.reserve(container(places, "cd" * 32))
    registry.put(made)
    assert registry.find("one") == made


def test_what_has_happened_is_so_where_it_cannot_be_written(registry: Registry, places: Places) -> None:
    running = registry.put(container(places))
    Path(places.container(running.id), "state.json.new").mkdir()

    registry.note_state(running, status=Status.EXITED)

    assert registry.get(running.id).state.status is Status.EXITED


def test_a_rename_that_fails_gives_the_name_back(registry: Registry, places: Places) -> None:
    one, two = container(places), container(places, "cd" * 32, "two")
    for each in (one, two):
        registry.reserve(each)
        registry.put(each)

    with pytest.raises(Conflict):
        registry.rename(one, "two")
    registry.rename(two, "three")

    assert registry.rename(one, "two") == msgspec.structs.replace(one, name="two")
    with pytest.raises(NotFound):
        registry.find("one")
