"""Containers have volumes of plugins, with the docker CLI: used, shown, let go of, through ends and kills."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cnm.kernel.namespaces import Namespaces
from cnm.kernel.processes import has_ended
from tests.docker.test_cli_containers import Cli
from tests.support.certificates import Authority
from tests.support.easyfuse import easyfuse, easyfuse_is_lacking
from tests.support.launcher import IMAGE, Launcher
from tests.support.power_cut import cut_power, switched_on
from tests.support.private_etc import make_private
from tests.support.scripted_plugin import TcpServer
from tests.support.scripted_volumes import scripted_volumes
from tests.support.snapshot_plugin import NAME, SnapshotPlugin

_PLUGINS = "/run/docker/plugins"
"""Private to the test process, and where the launcher looks."""
_SLEEP = ("sleep", "1000")


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SnapshotPlugin]:
    made = SnapshotPlugin(tmp_path_factory.mktemp("plugin"), _PLUGINS)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def docker(launcher: Launcher, plugin: SnapshotPlugin) -> Iterator[Launcher]:
    """With a volume vol of the plugin's, and without containers and volumes before and after."""
    launcher.docker("volume", "create", "-d", NAME, "vol")
    yield launcher
    launcher.clear()
    launcher.docker("volume", "rm", *launcher.docker("volume", "ls", "-q").split())


def inspected(docker: Launcher, name: str = "vol") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(docker.docker("volume", "inspect", name))[0]
    return found


def users(plugin: SnapshotPlugin) -> list[str]:
    """As the plugin knows them."""
    return [user for volume in json.loads(plugin.say("ls", "--json")) for user in volume["Users"]]


def sh(docker: Launcher, script: str, place: str = "/d") -> str:
    return docker.docker("run", "--rm", "-v", f"vol:{place}", IMAGE, "sh", "-c", script)


def test_a_volume_of_a_plugin_is_shown_and_removed(docker: Launcher, plugin: SnapshotPlugin) -> None:
    assert docker.docker("volume", "ls", "--format", "{{.Driver}} {{.Name}}") == f"{NAME} vol"

    shown = inspected(docker)
    assert (shown["Driver"], shown["Scope"]) == (NAME, "local")
    assert shown["Mountpoint"] == str(plugin.root / "volumes/vol/data")
    docker.docker("volume", "rm", "vol")
    assert plugin.say("ls", "--json").strip() == "[]"
    docker.docker("volume", "create", "-d", NAME, "vol")


def test_info_names_the_plugin(docker: Launcher, plugin: SnapshotPlugin) -> None:
    assert json.loads(docker.docker("info", "--format", "{{json .Plugins.Volume}}")) == ["local", NAME]


def test_df_shows_who_has_a_volume_whose_size_is_not_told(docker: Launcher, plugin: SnapshotPlugin) -> None:
    cnmctl = Cli(docker, docker.cnmd.socket)
    docker.docker("run", "-d", "--name", "user", "-v", "vol:/d", IMAGE, *_SLEEP)

    assert cnmctl.said("volume", "df")[1].splitlines()[1].split() == [
        "vol",
        NAME,
        "user",
        "now",
        "N/A",
        "N/A",
    ]


def test_what_one_container_writes_the_next_reads(docker: Launcher, plugin: SnapshotPlugin) -> None:
    sh(docker, "echo kept >/d/f")

    assert sh(docker, "cat /d/f") == "kept"
    assert users(plugin) == []


def test_the_plugin_knows_who_has_the_volume(docker: Launcher, plugin: SnapshotPlugin) -> None:
    one = docker.docker("run", "-d", "-v", "vol:/d", IMAGE, *_SLEEP)
    two = docker.docker("run", "-d", "--volumes-from", one, IMAGE, *_SLEEP)
    assert sorted(users(plugin)) == sorted([one, two])
    docker.docker("exec", one, "sh", "-c", "echo shared >/d/f")
    assert docker.docker("exec", two, "cat", "/d/f") == "shared"

    docker.docker("rm", "-f", one)

    assert users(plugin) == [two]
    docker.docker("kill", two)
    docker.docker("wait", two)
    docker.docker("rm", two)
    assert users(plugin) == []


