"""dockerd keeps volumes with our plugin: made, used, shown and removed by docker, kept by name and put back by us."""

from __future__ import annotations

import itertools
import json
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.docker.docker_lab import NEEDS_DOCKERD, PLUGINS, eventually
from tests.support.dockerd import Dockerd, exec_root, make_image, start_dockerd
from tests.support.snapshot_plugin import NAME, SnapshotPlugin

pytestmark = NEEDS_DOCKERD

_NUMBERS = itertools.count()
_FLAGS = ("--bridge", "none", "--iptables=false", "--ip6tables=false")


class Lab:
    """One plugin and one dockerd; both can end and start again."""

    def __init__(self, place: Path) -> None:
        self._place = place / "docker"
        self._ended = ExitStack()
        self.plugin = SnapshotPlugin(place / "plugin", PLUGINS)
        self.plugin.start()
        self.start_docker()
        make_image(self.dockerd)

    def start_docker(self) -> None:
        (exec_root(self._place) / "containerd" / "containerd.pid").unlink(missing_ok=True)
        self.dockerd: Dockerd = self._ended.enter_context(start_dockerd(self._place, *_FLAGS))

    def end_docker(self, number: int = signal.SIGTERM) -> None:
        """What it leaves in the cgroups is removed when the lab ends."""
        self.dockerd.process.send_signal(number)
        self.dockerd.process.wait(30)

    def close(self) -> None:
        self._ended.close()
        self.plugin.stop()

    def docker(self, *arguments: str) -> str:
        return self.dockerd.docker(*arguments)

    def create(self, name: str, *options: str) -> str:
        return self.docker("volume", "create", "--driver", NAME, *options, name)

    def sh(self, volume: str, script: str) -> str:
        """What a container with the volume at /v prints."""
        return self.docker(
            "run", "--rm", "--network", "none", "-v", f"{volume}:/v", "busybox", "sh", "-c", script
        )

    def start(self, volume: str, *options: str) -> str:
        """A container that has the volume at /v and stays; its id."""
        return self.docker(
            "run", "-d", "--network", "none", "-v", f"{volume}:/v", *options, "busybox", "sleep", "100000"
        )

    def remove(self, container: str) -> None:
        self.docker("rm", "--force", container)

    def inspect(self, name: str) -> Any:
        return json.loads(self.docker("volume", "inspect", name))[0]

    def users(self, name: str) -> list[str]:
        return list(self.inspect(name)["Status"]["Users"])

    def refused(self, *arguments: str) -> str:
        with pytest.raises(RuntimeError) as refusal:
            self.docker(*arguments)
        return str(refusal.value)


def refused(act: Any, *arguments: str) -> str:
    with pytest.raises(RuntimeError) as refusal:
        act(*arguments)
    return str(refusal.value)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    made = Lab(tmp_path_factory.mktemp("snapshots"))
    yield made
    made.close()


@pytest.fixture
def volume(lab: Lab) -> Iterator[str]:
    """A volume of the plugin's, that is gone at the end with its restore points."""
    name = f"v{next(_NUMBERS)}"
    lab.create(name)
    yield name
    points = [point["Name"] for point in json.loads(lab.plugin.say("point", "ls", name, "--json"))]
    if points:
        lab.plugin.say("point", "rm", name, *points)
    lab.docker("volume", "rm", name)


# What docker does


def test_docker_makes_shows_and_removes_a_volume(lab: Lab) -> None:
    assert lab.create("first") == "first"

    assert lab.docker("volume", "ls", "--format", "{{.Driver}} {{.Name}}") == f"{NAME} first"
    shown = lab.inspect("first")
    assert (shown["Driver"], shown["Scope"]) == (NAME, "local")
    assert shown["Mountpoint"] == str(lab.plugin.root / "volumes/first/data")
    assert shown["Status"] == {"RestorePoints": [], "Users": []}
    assert shown["CreatedAt"].startswith("20")
    assert lab.docker("volume", "rm", "first") == "first"
    assert lab.docker("volume", "ls", "--quiet") == ""
    assert lab.plugin.say("ls", "--json").strip() == "[]"


def test_data_outlives_its_container(lab: Lab, volume: str) -> None:
    lab.sh(volume, "echo kept >/v/f; chown 1000:1000 /v/f")

    assert lab.sh(volume, "cat /v/f; stat -c %u:%g /v/f") == "kept\n1000:1000"


