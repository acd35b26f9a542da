"""Images come from a registry with TLS and passwords, and go there, by the docker CLI."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import registry as registries
from tests.support.launcher import Launcher
from tests.support.registry import PASSWORD, USER, Registry
from tests.support.unpacked import lacking


@pytest.fixture(scope="module")
def registry(launcher: Launcher) -> Iterator[Registry]:
    """On the launcher's host, with `team/app:1` in it, busybox and one layer more."""
    if reason := lacking(*registries.PROGRAMS):
        pytest.skip(reason)
    with registries.running(launcher.place / "registry", launcher.cnmd.popen) as registry:
        yield registry


@dataclass
class Client:
    """The docker CLI with a place of its own for passwords, and the registry that it talks of."""

    launcher: Launcher
    registry: Registry
    place: Path

    def __call__(self, *arguments: str, given: str = "") -> str:
        return self.launcher.docker("--config", str(self.place), *arguments, given=given)

    def fails(self, *arguments: str, given: str = "") -> str:
        """What it complains of."""
        return self.launcher.fails("--config", str(self.place), *arguments, given=given)[1]

    def name(self, image: str) -> str:
        return f"{self.registry.name}/{image}"

    def ident(self, image: str) -> str:
        return self("image", "inspect", "-f", "{{.Id}}", image)


@pytest.fixture
def stranger(docker: Launcher, registry: Registry, tmp_path: Path) -> Client:
    return Client(docker, registry, tmp_path)


@pytest.fixture
def client(stranger: Client) -> Client:
    said = stranger("login", "--username", USER, "--password-stdin", stranger.registry.name, given=PASSWORD)
    assert "Login Succeeded" in said
    return stranger


def test_an_image_is_pushed_removed_and_pulled_again(client: Client) -> None:
    name = client.name("team/app:1")
    client("tag", "busybox", name)
    ident = client.ident(name)

    pushed = client("push", name)
    print(pushed)
    client("rmi", "busybox", name)
    pulled = client("pull", name)
    print(pulled)
    print(client("images", "--digests"))
    print(json.loads(client("image", "inspect", name)))
    assert client.ident(name) == ident
    client("tag", name, "busybox")
    print(client("search", client.name("app")))
    print(client("info"))
    print(client.fails("pull", client.name("team/app:nope")))
    print(client.fails("pull", client.name("team/nope:1")))
    print(client.fails("push", client.name("team/nope:1")))
    print(client.fails("push", client.name("team/nope")))
    print(client("pull", name))
    print(client("pull", "-a", client.name("team/app")))
    print(client.launcher.log)
    print(client("save", "-o", "/tmp/w/registries/saved.tar", "busybox", name))
    subprocess.run(["tar","tvf","/tmp/w/registries/saved.tar"])
    print(client("logout", client.registry.name))
    print(client.fails("pull", client.name("team/app:1")))
    print(client.fails("login", "-u", "tester", "-p", "wrong", client.registry.name))
    print(client.fails("save", "-o", "/tmp/w/registries/saved.tar", "nope"))
    print(client.launcher.log)
    assert 0
