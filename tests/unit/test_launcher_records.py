"""Containers on the disk: what a kill or a power cut leaves of their files is read as what was true before."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from cnm.errors import CnmError
from cnm.launcher.container import Container, State, Status
from cnm.launcher.places import Places
from cnm.launcher.records import Records
from cnm.wire.containers import Config, HostConfig

_IDENT = "ab" * 32


@pytest.fixture
def places(tmp_path: Path) -> Places:
    places = Places(str(tmp_path), str(tmp_path))
    os.makedirs(places.container(_IDENT))
    return places


def container(status: Status = Status.CREATED) -> Container:
    return Container(
        id=_IDENT,
        name="one",
        created=1,
        image="sha256:00",
        layers=(),
        config=Config(),
        host=HostConfig(),
        networks={},
        args=("true",),
        state=State(status=status, exit_code=3),
    )


def test_the_last_state_is_read(places: Places) -> None:
    records = Records(places)
    records.write(container())

    records.write_state(container(Status.EXITED))

    assert list(records.all()) == [container(Status.EXITED)]


@pytest.mark.parametrize("content", [b"", b"{", b"[]"])
def test_a_state_that_a_power_cut_spoilt_is_that_of_the_record(places: Places, content: bytes) -> None:
    records = Records(places)
    records.write(container())
    records.write_state(container(Status.RUNNING))

    Path(places.container(_IDENT), "state.json").write_bytes(content)

    assert list(records.all()) == [container()]


def test_a_folder_without_a_record_goes(places: Places) -> None:
    Path(places.container(_IDENT), "container.json.new").write_bytes(b"half")

    assert list(Records(places).all()) == []
    assert os.listdir(places.containers) == []


def test_a_record_that_cannot_be_read_is_left_alone(places: Places) -> None:
    Path(places.container(_IDENT), "container.json").write_bytes(b"half")

    assert list(Records(places).all()) == []
    assert os.listdir(places.containers) == [_IDENT]


def test_what_cannot_be_written_says_so_and_leaves_what_was(places: Places) -> None:
    records = Records(places)
    records.write(container())
    Path(places.container(_IDENT), "container.json.new").mkdir()

    with pytest.raises(CnmError, match=r"cannot write .*/container\.json: is a directory"):
        records.write(msgspec.structs.replace(container(), name="two"))

    assert [each.name for each in records.all()] == ["one"]
