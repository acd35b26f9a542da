"""A power cut while images are pulled, loaded and removed: what was there is there, the rest is gone, and it works."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from netns_fixtures import Host
from tests.support import launcher as lab
from tests.support import registry as registries
from tests.support.cut_wire import Wire, wire
from tests.support.image_archives import archive
from tests.support.image_store import busybox_tar, tar, text
from tests.support.launcher import IMAGE, Launcher
from tests.support.launcher_left import left
from tests.support.power_cut import cut_power, switched_on
from tests.support.registry import Registry
from tests.support.registry_images import layer, put_image
from tests.support.small_containers import eventually
from tests.support.unpacked import environment, lacking

_WIRE_PORT, _PORT = 5001, 5000
_LARGE = 4 << 20
_SETTINGS = f'insecure-registries = ["127.0.0.1:{_WIRE_PORT}"]\n'
_PULLED = f"127.0.0.1:{_WIRE_PORT}/pulled:1"
_KEPT = f"127.0.0.1:{_WIRE_PORT}/kept:1"
_FORM = "{{.Id}} {{.RepoTags}} {{.RepoDigests}} {{.RootFS.Layers}} {{.Config}}"


@dataclass
class Machine:
    """A launcher, and a registry whose data outlive power cuts as the launcher's do."""

    launcher: Launcher
    registry: Registry
    wire: Wire

    @property
    def storage(self) -> Path:
        return self.launcher.place / "root/launcher/storage"


@pytest.fixture(scope="module")
def started() -> Iterator[tuple[Launcher, Registry]]:
    if reason := lacking(*lab.PROGRAMS, *registries.PROGRAMS):
        pytest.skip(reason)
    with (
        tempfile.TemporaryDirectory(prefix="cnm", dir="/tmp") as folder,
        lab.running(Path(folder), config=_SETTINGS) as launcher,
    ):
        place = Path(folder) / "registry"
        with registries.running(place, launcher.popen, port=_PORT, is_plain=True) as registry:
            yield launcher, registry


@pytest.fixture
def machine(started: tuple[Launcher, Registry]) -> Iterator[Machine]:
    launcher, registry = started
    registry.popen = launcher.popen
    registry.stop()
    registry.start()
    with wire(_host(launcher), _WIRE_PORT, _PORT) as made:
        yield Machine(launcher, registry, made)
    for name in launcher.docker("images", "--format", "{{.Repository}}:{{.Tag}}").split():
        if name != f"{IMAGE}:latest":
            launcher.docker("rmi", "-f", name)
    launcher.docker("image", "prune", "-f")


def _host(launcher: Launcher) -> Host:
    found: Host = getattr(launcher.popen, "__self__")  # noqa: B009 - it is some host's `popen`
    return found


@contextmanager
def _restarted(machine: Machine) -> Iterator[None]:
    """The power was cut, and is back; the registry, too, is there again."""
    with switched_on(machine.launcher):
        machine.registry.popen = machine.launcher.popen
        machine.registry.stop()
        machine.registry.start()
        with wire(_host(machine.launcher), _WIRE_PORT, _PORT) as made:
            machine.wire = made
            yield
        machine.registry.stop()


