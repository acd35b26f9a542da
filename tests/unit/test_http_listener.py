"""Whose socket it is: stale files are replaced, living daemons are not."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from cnm.errors import Conflict, InvalidParameter
from cnm.http import listener


def test_a_file_that_nobody_listens_on_is_replaced(tmp_path: Path) -> None:
    path = str(tmp_path / "cnm.sock")
    listener.listen(path).close()

    with listener.listen(path), socket.socket(socket.AF_UNIX) as client:
        client.connect(path)


def test_a_living_daemons_socket_is_left_alone(tmp_path: Path) -> None:
    path = str(tmp_path / "cnm.sock")
    with listener.listen(path), socket.socket(socket.AF_UNIX) as client:
        with pytest.raises(Conflict, match=f"another daemon is listening on {path}"):
            listener.listen(path)

        client.connect(path)


def test_a_daemon_whose_queue_is_full_counts_as_living(tmp_path: Path) -> None:
    path = str(tmp_path / "cnm.sock")
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as first:
        busy.bind(path)
        busy.listen(0)
        first.connect(path)

        with pytest.raises(Conflict):
            listener.listen(path)


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "cnm.sock"
    path.write_text("mine")

    with pytest.raises(InvalidParameter, match="no socket is there: remove it"):
        listener.listen(str(path))

    assert path.read_text() == "mine"


@pytest.mark.parametrize(
    ("folder", "reason"), [("missing", "no such file or directory"), ("x" * 120, "107 bytes")]
)
def test_a_place_where_no_socket_can_be_is_named(tmp_path: Path, folder: str, reason: str) -> None:
    if len(folder) > 100:
        (tmp_path / folder).mkdir()

    with pytest.raises(InvalidParameter, match=reason):
        listener.listen(str(tmp_path / folder / "cnm.sock"))


def test_removing_leaves_a_successors_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "cnm.sock")
    old = listener.listen(path)
    os.unlink(path)
    with listener.listen(path):
        listener.remove(path, old)

        assert os.path.exists(path)
