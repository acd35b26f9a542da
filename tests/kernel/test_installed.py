"""What `packaging/install` put there runs as its units say: their sockets, their program, and cnmctl without a flag."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.activated import SocketUnit

_INSTALL = Path(__file__).parents[2] / "packaging/install"
_VENV = Path(sys.prefix)

pytestmark = pytest.mark.skipif(
    not (_VENV / "bin/cnmd").exists(), reason="cnmd is not installed in this environment"
)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A root directory for /etc and /usr/local; /run is the test's own."""
    environment = {**os.environ, "DESTDIR": str(tmp_path), "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    subprocess.run([_INSTALL, "--venv", _VENV], env=environment, check=True)
    return tmp_path


def _said(unit: Path, key: str) -> list[str]:
    lines = unit.read_text().splitlines()
    return [line.removeprefix(f"{key}=") for line in lines if line.startswith(f"{key}=")]


@contextlib.contextmanager
def _started(installed: Path) -> Iterator[None]:
    units = installed / "etc/systemd/system"
    (program,) = _said(units / "cnmd.service", "ExecStart")
    sockets = SocketUnit(_said(units / "cnmd.socket", "ListenStream"))
    (installed / "config.toml").write_text('docker-host = ""\n')
    state = ["--root", str(installed / "state"), "--config", str(installed / "config.toml")]
    process = sockets.popen([f"{installed}{program}", *state])
    try:
        yield
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert all(os.path.exists(listener.getsockname()) for listener in sockets.sockets)
    finally:
        process.kill()
        process.wait()
        sockets.close()


def _cnmctl(installed: Path, *arguments: str) -> str:
    command = [str(installed / "usr/local/bin/cnmctl"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout


def test_the_installed_daemon_serves_the_installed_command_line(installed: Path) -> None:
    with _started(installed):
        listed = _cnmctl(installed, "network", "ls", "--format", "{{.Name}}")

        assert listed.split() == ["bridge", "host", "none"]
        _cnmctl(installed, "network", "create", "web")
        _cnmctl(installed, "network", "rm", "web")
