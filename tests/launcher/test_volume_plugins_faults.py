"""Volume plugins that are away, hang, or answer nonsense: the docker CLI hears of it, and the next try works."""

from __future__ import annotations

import json
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cnm.kernel.processes import has_ended
from tests.docker.test_cli_containers import Cli
from tests.support import launcher as lab
from tests.support.launcher import IMAGE, Launcher
from tests.support.launcher_left import left
from tests.support.scripted_plugin import Reply, answer
from tests.support.scripted_volumes import ScriptedVolumes, scripted_volumes
from tests.support.unpacked import lacking

_PLUGINS = Path("/run/docker/plugins")
"""Private to the test process, and where the launcher looks."""
_SLEEP = ("sleep", "1000")
_LATE = Reply(delay=3.0)
"""After more than Mount, which has the longest, may take."""


@pytest.fixture(scope="module")
def impatient() -> Iterator[Launcher]:
    """A launcher that gives plugins a second."""
    if reason := lacking(*lab.PROGRAMS):
        pytest.skip(reason)
    with (
        tempfile.TemporaryDirectory(prefix="cnm", dir="/tmp") as folder,
        lab.running(Path(folder)) as launcher,
    ):
        launcher.settings = "remote-plugin-timeout = 1.0"
        launcher.stop()
        launcher.start()
        yield launcher


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[ScriptedVolumes]:
    with scripted_volumes(_PLUGINS / "scripted.sock", tmp_path / "kept") as made:
        yield made


@pytest.fixture
def docker(impatient: Launcher, plugin: ScriptedVolumes) -> Iterator[Launcher]:
    """With a volume vol of the plugin's; nothing is left in the end, with the plugin neither."""
    impatient.docker("volume", "create", "-d", "scripted", "vol")
    yield impatient
    impatient.clear()
    impatient.docker("volume", "rm", *impatient.docker("volume", "ls", "-q").split())
    assert (plugin.mounts, plugin.volumes, left(impatient)) == ([], {}, [])


def _works(docker: Launcher) -> bool:
    return docker.docker("run", "--rm", "-v", "vol:/d", IMAGE, "echo", "works") == "works"


def _status(docker: Launcher) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(docker.docker("volume", "inspect", "-f", "{{json .Status}}", "vol"))
    return found


# Away


def test_a_plugin_that_is_away_is_named_and_used_again_when_it_is_back(
    docker: Launcher, plugin: ScriptedVolumes
) -> None:
    cnmctl = Cli(docker, docker.cnmd.socket)
    docker.docker("create", "--name", "one", "-v", "vol:/d", IMAGE)
    plugin.stop()

    _, text = docker.fails("start", "one")
    assert "error while mounting volume 'vol': plugin scripted: VolumeDriver.Mount: cannot be reached" in text
    assert "is the plugin running?" in text
    assert docker.docker("volume", "ls", "-q") == "vol"
    code, out, err = cnmctl.said("volume", "ls", "-q")
    assert (code, out) == (0, "vol\n")
    assert err == (
        "WARNING: plugin scripted is not there, or does not answer: its volumes are listed as they were made\n"
    )
    assert "plugin scripted: VolumeDriver.Get: cannot be reached" in _status(docker)["Error"]
    docker.docker("rm", "one")
    _, text = docker.fails("volume", "rm", "vol")
    assert "remove vol: error while unmounting volume 'vol': plugin scripted: VolumeDriver.Unmount: " in text

    plugin.start()
    assert _works(docker)
    assert "Error" not in _status(docker)
    assert cnmctl.said("volume", "ls", "-q") == (0, "vol\n", "")


def test_a_container_is_removed_while_its_plugin_is_away_which_is_told_later(
    docker: Launcher, plugin: ScriptedVolumes
) -> None:
    ident = docker.docker("run", "-d", "--name", "one", "-v", "vol:/d", IMAGE, *_SLEEP)
    plugin.stop()
    docker.docker("rm", "-f", "one")
    assert plugin.mounts == [("vol", ident)]

    docker.kill()
    plugin.start()
    docker.start()

    assert plugin.mounts == []
    assert _works(docker)


def test_a_volume_of_a_plugin_that_is_gone_is_forgotten_by_force(
    docker: Launcher, plugin: ScriptedVolumes
) -> None:
    plugin.stop()

    docker.docker("volume", "rm", "-f", "vol")

    assert docker.docker("volume", "ls", "-q") == ""
    plugin.start()
    assert docker.docker("volume", "ls", "-q") == "vol"  # it is the plugin that has it


# Slow