@contextmanager
def _background(launcher: Launcher, *words: str) -> Iterator[subprocess.Popen[str]]:
    process: subprocess.Popen[str] = subprocess.Popen(
        launcher.command(*words),
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def _reach(moment: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Or its end, where that comes sooner."""
    while not moment() and process.poll() is None:
        continue


def _put(machine: Machine, name: str) -> None:
    layers = [layer("small", name.encode()), layer("large", os.urandom(_LARGE))]
    put_image(_host(machine.launcher), machine.registry, name, "1", layers)


def _known(machine: Machine, what: str) -> list[str]:
    path = machine.storage / f"overlay-{what}" / f"{what}.json"
    return [
        each["id"] for each in json.loads(path.read_text()) if not each.get("flags", {}).get("incomplete")
    ]


def _shown(launcher: Launcher, *names: str) -> list[Any]:
    """All that an image tells, and its history."""
    return [
        (
            launcher.docker("image", "inspect", "-f", _FORM, name),
            launcher.docker("history", "--no-trunc", "--format", "{{.ID}} {{.CreatedBy}} {{.Size}}", name),
        )
        for name in names
    ]


def test_images_with_their_digests_and_histories_and_remembered_builds_survive_one(
    machine: Machine, tmp_path: Path
) -> None:
    launcher = machine.launcher
    _put(machine, "kept")
    launcher.docker("pull", _KEPT)
    saved = archive("team/loaded:1", "team/loaded:2", layers=[tar(text("a", "1")), tar(text("b", "2"))])
    (tmp_path / "saved").write_bytes(saved.content)
    launcher.docker("load", "-i", str(tmp_path / "saved"))
    (tmp_path / "Dockerfile").write_text(f"FROM {IMAGE}\nENV A=b\nRUN echo built >/built\nCMD cat /built\n")
    build = ("build", "-t", "built", str(tmp_path))
    _build(launcher, *build)
    launcher.docker("run", "--name", "maker", IMAGE, "touch", "/made")
    launcher.docker("commit", "maker", "removed")
    launcher.docker("create", "--name", "user", "removed", "ls", "/made")
    launcher.docker("rmi", "-f", "removed")
    launcher.docker("rm", "maker")
    names = (_KEPT, "team/loaded:1", "built", IMAGE)
    before = _shown(launcher, *names)
    listed = launcher.docker("images", "-a", "--no-trunc", "--digests")

    cut_power(launcher)
    with _restarted(machine):
        assert _shown(launcher, *names) == before
        assert _without_ages(launcher.docker("images", "-a", "--no-trunc", "--digests")) == _without_ages(
            listed
        )
        assert launcher.docker("run", "--rm", "--network", "none", "built") == "built"
        assert launcher.docker("start", "-a", "user") == "/made"
        assert _build(launcher, *build).count(" ---> Using cache") == 3
        assert f"Image is up to date for {_KEPT}" in launcher.docker("pull", _KEPT)
        launcher.docker("rm", "user")
        eventually(lambda: left(launcher) == [])  # the removed image, too, whose last container that was


def _build(launcher: Launcher, *words: str) -> str:
    done = subprocess.run(
        launcher.command(*words),
        env={**environment(), "DOCKER_BUILDKIT": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def _without_ages(listed: str) -> list[list[str]]:
    """Repository, tag, digest and id of each line."""
    return [line.split()[:4] for line in listed.splitlines()]


PULLS: dict[str, tuple[int, Callable[[Machine, int], bool]]] = {
    "amid its large layer": (_LARGE // 2, lambda machine, _: machine.wire.stands_still.is_set()),
    "when the image is known": (0, lambda machine, before: len(_known(machine, "images")) > before),
}


@pytest.mark.parametrize("moment", PULLS)
def test_a_pull_that_a_power_cut_ends_leaves_nothing_and_works_again(machine: Machine, moment: str) -> None:
    launcher, (size, has_come) = machine.launcher, PULLS[moment]
    _put(machine, "pulled")
    images = len(_known(machine, "images"))
    if size:
        machine.wire.stop_after(size)
    with _background(launcher, "pull", _PULLED) as pull:
        _reach(lambda: has_come(machine, images), pull)
        cut_power(launcher)

    with _restarted(machine):
        assert left(launcher) == []
        assert _KEPT not in launcher.docker("images")
        said = launcher.docker("pull", _PULLED)
        assert "Downloaded newer image" in said or "Image is up to date" in said
        assert launcher.docker("history", "-q", _PULLED)
        launcher.docker("rmi", _PULLED)
        assert left(launcher) == []


LOADS: dict[str, Callable[[Machine, int], bool]] = {
    "while the archive comes": lambda machine, _: bool(list(machine.storage.glob("incoming/*/archive"))),
    "while a layer is unpacked": lambda machine, _: bool(list(machine.storage.glob("overlay/*/diff/big"))),
    "when the first layer is known": lambda machine, before: len(_known(machine, "layers")) > before,
}


@pytest.mark.parametrize("moment", LOADS)
def test_a_load_that_a_power_cut_ends_leaves_nothing_and_works_again(
    machine: Machine, tmp_path: Path, moment: str
) -> None:
    launcher = machine.launcher
    big = tar(text("big", "x" * (30 << 20)))
    saved = archive("team/big:1", layers=[busybox_tar(), big, tar(text("last", "1"))])
    (tmp_path / "saved").write_bytes(saved.content)
    layers = len(_known(machine, "layers"))
    with _background(launcher, "load", "-i", str(tmp_path / "saved")) as load:
        _reach(lambda: LOADS[moment](machine, layers), load)
        cut_power(launcher)

    with _restarted(machine):
        assert left(launcher) == []
        assert launcher.docker("load", "-i", str(tmp_path / "saved")) == "Loaded image: team/big:1"
        assert launcher.docker("run", "--rm", "--network", "none", "team/big:1", "ls", "/last") == "/last"
        launcher.docker("rmi", "team/big:1")
        assert left(launcher) == []


REMOVALS: dict[str, Callable[[Machine, int, int], bool]] = {
    "when it is no longer known": lambda machine, images, _: len(_known(machine, "images")) < images,
    "when a layer is no longer known": lambda machine, _, layers: len(_known(machine, "layers")) < layers,
}


@pytest.mark.parametrize("moment", REMOVALS)
def test_a_removal_that_a_power_cut_ends_leaves_nothing_half_there(
    machine: Machine, tmp_path: Path, moment: str
) -> None:
    launcher = machine.launcher
    files = tar(*(text(f"file{number}", "1") for number in range(3000)))
    saved = archive("team/gone:1", layers=[busybox_tar(), files])
    (tmp_path / "saved").write_bytes(saved.content)
    launcher.docker("load", "-i", str(tmp_path / "saved"))
    images, layers = len(_known(machine, "images")), len(_known(machine, "layers"))
    with _background(launcher, "rmi", "team/gone:1") as removal:
        _reach(lambda: REMOVALS[moment](machine, images, layers), removal)
        cut_power(launcher)

    with _restarted(machine):
        assert left(launcher) == []
        assert _known(machine, "images") == [
            each.removeprefix("sha256:") for each in launcher.docker("images", "-aq", "--no-trunc").split()
        ]
        launcher.run("rmi", "team/gone:1")
        assert launcher.docker("images", "-q", "team/gone") == ""
        launcher.docker("load", "-i", str(tmp_path / "saved"))
        assert (
            launcher.docker("run", "--rm", "--network", "none", "team/gone:1", "ls", "/file2999")
            == "/file2999"
        )
        launcher.docker("rmi", "team/gone:1")
        assert left(launcher) == []
