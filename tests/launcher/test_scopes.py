"""Scopes of systemd for containers' monitors, over a real D-Bus: a stand-in says what it was asked for."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cnm.launcher.scopes import Scopes
from netns_fixtures import Topology
from tests.support.launcher import Launcher
from tests.support.recording_systemd import RecordingSystemd, recording_systemd
from tests.support.resolved import running_bus
from tests.support.unpacked import lacking

pytestmark = pytest.mark.skipif(bool(lacking("dbus-daemon")), reason=lacking("dbus-daemon"))

_IDENT = "0123456789ab" + "c" * 52
_BOOTED = Path("/run/systemd/system")


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[RecordingSystemd]:
    """In this process' own /run."""
    _BOOTED.mkdir(parents=True)
    with (
        Topology({"hosts": {"bus": {}}}) as topology,
        running_bus(topology.hosts["bus"], tmp_path),
        recording_systemd() as recording,
    ):
        yield recording
    _BOOTED.rmdir()


def place(pid: int = 77) -> None:
    placed = Scopes().placed(_IDENT, "one")
    assert placed is not None
    placed(pid)


def test_a_monitor_is_put_into_a_scope_of_its_own(systemd: RecordingSystemd) -> None:
    place()

    ((unit, properties),) = systemd.units
    assert unit == "cnm-0123456789ab-77.scope"
    assert properties == {
        "Description": "Monitor of container one",
        "PIDs": [77],
        "CollectMode": "inactive-or-failed",
        "DefaultDependencies": False,
        "KillSignal": 13,
    }


def test_the_monitor_waits_until_it_is_there(systemd: RecordingSystemd) -> None:
    """What it has started before would stay where it was."""
    systemd.may_finish.clear()
    placing = threading.Thread(target=place)
    placing.start()
    assert systemd.asked.wait(10)

    placing.join(0.2)
    assert placing.is_alive()

    systemd.may_finish.set()
    placing.join(10)
    assert not placing.is_alive()


@pytest.mark.parametrize("how", ["refused", "failed", "away"])
def test_a_container_without_a_scope_runs_and_the_log_tells(
    systemd: RecordingSystemd, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    systemd.refusal = "org.freedesktop.DBus.Error.AccessDenied" if how == "refused" else ""
    systemd.result = "failed"
    if how == "away":
        Path("/run/dbus/system_bus_socket").unlink()

    with caplog.at_level(logging.WARNING, "cnm.launcher"):
        place()

    assert "container 0123456789ab: its monitor stays in the launcher's unit" in caplog.text


def test_without_systemd_nothing_is_asked(tmp_path: Path) -> None:
    assert Scopes(str(tmp_path / "nosuch")).placed(_IDENT, "one") is None


def test_the_launcher_places_each_life_of_a_container(docker: Launcher, systemd: RecordingSystemd) -> None:
    docker.docker("run", "-d", "--name", "one", "busybox", "sleep", "1000")
    docker.docker("restart", "-t", "0", "one")

    (first, asked), (second, _) = systemd.units
    ident = json.loads(docker.docker("inspect", "one"))[0]["Id"]
    assert first.startswith(f"cnm-{ident[:12]}-")
    assert first != second
    assert asked["Description"] == "Monitor of container one"