def test_a_volume_is_put_back_as_it_was(docker: Launcher, plugin: SnapshotPlugin) -> None:
    sh(docker, "echo old >/d/f")
    plugin.say("point", "create", "vol", "p")
    sh(docker, "echo new >/d/f")

    plugin.say("point", "restore", "vol", "p")

    assert sh(docker, "cat /d/f") == "old"
    assert "restore points (p)" in docker.fails("volume", "rm", "vol")[1]
    plugin.say("point", "rm", "vol", "p")


def test_files_are_copied_into_the_volume_of_a_container(
    docker: Launcher, plugin: SnapshotPlugin, tmp_path: Path
) -> None:
    container = docker.docker("run", "-d", "-v", "vol:/d", IMAGE, *_SLEEP)
    (tmp_path / "f").write_text("from outside")

    docker.docker("cp", str(tmp_path / "f"), f"{container}:/d/f")

    assert docker.docker("exec", container, "cat", "/d/f") == "from outside"
    assert users(plugin) == [container]


def test_what_the_plugin_refuses_is_said(docker: Launcher, plugin: SnapshotPlugin) -> None:
    said = docker.fails("volume", "create", "-d", NAME, "-o", "size=1", "other")[1]
    assert said.startswith(
        "Error response from daemon: create other: VolumeDriver.Create: unknown option 'size'"
    )

    said = docker.fails("volume", "create", "-d", "nope", "other")[1]
    assert said == (
        'Error response from daemon: create other: error looking up volume plugin nope: plugin "nope" not found'
    )


def test_a_volume_whose_record_is_damaged_goes_by_force(docker: Launcher, plugin: SnapshotPlugin) -> None:
    sh(docker, "echo kept >/d/file")
    folder = plugin.root / "volumes/vol"
    (folder / "record.json").write_text("{")
    assert "record.json cannot be read" in inspected(docker)["Status"]["Error"]

    said = docker.fails("volume", "rm", "vol")[1]

    assert said.startswith("Error response from daemon: remove vol: VolumeDriver.Remove: volume vol: ")
    assert said.endswith("or remove the volume with cnm-volume-snapshots rm --force vol")
    docker.docker("volume", "prune", "-f")
    assert (folder / "data/file").read_text() == "kept\n"
    docker.docker("volume", "rm", "-f", "vol")
    assert docker.docker("volume", "ls", "-q") == ""
    assert not folder.exists()
    docker.docker("volume", "create", "-d", NAME, "vol")
    assert sh(docker, "ls /d") == ""


def test_a_mount_that_fails_leaves_no_user(docker: Launcher, plugin: SnapshotPlugin) -> None:
    container = docker.docker("create", "-v", "vol:/d", IMAGE, *_SLEEP)
    data = plugin.root / "volumes/vol/data"
    data.rename(data.parent / "away")

    said = docker.fails("start", container)[1]

    assert "error while mounting volume 'vol': VolumeDriver.Mount: " in said
    assert "is no directory of this host" in said
    (data.parent / "away").rename(data)
    assert users(plugin) == []
    docker.docker("start", container)
    assert users(plugin) == [container]


def test_a_prune_leaves_the_volume(docker: Launcher) -> None:
    docker.docker("volume", "prune", "-f")

    assert docker.docker("volume", "ls", "-q") == "vol"


# Found by files


@pytest.fixture
def specs(docker: Launcher) -> Iterator[Path]:
    """Where files say where plugins are."""
    make_private()
    place = Path("/etc/docker/plugins")
    place.mkdir(parents=True, exist_ok=True)
    yield place
    shutil.rmtree(place)


