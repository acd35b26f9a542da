"""Containers whose root is a plain user of the host: network, files, exec, and what is left of them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.launcher import Launcher
from tests.support.launcher_api import Api

_SLEEP = ["sleep", "1000"]
_FIRST = 200_000


@pytest.fixture
def docker(launcher: Launcher) -> Iterator[Launcher]:
    """Without containers before and after, where user namespaces may reach its files; network `net`."""
    launcher.place.chmod(0o711)
    launcher.cnmd.create_network("net", IPAM={"Config": [{"Subnet": "10.9.0.0/24"}]})
    yield launcher
    launcher.clear()
    launcher.docker("network", "rm", "net")


@pytest.fixture
def api(docker: Launcher) -> Api:
    """The docker CLI knows no user namespace but the host's and the daemon's default."""
    return Api(docker.socket)


def make(api: Api, name: str, command: list[str] = _SLEEP, mode: str = f"private:{_FIRST}:65536", **host: Any) -> str:
    """A started container in a user namespace; its id."""
    host = {"NetworkMode": "net", "UsernsMode": mode} | host
    return api.run(name, {"Image": "busybox", "Cmd": command, "HostConfig": host})


def test_root_inside_is_a_plain_user_of_the_host(docker: Launcher, api: Api) -> None:
    ident = make(api, "one")

    pid = api.inspect(ident)["State"]["Pid"]
    assert docker.docker("exec", "one", "id", "-u") == "0"
    assert Path(f"/proc/{pid}").stat().st_uid == _FIRST
    assert docker.docker("exec", "one", "cat", "/proc/self/uid_map").split() == ["0", str(_FIRST), "65536"]
