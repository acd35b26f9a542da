"""A real systemd-resolved and the D-Bus that it is told over, unpacked by `make setup`, in the caller's own /run."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from netns_fixtures import Host, is_isolated
from tests.support.private_etc import make_private
from tests.support.unpacked import environment, program

PROGRAMS = ("systemd-resolved", "dbus-daemon", "resolvectl")
STUB = "127.0.0.53"
"""Where resolved answers the host's programs."""
_START_SECONDS = 20.0

_USER, _ID = "systemd-resolve", 995
_BUS = Path("/run/dbus/system_bus_socket")
_STATE = Path("/run/systemd")
_SETTINGS = "[Resolve]\nDNS={servers}\nFallbackDNS=\nLLMNR=no\nMulticastDNS=no\n"
_BUS_CONFIG = f"""\
<busconfig>
  <type>system</type>
  <listen>unix:path={_BUS}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <allow own="*"/>
    <allow send_destination="*"/>
    <allow receive_sender="*"/>
  </policy>
</busconfig>
"""


class Resolved:
    """On a host of the test; `servers` are those that it asks for what no link is for."""

    def __init__(self, host: Host, log: Path, servers: Sequence[str]) -> None:
        self._host = host
        self._log = log
        self._servers = servers
        self._process: subprocess.Popen[Any] | None = None

    def start(self) -> None:
        """Returns when it answers. Raises RuntimeError with its log if it ends instead."""
        settings = _STATE / "resolved.conf.d" / "test.conf"
        settings.parent.mkdir(parents=True, exist_ok=True)
        settings.write_text(_SETTINGS.format(servers=" ".join(self._servers)))
        own = _STATE / "resolve"
        own.mkdir(exist_ok=True)
        user = pwd.getpwnam(_USER)
        os.chown(own, user.pw_uid, user.pw_gid)
        self._process = _started(self._host, [str(program("systemd-resolved"))], self._log)
        _await(self._process, self._answers, self._log)

    def stop(self) -> None:
        """What it knows of links stays in /run, as under systemd."""
        if self._process is not None:
            _end(self._process)
            self._process = None

    def forget(self) -> None:
        """What it keeps of links while it does not run, as at a boot."""
        shutil.rmtree(_STATE / "resolve" / "netif", ignore_errors=True)

    def let_networkd_manage(self, link: str) -> None:
        """Stands in for systemd-networkd, which says so there."""
        index = self._host.run(["cat", f"/sys/class/net/{link}/ifindex"], sysfs=True).stdout.strip()
        said = _STATE / "netif" / "links" / index
        said.parent.mkdir(parents=True, exist_ok=True)
        said.write_text("ADMIN_STATE=configured\nOPER_STATE=routable\n")
        self.stop()
        self.forget()
        self.start()

    def resolvectl(self, *arguments: str) -> str:
        """What it prints, stripped."""
        return self._host.run([str(program("resolvectl")), *arguments], env=environment()).stdout.strip()

    def _answers(self) -> bool:
        with self._host.socket() as client:
            client.settimeout(1)
            return client.connect_ex((STUB, 53)) == 0 and self._is_on_the_bus()

    def _is_on_the_bus(self) -> bool:
        done = self._host.run([str(program("resolvectl")), "status"], env=environment(), check=False)
        return done.returncode == 0


@contextlib.contextmanager
def running_resolved(host: Host, place: Path, *servers: str) -> Iterator[Resolved]:
    """With a bus of its own, both gone at the end. Logs are below `place`."""
    if not is_isolated():
        raise RuntimeError("/run would be everybody's: isolate the process first")
    make_private()
    _make_user()
    with running_bus(host, place):
        resolved = Resolved(host, place / "resolved.log", servers)
        try:
            resolved.start()
            yield resolved
        finally:
            resolved.stop()
            shutil.rmtree(_STATE)


@contextlib.contextmanager
def running_bus(host: Host, place: Path) -> Iterator[None]:
    """A system bus for everybody, on the caller's own /run. Its log is below `place`."""
    config = place / "bus.conf"
    config.write_text(_BUS_CONFIG)
    _BUS.parent.mkdir()
    command = [str(program("dbus-daemon")), f"--config-file={config}", "--nofork", "--nopidfile"]
    process = _started(host, command, place / "bus.log")
    try:
        _await(process, _bus_answers, place / "bus.log")
        yield
    finally:
        _end(process)
        shutil.rmtree(_BUS.parent)


def _bus_answers() -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(_BUS)) == 0


def _make_user() -> None:
    """Whom resolved becomes: sysusers.d would have made it."""
    with contextlib.suppress(KeyError):
        pwd.getpwnam(_USER)
        return
    for path, line in (
        ("/etc/passwd", f"{_USER}:x:{_ID}:{_ID}::/:/usr/sbin/nologin"),
        ("/etc/group", f"{_USER}:x:{_ID}:"),
    ):
        with open(path, "a", encoding="utf-8") as file:
            file.write(f"{line}\n")


def _started(host: Host, command: Sequence[str], log: Path) -> subprocess.Popen[Any]:
    with log.open("ab") as output:
        return host.popen(command, env=environment(), stdin=subprocess.DEVNULL, stdout=output, stderr=output)


def _end(process: subprocess.Popen[Any]) -> None:
    process.terminate()
    process.wait(10)


def _await(process: subprocess.Popen[Any], condition: Callable[[], bool], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"it did not start:\n{log.read_text()}")
        time.sleep(0.02)
