"""A service manager listens for cnmd: what is asked before it runs is answered, and its sockets outlive it."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.activated import SocketUnit
from tests.support.cnmd import Cnmd, clear
from tests.unit.api_served import answer

_PATIENCE = 20.0
_SOCKETS = ("run/cnm.sock", "plugins/cnm.sock")


class _Activated:
    """cnmd and the sockets that are made for it."""

    def __init__(
        self, place: Path, config: str = "", process: str = "", handed: tuple[str, ...] = _SOCKETS
    ) -> None:
        self.control, self.plugin = (str(place / name) for name in _SOCKETS)
        self.unit = SocketUnit([str(place / name) for name in handed], process)
        self.cnmd = Cnmd(place, self.unit.popen, config)

    def dial(self, path: str) -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(_PATIENCE)
        client.connect(path)
        return client


@pytest.fixture
def activated(tmp_path: Path) -> Iterator[_Activated]:
    made = _Activated(tmp_path)
    yield made
    _end(made)


def _end(made: _Activated) -> None:
    if made.cnmd.process and made.cnmd.process.poll() is None:
        clear(made.cnmd)
    made.cnmd.kill()
    made.unit.close()


def _send(client: socket.socket, method: str, path: str) -> None:
    client.sendall(f"{method} {path} HTTP/1.1\r\nHost: cnm\r\nContent-Length: 0\r\n\r\n".encode())


def _answered(client: socket.socket) -> Any:
    status, body = answer(client)
    assert status == 200
    return json.loads(body) if body.startswith(b"{") else body


def test_what_was_asked_before_it_ran_is_answered(activated: _Activated) -> None:
    with activated.dial(activated.plugin) as dockerd, activated.dial(activated.control) as user:
        _send(dockerd, "POST", "/Plugin.Activate")
        _send(user, "GET", "/_ping")

        activated.cnmd.start()

        assert _answered(dockerd) == {"Implements": ["NetworkDriver", "IpamDriver"]}
        assert _answered(user) == b"OK"


def test_the_sockets_outlive_it_and_the_next_one_answers_what_came_between(activated: _Activated) -> None:
    activated.cnmd.start()
    inode = os.stat(activated.plugin).st_ino

    assert activated.cnmd.stop() == 0

    assert os.stat(activated.plugin).st_ino == inode
    with activated.dial(activated.plugin) as dockerd:
        _send(dockerd, "POST", "/NetworkDriver.GetCapabilities")
        activated.cnmd.start()
        assert _answered(dockerd)["Scope"] == "local"


def test_a_socket_that_is_not_handed_over_is_made_and_removed_again(tmp_path: Path) -> None:
    """A socket unit of an earlier version lacks what this one serves."""
    made = _Activated(tmp_path, handed=_SOCKETS[:1])
    try:
        made.cnmd.start()
        with made.dial(made.plugin) as dockerd:
            _send(dockerd, "POST", "/Plugin.Activate")
            assert "NetworkDriver" in _answered(dockerd)["Implements"]

        made.cnmd.stop()

        assert not os.path.exists(made.plugin)
    finally:
        _end(made)


def test_nothing_of_it_is_passed_on_to_what_cnmd_starts(activated: _Activated) -> None:
    activated.cnmd.start()
    assert activated.cnmd.process is not None

    described = Path(f"/proc/{activated.cnmd.process.pid}/fdinfo/3").read_text()

    (flags,) = [line.split()[1] for line in described.splitlines() if line.startswith("flags:")]
    assert int(flags, 8) & os.O_CLOEXEC


def test_sockets_of_another_process_are_not_taken(tmp_path: Path) -> None:
    made = _Activated(tmp_path, process="1", handed=_SOCKETS[1:])
    try:
        with pytest.raises(RuntimeError, match=r"another daemon is listening on .*/plugins/cnm\.sock"):
            made.cnmd.start()
    finally:
        _end(made)


def test_a_socket_that_nothing_is_served_on_refuses_instead_of_waiting(tmp_path: Path) -> None:
    made = _Activated(tmp_path, config="plugins = false\n")
    try:
        made.cnmd.start()

        with pytest.raises(ConnectionRefusedError):
            made.dial(made.plugin)
        assert f"nothing is served on {made.plugin}, which was handed over" in made.cnmd.log
    finally:
        _end(made)


@pytest.mark.skipif(
    not shutil.which("systemd-socket-activate"), reason="systemd-socket-activate is not installed"
)
def test_systemds_own_activation_works(tmp_path: Path) -> None:
    path = str(tmp_path / "run/cnm.sock")
    (tmp_path / "run").mkdir()
    daemon = Cnmd(tmp_path, lambda command, **options: _by_systemd(path, command, **options))
    daemon.start()
    try:
        assert daemon.request("GET", "/_ping")[0] == 200
        assert daemon.stop() == 0
        assert os.path.exists(path)
    finally:
        daemon.kill()


def _by_systemd(path: str, command: list[str], **options: Any) -> subprocess.Popen[Any]:
    return subprocess.Popen(["systemd-socket-activate", "--listen", path, *command], **options)
