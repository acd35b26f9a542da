"""The launcher says of a volume plugin's refusals what dockerd says of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cnm.errors import CnmError
from cnm.events import EventBus
from cnm.launcher.volumes.plugins import VolumePlugins
from cnm.launcher.volumes.volumes import Volumes
from cnm.wire.plugin_client import Plugins
from cnm.wire.plugin_discovery import Places
from cnm.wire.plugin_retry import RealClock
from tests.docker.docker_lab import NEEDS_DOCKERD, PLUGINS
from tests.support.dockerd import Dockerd, make_image, start_dockerd
from tests.support.scripted_plugin import Reply, error, scripted_plugin
from tests.support.scripted_volumes import ScriptedVolumes, scripted_volumes

pytestmark = NEEDS_DOCKERD


@pytest.fixture(scope="module")
def dockerd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dockerd]:
    flags = ("--bridge", "none", "--iptables=false", "--ip6tables=false")
    with start_dockerd(tmp_path_factory.mktemp("words") / "docker", *flags) as running:
        make_image(running)
        yield running


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[ScriptedVolumes]:
    with scripted_volumes(Path(PLUGINS) / "scripted.sock", tmp_path / "kept") as made:
        yield made


@pytest.fixture
def volumes(tmp_path: Path) -> Iterator[Volumes]:
    clock = RealClock()
    plugins = Plugins(Places(socket_dirs=(PLUGINS,), spec_dirs=()), clock)
    place = tmp_path / "volumes"
    place.mkdir()
    yield Volumes(str(place), EventBus(), VolumePlugins(plugins, clock))
    plugins.close()


def said_by(dockerd: Dockerd, *arguments: str) -> str:
    """Without what the docker CLI puts in front and behind."""
    with pytest.raises(RuntimeError) as refusal:
        dockerd.docker(*arguments)
    return str(refusal.value).partition("Error response from daemon: ")[2].partition("\n")[0].rstrip(".")


def said_by_us(act: Callable[..., Any], *arguments: Any) -> str:
    with pytest.raises(CnmError) as refusal:
        act(*arguments)
    return str(refusal.value)


def test_of_a_driver_that_is_unknown(dockerd: Dockerd, volumes: Volumes) -> None:
    said = said_by(dockerd, "volume", "create", "-d", "nope", "vv")

    assert said_by_us(volumes.create, "vv", "nope") == said


def test_of_a_driver_of_another_kind(dockerd: Dockerd, volumes: Volumes) -> None:
    with scripted_plugin(Path(PLUGINS) / "net.sock", "NetworkDriver"):
        said = said_by(dockerd, "volume", "create", "-d", "net", "vv")
        ours = said_by_us(volumes.create, "vv", "net")

    start = "create vv: error looking up volume plugin net: "
    assert said == f"{start}legacy plugin: Plugin does not implement the requested driver"
    assert ours.startswith(start)
    assert "does not implement the requested driver: requested implementation=VolumeDriver" in ours


@pytest.mark.parametrize("status", [200, 400, 500])
def test_of_a_volume_that_cannot_be_made(
    dockerd: Dockerd, volumes: Volumes, plugin: ScriptedVolumes, status: int
) -> None:
    plugin.script("VolumeDriver.Create", *[error("the disk is full", status=status)] * 2)

    said = said_by(dockerd, "volume", "create", "-d", "scripted", "vv")

    assert without_the_method(said_by_us(volumes.create, "vv", "scripted")) == without_the_method(said)


def without_the_method(said: str) -> str:
    """dockerd names it only where the plugin refuses with a status."""
    return said.replace("VolumeDriver.Create: ", "").replace("VolumeDriver.Remove: ", "")


@pytest.mark.parametrize("status", [200, 500])
def test_of_a_volume_that_cannot_be_removed(
    dockerd: Dockerd, volumes: Volumes, plugin: ScriptedVolumes, status: int
) -> None:
    dockerd.docker("volume", "create", "-d", "scripted", "vv")
    volumes.create("vv", "scripted")
    plugin.script("VolumeDriver.Remove", *[error("it is busy", status=status)] * 2)

    said = said_by(dockerd, "volume", "rm", "vv")

    assert without_the_method(said_by_us(volumes.remove, "vv")) == without_the_method(said)
    dockerd.docker("volume", "rm", "vv")


def test_of_a_volume_that_cannot_be_mounted(
    dockerd: Dockerd, volumes: Volumes, plugin: ScriptedVolumes
) -> None:
    dockerd.docker("volume", "create", "-d", "scripted", "vv")
    volumes.create("vv", "scripted")
    plugin.script("VolumeDriver.Mount", *[error("the server is away", status=500)] * 2)

    said = said_by(dockerd, "run", "--rm", "--network", "none", "-v", "vv:/v", "busybox", "true")

    assert said == "error while mounting volume '': VolumeDriver.Mount: the server is away"
    assert said_by_us(volumes.mount, "vv", "c") == said.replace("''", "'vv'")
    dockerd.docker("volume", "rm", "vv")


def test_of_a_volume_that_another_driver_has(
    dockerd: Dockerd, volumes: Volumes, plugin: ScriptedVolumes
) -> None:
    dockerd.docker("volume", "create", "vv")
    volumes.create("vv")

    said = said_by(dockerd, "volume", "create", "-d", "scripted", "vv")

    assert said_by_us(volumes.create, "vv", "scripted") == said
    dockerd.docker("volume", "rm", "vv")


def test_of_a_plugin_that_answers_no_json(
    dockerd: Dockerd, volumes: Volumes, plugin: ScriptedVolumes
) -> None:
    plugin.script("VolumeDriver.Create", *[Reply(b"<html>")] * 2)

    said = said_by(dockerd, "volume", "create", "-d", "scripted", "vv")

    assert said.startswith("create vv: ")
    assert said_by_us(volumes.create, "vv", "scripted") == (
        "create vv: VolumeDriver.Create: the answer cannot be read: invalid JSON: invalid character (byte 0)"
    )