def test_a_mount_that_hangs_is_given_up_and_unmounted(docker: Launcher, plugin: ScriptedVolumes) -> None:
    docker.docker("create", "--name", "one", "-v", "vol:/d:nocopy", IMAGE)
    plugin.script("VolumeDriver.Mount", _LATE)

    _, text = docker.fails("start", "one")

    assert (
        "error while mounting volume 'vol': plugin scripted: VolumeDriver.Mount: no answer within 2 s" in text
    )
    assert plugin.methods()[-1] == "Unmount"
    docker.docker("start", "one")


def test_a_container_whose_plugin_hangs_is_stopped_and_removed(
    docker: Launcher, plugin: ScriptedVolumes
) -> None:
    docker.docker("run", "-d", "--name", "one", "-v", "vol:/d", IMAGE, *_SLEEP)
    plugin.script("VolumeDriver.Unmount", _LATE, _LATE)

    docker.docker("rm", "-f", "one")

    assert docker.docker("ps", "-aq") == ""
    docker.kill()
    docker.start()
    assert plugin.mounts == []


def test_a_plugin_that_hangs_is_asked_once_for_all_volumes(docker: Launcher, plugin: ScriptedVolumes) -> None:
    cnmctl = Cli(docker, docker.cnmd.socket)
    for number in range(5):
        docker.docker("volume", "create", "-d", "scripted", f"vol{number}")
    before = len(plugin.calls)
    plugin.script("VolumeDriver.List", _LATE)

    code, out, err = cnmctl.said("volume", "df")

    assert plugin.methods()[before:] == ["List"]
    assert (code, err) == (
        0,
        "WARNING: plugin scripted: VolumeDriver.List: no answer within 1 s: see the plugin's log\n",
    )
    rows = [line.split() for line in out.splitlines()]
    assert ["vol4", "scripted", "nobody", "never", "N/A", "N/A"] in rows
    assert len(rows) == 1 + 6 + 2


def test_a_launcher_starts_beside_a_plugin_that_hangs(docker: Launcher, plugin: ScriptedVolumes) -> None:
    docker.docker("run", "-d", "--name", "one", "-v", "vol:/d", IMAGE, *_SLEEP)
    docker.docker("run", "-d", "--name", "two", "-v", "vol:/d", IMAGE, *_SLEEP)
    pid = int(docker.docker("inspect", "-f", "{{.State.Pid}}", "two"))
    plugin.script("Plugin.Activate", _LATE, _LATE)
    docker.kill()
    os.kill(pid, signal.SIGKILL)
    assert has_ended(pid, 20)

    docker.start()

    assert docker.docker("ps", "--format", "{{.Names}}") == "one"
    assert docker.docker("volume", "ls", "-q") == "vol"
    docker.docker("exec", "one", "touch", "/d/file")
    docker.docker("rm", "-f", "one", "two")
    docker.kill()
    docker.start()
    assert plugin.mounts == []


# Nonsense


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (answer(Mountpoint="", Err=""), "the answer names no mount point"),
        (answer(Mountpoint="/", Err=""), "'/' is no mount point"),
        (answer(Mountpoint="kept/vol", Err=""), "'kept/vol' is no mount point"),
        (answer(Mountpoint="/nosuch", Err=""), "the mount point /nosuch is no directory of this host"),
        (answer(Mountpoint=7, Err=""), "the answer cannot be read"),
        (Reply(b"<html>"), "the answer cannot be read: invalid JSON"),
        (Reply(b"<html>", status=502), "<html>"),
        (Reply(b'{"Mountpoint": "/', hang_up="midway"), "the answer breaks off"),
    ],
)
def test_a_mount_that_is_none_is_refused(
    docker: Launcher, plugin: ScriptedVolumes, reply: Reply, words: str
) -> None:
    plugin.script("VolumeDriver.Mount", reply)

    _, text = docker.fails("run", "--name", "one", "-v", "vol:/d:nocopy", IMAGE)

    assert "error while mounting volume 'vol': VolumeDriver.Mount: " in text
    assert words in text
    assert plugin.methods()[-1] == "Unmount"
    assert json.loads(docker.docker("volume", "inspect", "vol"))[0]["Status"]["MountedBy"] == []
    docker.docker("start", "-a", "one")


@pytest.mark.parametrize("reply", [Reply(b"<html>"), answer(Volumes="all", Err=""), Reply(b"[]", status=500)])
def test_a_list_that_is_none_hides_no_volume(docker: Launcher, plugin: ScriptedVolumes, reply: Reply) -> None:
    docker.docker("volume", "create", "mine")
    plugin.script("VolumeDriver.List", reply, reply)

    assert docker.docker("volume", "ls", "-q").split() == ["mine", "vol"]
    code, out, err = Cli(docker, docker.cnmd.socket).said("volume", "ls", "-q")

    assert (code, out) == (0, "mine\nvol\n")
    assert err.startswith("WARNING: plugin scripted: VolumeDriver.List: ")
