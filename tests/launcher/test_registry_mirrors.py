"""Mirrors are asked in their order before Docker Hub; those that are down, or lack an image, are passed over."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from netns_fixtures import Host
from tests.support import launcher as lab
from tests.support import registry as registries
from tests.support.launcher import Launcher
from tests.support.private_etc import hosts
from tests.support.registry import Registry, trust
from tests.support.registry_images import Put, layer, put_image
from tests.support.unpacked import lacking

_DOWN, _FIRST, _SECOND, _SECURE = 5009, 5010, 5011, 5012
_URLS = [
    *(f"http://127.0.0.1:{port}" for port in (_DOWN, _FIRST, _SECOND)),
    f"https://127.0.0.1:{_SECURE}/",
]
_HUB, _HUB_PORT = "registry-1.docker.io", 443


@dataclass
class Stage:
    launcher: Launcher
    host: Host
    registries: dict[int, Registry]

    def put(self, port: int, image: str) -> Put:
        """Another one in each registry."""
        content = f"{image} of {port}".encode()
        return put_image(self.host, self.registries[port], f"library/{image}", "1", [layer("f", content)])

    def pull(self, image: str) -> str:
        """The id of what came."""
        self.launcher.docker("pull", f"{image}:1")
        ident = self.launcher.docker("image", "inspect", "-f", "{{.Id}}", f"{image}:1")
        self.launcher.docker("rmi", f"{image}:1")
        return ident


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    if reason := lacking(*lab.PROGRAMS, *registries.PROGRAMS):
        pytest.skip(reason)
    with (
        tempfile.TemporaryDirectory(prefix="cnm", dir="/tmp") as folder,
        lab.running(Path(folder), config=f"registry-mirrors = {_URLS!r}".replace("'", '"')) as launcher,
        ExitStack() as stack,
    ):
        host = getattr(launcher.cnmd.popen, "__self__")  # noqa: B009 - it is some host's `popen`
        stack.enter_context(hosts({_HUB: "127.0.0.1"}))
        running = {
            port: stack.enter_context(
                registries.running(
                    Path(folder, f"registry-{port}"),
                    host.popen,
                    port=port,
                    is_plain=port not in (_SECURE, _HUB_PORT),
                    has_passwords=False,
                    certified={"hosts": [_HUB]},
                )
            )
            for port in (_FIRST, _SECOND, _SECURE, _HUB_PORT)
        }
        for name in (_HUB, "docker.io"):
            trust(name, running[_HUB_PORT].authority)
        yield Stage(launcher, host, running)


def test_the_first_mirror_that_has_an_image_gives_it(stage: Stage) -> None:
    first, _ = stage.put(_FIRST, "both"), stage.put(_SECOND, "both")

    assert stage.pull("both") == first.id


def test_mirrors_that_are_down_or_lack_an_image_are_passed_over(stage: Stage) -> None:
    second = stage.put(_SECOND, "later")

    assert stage.pull("later") == second.id


def test_a_mirror_that_dies_is_passed_over(stage: Stage) -> None:
    stage.put(_FIRST, "dying")
    second = stage.put(_SECOND, "dying")
    stage.registries[_FIRST].stop()
    try:
        assert stage.pull("dying") == second.id
    finally:
        stage.registries[_FIRST].start()


def test_a_mirror_with_tls_is_asked_too(stage: Stage) -> None:
    secure = stage.put(_SECURE, "secure")

    assert stage.pull("secure") == secure.id


def test_docker_hub_is_asked_where_no_mirror_has_an_image(stage: Stage) -> None:
    of_hub = stage.put(_HUB_PORT, "hubs")

    assert stage.pull("hubs") == of_hub.id


def test_an_image_that_neither_mirrors_nor_docker_hub_have_is_told_in_dockers_words(stage: Stage) -> None:
    said = stage.launcher.fails("pull", "nobodys:1")[1]

    assert (
        said
        == "Error response from daemon: manifest for nobodys:1 not found: manifest unknown: manifest unknown"
    )
