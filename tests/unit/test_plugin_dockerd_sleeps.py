"""A dockerd that somebody stopped stays so: where a service manager listens in its place, it is not asked."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cnm.errors import Unavailable
from cnm.plugin import dockerd_api
from cnm.plugin.dockerd_api import DockerdApi


@pytest.fixture
def listener(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """What this process holds for a dockerd, as a service manager does."""
    monkeypatch.setattr(dockerd_api, "_MANAGER", os.getpid())
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tmp_path / "docker.sock"))
        made.listen()
        yield made


@contextmanager
def _dockerd(place: Path, listener: socket.socket) -> Iterator[None]:
    """A process of that name that holds the socket, too."""
    program = shutil.copy(shutil.which("sleep") or "", place / "dockerd")
    process = subprocess.Popen([program, "100"], pass_fds=[listener.fileno()])
    comm = Path(f"/proc/{process.pid}/comm")
    while comm.read_text().strip() != "dockerd":
        time.sleep(0.01)
    yield
    process.kill()
    process.wait()


def test_a_dockerd_that_does_not_run_is_not_woken(tmp_path: Path, listener: socket.socket) -> None:
    with pytest.raises(Unavailable, match="no dockerd runs behind"):
        DockerdApi(f"unix://{tmp_path}/docker.sock").version()

    listener.setblocking(False)
    with pytest.raises(BlockingIOError):
        listener.accept()


def test_a_dockerd_that_runs_behind_the_managers_socket_is_asked(
    tmp_path: Path, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dockerd_api, "_SECONDS", 0.2)

    with _dockerd(tmp_path, listener), pytest.raises(Unavailable, match="does not answer: timed out"):
        DockerdApi(f"unix://{tmp_path}/docker.sock").version()


def test_a_dockerd_that_listens_itself_is_asked(
    tmp_path: Path, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dockerd_api, "_SECONDS", 0.2)
    monkeypatch.setattr(dockerd_api, "_MANAGER", os.getppid())

    with pytest.raises(Unavailable, match="does not answer: timed out"):
        DockerdApi(f"unix://{tmp_path}/docker.sock").version()