def test_a_volume_that_docker_makes_by_running_a_container(lab: Lab) -> None:
    lab.docker(
        *(
            "run",
            "--rm",
            "--network",
            "none",
            "--volume-driver",
            NAME,
            "-v",
            "made:/v",
            "busybox",
            "touch",
            "/v/f",
        )
    )

    assert lab.inspect("made")["Driver"] == NAME
    lab.docker("volume", "rm", "made")


def test_a_new_volume_gets_what_the_image_has_at_its_place(lab: Lab, volume: str) -> None:
    shown = lab.docker("run", "--rm", "--network", "none", "-v", f"{volume}:/www", "busybox", "ls", "/www")

    assert shown == "index.html"


def test_docker_is_told_what_is_refused(lab: Lab, volume: str) -> None:
    said = lab.refused("volume", "create", "--driver", NAME, "--opt", "size=1", "other")
    assert said.endswith(
        "create other: VolumeDriver.Create: unknown option 'size': there is from=VOLUME[@POINT]"
    )

    said = lab.refused("volume", "create", "--driver", NAME, "--opt", "from=nope", "other")
    assert said.endswith("create other: VolumeDriver.Create: no such volume: nope")

    lab.plugin.say("point", "create", volume, "p")
    said = lab.refused("volume", "rm", volume)
    assert f"VolumeDriver.Remove: volume {volume} has restore points (p): delete them first" in said


def test_docker_is_told_what_removes_a_damaged_volume(lab: Lab) -> None:
    """Docker's --force does not reach a plugin."""
    lab.create("damaged")
    (lab.plugin.root / "volumes/damaged/record.json").write_text("{")

    said = lab.refused("volume", "rm", "damaged")

    assert said.endswith("or remove the volume with cnm-volume-snapshots rm --force damaged")
    assert lab.plugin.say("rm", "--force", "damaged").strip() == "damaged"
    lab.docker("volume", "rm", "--force", "damaged")
    assert lab.docker("volume", "ls", "--quiet") == ""


def test_two_containers_use_one_volume(lab: Lab, volume: str) -> None:
    one, two = lab.start(volume), lab.start(volume)
    lab.docker("exec", one, "sh", "-c", "echo hello >/v/f")
    assert lab.docker("exec", two, "cat", "/v/f") == "hello"
    assert len(lab.users(volume)) == 2

    lab.remove(one)

    assert len(lab.users(volume)) == 1
    lab.remove(two)
    assert lab.users(volume) == []


def test_a_prune_leaves_the_volume(lab: Lab, volume: str) -> None:
    """The launcher's does, too."""
    lab.docker("volume", "prune", "--force")

    assert lab.docker("volume", "ls", "--quiet") == volume


# Restore points


def test_a_volume_is_put_back_as_it_was(lab: Lab, volume: str) -> None:
    lab.sh(volume, "echo one >/v/f; ln -s f /v/l; mkfifo /v/p; chown 7:8 /v/f; chmod 4755 /v/f")
    assert lab.plugin.say("point", "create", volume, "one") == "one\n"
    lab.sh(volume, "echo two >/v/f; rm /v/l; touch /v/new")
    lab.plugin.say("point", "create", volume, "two")

    lab.plugin.say("point", "restore", volume, "one")
    assert lab.sh(volume, "cat /v/l; ls /v; stat -c '%u %g %a' /v/f") == "one\nf\nl\np\n7 8 4755"
    lab.plugin.say("point", "restore", volume, "two")
    assert lab.sh(volume, "cat /v/f; ls /v") == "two\nf\nnew\np"

    assert lab.inspect(volume)["Status"]["RestorePoints"] == ["one", "two"]


def test_a_running_container_keeps_its_content(lab: Lab, volume: str) -> None:
    lab.sh(volume, "echo old >/v/f")
    lab.plugin.say("point", "create", volume, "p")
    container = lab.start(volume)

    assert "is in use" in refused(lab.plugin.say, "point", "restore", volume, "p")
    assert "or say --live" in refused(lab.plugin.say, "point", "create", volume, "q")
    lab.plugin.say("point", "create", volume, "q", "--live")

    assert lab.docker("exec", container, "cat", "/v/f") == "old"
    lab.remove(container)
    lab.plugin.say("point", "restore", volume, "p")


