"""cnmctl drives containers of the launcher as it drives those of a dockerd: the same tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docker.docker_lab import eventually
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


@pytest.fixture
def web(beside_cnmd: Cli) -> Cli:
    """With `web`, which serves at 80 and 81, the one published; and `outside`, in the host's namespace."""
    serve = "mkdir /one /two; echo one >/one/x; echo two >/two/x; httpd -p 80 -h /one; exec httpd -f -p 81 -h /two"
    for words in (
        ("--name", "web", "-p", "127.0.0.1:8080:80", "--network", "front", "busybox", "sh", "-c", serve),
        ("--name", "outside", "--network", "host", "busybox", "sleep", "1000"),
    ):
        made = beside_cnmd.said("run", "-d", *words)
        assert made[0] == 0, made[2]
    eventually(lambda: got(beside_cnmd, "127.0.0.1:8080") == "one\n")
    return beside_cnmd


def got(cnmctl: Cli, address: str) -> str:
    """What is served at this address, seen from the host; "" for nothing."""
    host, _, port = address.partition(":")
    ask = f"printf 'GET /x HTTP/1.0\\r\\n\\r\\n' | nc -w 5 {host} {port} | tail -n 1"
    return cnmctl.said("exec", "outside", "sh", "-c", ask)[1]


def test_ports_of_a_running_container_change(web: Cli) -> None:
    added = web.said("port", "add", "web", "127.0.0.1:8081:81")
    both = web.said("port", "web")

    assert added == (0, "81/tcp -> 127.0.0.1:8081\n", "")
    assert both == (0, "80/tcp -> 127.0.0.1:8080\n81/tcp -> 127.0.0.1:8081\n", "")
    assert [got(web, f"127.0.0.1:{port}") for port in (8080, 8081)] == ["one\n", "two\n"]

    assert web.said("port", "rm", "web", "127.0.0.1:8080:80") == (0, "127.0.0.1:8080:80\n", "")

    assert web.said("port", "web") == (0, "81/tcp -> 127.0.0.1:8081\n", "")
    assert [got(web, f"127.0.0.1:{port}") for port in (8080, 8081)] == ["", "two\n"]


def test_ports_that_change_are_shown_by_docker(web: Cli) -> None:
    docker = web.dockerd.docker
    web.said("port", "add", "web", "8081:81")

    assert sorted(docker("port", "web").splitlines()) == [
        "80/tcp -> 127.0.0.1:8080",
        "81/tcp -> 0.0.0.0:8081",
        "81/tcp -> :::8081",
    ]
    assert web.inspect("web")["NetworkSettings"]["Ports"] == {
        "80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}],
        "81/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8081"}, {"HostIp": "::", "HostPort": "8081"}],
    }
    assert "0.0.0.0:8081->81/tcp" in docker("ps", "--filter", "name=web", "--format", "{{.Ports}}")
    assert got(web, "10.77.0.1:8081") == "two\n"

    web.said("port", "rm", "web", "8081:81", "127.0.0.1:8080:80")

    assert docker("port", "web") == ""
    assert not web.inspect("web")["NetworkSettings"]["Ports"].get("81/tcp")
    assert got(web, "10.77.0.1:8081") == got(web, "127.0.0.1:8080") == ""
    taken = web.said(
        "run", "-d", "--network", "front", "-p", "8081:80", "-p", "8080:80", "busybox", "sleep", "99"
    )
    assert taken[0] == 0, taken[2]


def test_a_port_that_cannot_be_added_leaves_the_others(web: Cli) -> None:
    refused = web.said("port", "add", "web", "127.0.0.1:8082:82", "127.0.0.1:8080:81")

    assert refused[0] == 1
    assert "8080" in refused[2]
    assert web.said("port", "web") == (0, "80/tcp -> 127.0.0.1:8080\n", "")
    assert got(web, "127.0.0.1:8080") == "one\n"


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


@pytest.fixture
def mapping(beside_cnmd: Cli, launcher: Launcher) -> Cli:
    """The same where user namespaces may reach the launcher's files."""
    launcher.place.chmod(0o711)
    return beside_cnmd


@pytest.mark.parametrize(
    ("mode", "first", "size"), [("private:300000:1000", "300000", "1000"), ("private", "", "")]
)
def test_root_inside_is_a_plain_user_of_the_host(mapping: Cli, mode: str, first: str, size: str) -> None:
    made = mapping.said(
        "run", "-d", "--name", "web", "--userns", mode, "--network", "front", "busybox", "sleep", "99"
    )

    assert made[0] == 0, made[2]
    shown = mapping.inspect("web")
    _, outside, length = mapping.said("exec", "web", "cat", "/proc/self/uid_map")[1].split()
    assert (outside, length) == (first or outside, size or length)
    assert int(outside) > 0
    assert Path(f"/proc/{shown['State']['Pid']}").stat().st_uid == int(outside)
    assert shown["HostConfig"]["UsernsMode"] == mode
    assert mapping.said("exec", "web", "id", "-u") == (0, "0\n", "")
    found = mapping.said("run", "--rm", "--network", "front", "busybox", "ping", "-c1", "-W5", "web")
    assert found[0] == 0, found[2]


@pytest.mark.parametrize(
    ("mode", "refusal"),
    [
        (
            "private:x",
            "Error response from daemon: invalid userns mode: private:x: it is host or private[:HOSTUID:SIZE]",
        ),
        ("nope", "cnmctl: --userns: invalid USER mode: see 'cnmctl run --help'"),
    ],
)
def test_a_wrong_user_namespace_is_refused(mapping: Cli, mode: str, refusal: str) -> None:
    code, out, err = mapping.said("run", "-d", "--userns", mode, "busybox", "true")

    assert (code, out) == (125, "")
    assert err.splitlines()[0] == refusal
    assert mapping.said("ps", "-aq") == (0, "", "")
