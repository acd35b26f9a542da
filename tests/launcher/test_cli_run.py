"""cnmctl drives containers of the launcher as it drives those of a dockerd: the same tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docker.shown_stage import Daemon
from tests.docker.test_cli_containers import (
    Cli,
    TestAttach,
    TestExec,
    TestLifecycle,
    TestRun,
    TestTerminal,
    cli,
    test_ports_are_listed_as_docker_lists_them,
    test_what_was_asked_for_is_what_the_daemon_keeps,
)
from tests.support.launcher import Launcher

__all__ = [
    "TestAttach",
    "TestExec",
    "TestLifecycle",
    "TestRun",
    "TestTerminal",
    "cli",
    "test_ports_are_listed_as_docker_lists_them",
    "test_what_was_asked_for_is_what_the_daemon_keeps",
]


@pytest.fixture(scope="module")
def dockerd(launcher: Launcher) -> Daemon:
    return launcher


@pytest.fixture
def beside_cnmd(launcher: Launcher, cli: Cli) -> Iterator[Cli]:
    """cnmctl that is told of cnmd's socket only, with the networks `front` and `back`."""
    cnmctl = Cli(launcher, launcher.cnmd.socket)
    for name, subnet in (("front", "10.77.0.0/24"), ("back", "10.78.0.0/24")):
        assert cnmctl.said("network", "create", "--subnet", subnet, name)[0] == 0
    yield cnmctl
    launcher.clear()
    assert cnmctl.said("network", "rm", "front", "back") == (0, "front\nback\n", "")


def test_several_networks_each_with_its_own_settings(beside_cnmd: Cli) -> None:
    front, back = "name=front,alias=www,ip=10.77.0.9", "name=back,mac-address=02:42:0a:4e:00:07,gw-priority=1"

    web = beside_cnmd.said("run", "-d", "--network", front, "--network", back, "busybox", "sleep", "1000")

    assert web[0] == 0, web[2]
    ident = web[1].strip()
    by_name = beside_cnmd.said("run", "--rm", "--network", "front", "busybox", "nslookup", "www")
    assert "10.77.0.9" in by_name[1]
    routes = beside_cnmd.said("exec", ident, "ip", "route")[1]
    assert "default via 10.78.0.1" in routes
    assert "02:42:0a:4e:00:07" in beside_cnmd.said("exec", ident, "ip", "link")[1]


def test_ports_of_a_running_container_change(beside_cnmd: Cli) -> None:
    beside_cnmd.said("run", "-d", "--name", "web", "-p", "127.0.0.1:8080:80", "busybox", "sleep", "1000")

    added = beside_cnmd.said("port", "add", "web", "127.0.0.1:8081:81")
    both = beside_cnmd.said("port", "web")
    removed = beside_cnmd.said("port", "rm", "web", "127.0.0.1:8080:80")

    assert added == (0, "81/tcp -> 127.0.0.1:8081\n", "")
    assert both == (0, "80/tcp -> 127.0.0.1:8080\n81/tcp -> 127.0.0.1:8081\n", "")
    assert removed == (0, "127.0.0.1:8080:80\n", "")
    assert beside_cnmd.said("port", "web") == (0, "81/tcp -> 127.0.0.1:8081\n", "")


def test_a_launcher_that_is_away_is_named(tmp_path: Path) -> None:
    class Away:
        socket = tmp_path / "cnm.sock"

        def docker(self, *arguments: str) -> str:
            raise NotImplementedError

    assert Cli(Away()).said("run", "-d", "busybox") == (
        125,
        "",
        f"cnmctl: cannot connect to cnm-launcher at unix://{tmp_path}/docker.sock: is it running? start it with "
        "'systemctl start cnm-launcher', or name its socket with -H\nSee 'cnmctl run --help'.\n",
    )