@pytest.mark.parametrize("ending", ["spec", "json"])
def test_a_plugin_that_a_file_names_is_used(
    docker: Launcher, specs: Path, tmp_path: Path, ending: str
) -> None:
    """Over TCP, with TLS where it is a .json file: on the host of the launcher."""
    assert docker.process is not None
    tls = _tls(tmp_path) if ending == "json" else None
    with (
        scripted_volumes(tmp_path / "x.sock", tmp_path / "kept") as far,
        contextlib.closing(Namespaces()) as namespaces,
    ):
        with namespaces.inside(f"/proc/{docker.process.pid}/ns/net"):
            server = TcpServer(far, tls)
        with server.serving():
            trust = {"Addr": f"https://{server.address}", "TLSConfig": {"CAFile": str(tmp_path / "ca.pem")}}
            text = json.dumps(trust) if tls else f"tcp://{server.address}"
            (specs / f"by-{ending}.{ending}").write_text(text)
            docker.docker("volume", "create", "-d", f"by-{ending}", "far")

            assert (
                docker.docker("run", "--rm", "-v", "far:/data", IMAGE, "cat", "/data/file") == "of the image"
            )

            assert (far.volumes["far"] / "file").read_text() == "of the image\n"
            assert far.mounts == []
            docker.docker("volume", "rm", "far")


def _tls(place: Path) -> ssl.SSLContext:
    ours = Authority(place).certify("server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(ours.cert, ours.key)
    return context


# Ends, kills, power cuts


def test_a_restart_of_both_takes_nothing_along(docker: Launcher, plugin: SnapshotPlugin) -> None:
    container = docker.docker("run", "-d", "-v", "vol:/d", IMAGE, *_SLEEP)
    docker.docker("exec", container, "sh", "-c", "echo kept >/d/f")
    plugin.kill()
    docker.kill()
    docker.start()
    plugin.start()

    assert docker.docker("exec", container, "cat", "/d/f") == "kept"
    assert users(plugin) == [container]
    docker.docker("rm", "-f", container)
    assert users(plugin) == []


def test_who_ended_while_the_launcher_was_away_lets_go(docker: Launcher, plugin: SnapshotPlugin) -> None:
    container = docker.docker("run", "-d", "-v", "vol:/d", IMAGE, *_SLEEP)
    pid = int(docker.docker("inspect", "--format", "{{.State.Pid}}", container))
    docker.kill()
    os.kill(pid, signal.SIGKILL)
    assert has_ended(pid, 20)

    docker.start()

    docker.docker("wait", container)
    assert users(plugin) == []


def test_a_power_cut_keeps_the_content_and_lets_go(docker: Launcher, plugin: SnapshotPlugin) -> None:
    container = docker.docker(
        "run", "-d", "-v", "vol:/d", IMAGE, "sh", "-c", "echo kept >/d/f; sync; sleep 1000"
    )
    docker.docker("exec", container, "sync")
    cut_power(docker)

    with switched_on(docker):
        assert users(plugin) == []
        assert sh(docker, "cat /d/f") == "kept"


# easyfuse


@pytest.mark.skipif(easyfuse_is_lacking() != "", reason=easyfuse_is_lacking())
def test_a_container_has_a_file_system_of_easyfuse(docker: Launcher, tmp_path: Path) -> None:
    remote = tmp_path / "remote"
    remote.mkdir()
    with easyfuse(tmp_path / "easyfuse", Path(_PLUGINS) / "fuse.sock") as fuse:
        docker.docker("volume", "create", "-d", "fuse", "-o", f"device=bindfs#{remote}", "far")
        assert inspected(docker, "far")["Scope"] == "global"
        container = docker.docker("run", "-d", "-v", "far:/d", IMAGE, *_SLEEP)

        docker.docker("exec", container, "sh", "-c", "echo written >/d/f")

        assert (remote / "f").read_text() == "written\n"
        assert fuse.mounted() == ["far"]
        docker.docker("rm", "-f", container)
        assert fuse.mounted() == []
        docker.docker("volume", "rm", "far")