def test_a_copy_from_a_running_container_does_not_let_go_of_the_volume(
    lab: Lab, volume: str, tmp_path: Path
) -> None:
    lab.sh(volume, "echo old >/v/f")
    container = lab.start(volume)

    lab.docker("cp", f"{container}:/v/f", str(tmp_path / "f"))

    assert (tmp_path / "f").read_text() == "old\n"
    assert len(lab.users(volume)) == 1
    lab.remove(container)
    assert lab.users(volume) == []


def test_docker_begins_a_volume_with_a_restore_point(lab: Lab, volume: str) -> None:
    lab.sh(volume, "echo old >/v/f")
    lab.plugin.say("point", "create", volume, "p")
    lab.sh(volume, "echo new >/v/f")

    lab.create("copy", "--opt", f"from={volume}@p")

    assert lab.sh("copy", "cat /v/f") == "old"
    lab.docker("volume", "rm", "copy")


def test_a_backup_brings_a_volume_back(lab: Lab, volume: str, tmp_path: Path) -> None:
    lab.sh(volume, "echo old >/v/f; chown 7:8 /v/f; mkdir /v/d; chmod 1777 /v")
    archive = str(tmp_path / "b.tar.gz")
    lab.plugin.say("backup", volume, archive)
    lab.sh(volume, "rm -r /v/*")

    lab.plugin.say("restore", volume, archive)
    lab.plugin.say("restore", "another", archive)

    for name in (volume, "another"):
        shown = lab.sh(name, "cat /v/f; ls /v; stat -c '%u %g' /v/f; stat -c %a /v")
        assert shown == "old\nd\nf\n7 8\n1777"
    lab.docker("volume", "rm", "another")


def test_a_backup_goes_through_a_pipe(lab: Lab, volume: str) -> None:
    lab.sh(volume, "echo old >/v/f")
    archive = lab.plugin.say("backup", volume, "-")

    lab.plugin.say("restore", "piped", "-", stdin=archive.encode())

    assert lab.sh("piped", "cat /v/f") == "old"
    lab.docker("volume", "rm", "piped")


# Ends and starts


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_volumes_outlive_the_plugin(lab: Lab, volume: str, end: str) -> None:
    lab.sh(volume, "echo kept >/v/f")
    container = lab.start(volume)
    getattr(lab.plugin, end)()
    assert lab.docker("exec", container, "cat", "/v/f") == "kept"

    lab.plugin.start()

    assert len(lab.users(volume)) == 1
    assert "is in use" in refused(lab.plugin.say, "point", "create", volume, "p")
    lab.remove(container)
    assert lab.users(volume) == []
    assert lab.sh(volume, "cat /v/f") == "kept"


def test_volumes_outlive_dockerd(lab: Lab, volume: str) -> None:
    lab.sh(volume, "echo kept >/v/f")
    container = lab.start(volume, "--restart", "always")
    lab.end_docker()
    lab.start_docker()

    eventually(lambda: lab.docker("inspect", "--format", "{{.State.Running}}", container) == "true")
    assert lab.docker("exec", container, "cat", "/v/f") == "kept"
    assert len(lab.users(volume)) == 1
    lab.remove(container)
    assert lab.users(volume) == []


def test_a_dockerd_that_was_killed_lets_go_of_its_volumes(lab: Lab, volume: str) -> None:
    container = lab.start(volume)
    lab.end_docker(signal.SIGKILL)
    lab.start_docker()

    eventually(lambda: lab.docker("inspect", "--format", "{{.State.Running}}", container) == "false")
    lab.remove(container)

    assert lab.users(volume) == []


@pytest.mark.parametrize("verb", [("point", "restore"), ("point", "create")])
def test_a_copy_that_was_killed_leaves_nothing(lab: Lab, volume: str, verb: tuple[str, ...]) -> None:
    lab.sh(volume, "dd if=/dev/zero of=/v/much bs=1M count=64 2>/dev/null; echo old >/v/f")
    lab.plugin.say("point", "create", volume, "p")
    lab.sh(volume, "echo now >/v/f")
    staging = lab.plugin.root / "staging"

    copying = lab.plugin.begin(*verb, volume, "p" if verb[1] == "restore" else "q")
    eventually(lambda: any(staging.glob("*/data/*")))
    os.killpg(copying.pid, signal.SIGKILL)
    copying.wait()

    assert lab.sh(volume, "cat /v/f") == "now"
    assert lab.inspect(volume)["Status"]["RestorePoints"] == ["p"]
    lab.plugin.stop()
    lab.plugin.start()
    assert list(staging.iterdir()) == []
