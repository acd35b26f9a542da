"""What both daemons do alike as processes."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cnm import daemon_process
from cnm.config import Settings
from cnm.errors import CnmError, InvalidParameter


@pytest.fixture
def handlers() -> Iterator[None]:
    """Those of pytest are back afterwards."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def _options(*arguments: str) -> argparse.Namespace:
    parser = daemon_process.parser("daemon", "One.", root="its root", run="its sockets")
    parser.add_argument("--check", action="store_true")
    return parser.parse_args(arguments)


def test_flags_that_are_settings_are_over_the_files(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('root = "/file"\nrun = "/file"\n')

    settings = daemon_process.read_settings(_options("--config", str(file), "--root", "/flag", "--check"))

    assert (settings.root, settings.run) == ("/flag", "/file")


def test_a_file_that_was_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidParameter, match="absent"):
        daemon_process.read_settings(_options("--config", str(tmp_path / "absent")))


def test_an_error_is_a_line_and_an_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> int:
        raise CnmError("it is so")

    assert daemon_process.exit_code("daemon", fail) == CnmError.exit_code
    assert capsys.readouterr().err == "daemon: it is so\n"
    assert daemon_process.exit_code("daemon", lambda: 0) == 0


def test_it_serves_root_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    with pytest.raises(CnmError, match="it needs root: run it with sudo"):
        daemon_process.start(Settings(), lambda _settings: 0)


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_and_the_service_manager_hears(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = threading.Event()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(20)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        daemon_process.stop_on_signals(logging.getLogger("cnm"), stopped.set)

        signal.raise_signal(number)

        assert stopped.wait(20)
        assert manager.recv(64) == b"STOPPING=1"


@pytest.mark.usefixtures("handlers")
def test_a_signal_stops_it_where_the_service_manager_has_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stopped = threading.Event()
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    daemon_process.stop_on_signals(logging.getLogger("cnm"), stopped.set)

    signal.raise_signal(signal.SIGTERM)

    assert stopped.wait(20)
    assert f"cannot tell the service manager at {tmp_path}/gone STOPPING=1: No such file" in caplog.text
