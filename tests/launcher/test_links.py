"""`--link`: hosts entries and variables on the default network, names on others."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.support.launcher import Launcher

_SLEEPER = ("busybox", "sleep", "1000")


def address(docker: Launcher, name: str) -> str:
    return str(json.loads(docker.docker("inspect", name))[0]["NetworkSettings"]["IPAddress"])


def hosts(docker: Launcher, name: str) -> list[str]:
    return docker.docker("exec", name, "cat", "/etc/hosts").splitlines()


def test_a_linked_container_is_found_by_alias_hostname_and_name(docker: Launcher) -> None:
    docker.docker("run", "-d", "--name", "db", "--hostname", "store", *_SLEEPER)
    docker.docker("run", "-d", "--name", "web", "--link", "db:base", *_SLEEPER)

    assert f"{address(docker, 'db')}\tbase store db" in hosts(docker, "web")
    for name in ("base", "store", "db"):
        docker.docker("exec", "web", "ping", "-c1", "-w3", name)


def test_a_link_without_an_alias_is_called_as_its_target(docker: Launcher) -> None:
    ident = docker.docker("run", "-d", "--name", "db", *_SLEEPER)
    docker.docker("run", "-d", "--name", "web", "--link", "db", *_SLEEPER)

    assert f"{address(docker, 'db')}\tdb {ident[:12]}" in hosts(docker, "web")


def test_variables_tell_of_ports_and_of_the_others_variables(docker: Launcher) -> None:
    docker.docker(
        "run", "-d", "--name", "db", "--expose", "80", "--expose", "53/udp", "-e", "USER=me", *_SLEEPER
    )
    docker.docker("run", "-d", "--name", "web", "--link", "db:my-db", "-e", "MY_DB_ENV_USER=own", *_SLEEPER)

    shown = docker.docker("exec", "web", "env").splitlines()

    at = address(docker, "db")
    assert {
        f"MY_DB_PORT=udp://{at}:53",
        f"MY_DB_PORT_53_UDP=udp://{at}:53",
        f"MY_DB_PORT_53_UDP_ADDR={at}",
        "MY_DB_PORT_53_UDP_PORT=53",
        "MY_DB_PORT_53_UDP_PROTO=udp",
        f"MY_DB_PORT_80_TCP=tcp://{at}:80",
        "MY_DB_NAME=/web/my-db",
    } <= set(shown)
    assert "MY_DB_ENV_USER=own" in shown  # its own words count
    assert not any(line.startswith("MY_DB_ENV_PATH") for line in shown)


def test_inspect_shows_links_as_docker_does(docker: Launcher) -> None:
    docker.docker("run", "-d", "--name", "db", *_SLEEPER)
    docker.docker("create", "--name", "web", "--link", "db:base", *_SLEEPER)
    docker.docker("rename", "db", "store")

    assert json.loads(docker.docker("inspect", "web"))[0]["HostConfig"]["Links"] == ["/store:/web/base"]
    assert docker.docker("start", "web") == "web"


def test_a_target_that_restarts_is_found_at_its_new_address(docker: Launcher) -> None:
    docker.docker("run", "-d", "--name", "db", *_SLEEPER)
    docker.docker("run", "-d", "--name", "web", "--link", "db:base", *_SLEEPER)
    before = address(docker, "db")
    docker.docker("stop", "-t", "0", "db")
    docker.docker("run", "-d", "--name", "other", *_SLEEPER)  # has db's address, perhaps

    docker.docker("start", "db")

    lines = [line for line in hosts(docker, "web") if "base" in line.split()]
    assert [line.split()[0] for line in lines] == [address(docker, "db")], before
    docker.docker("exec", "web", "ping", "-c1", "-w3", "base")


def test_a_target_that_does_not_run_stops_the_start(docker: Launcher) -> None:
    docker.docker("create", "--name", "db", *_SLEEPER)
    docker.docker("create", "--name", "web", "--link", "db:base", *_SLEEPER)

    assert "Cannot link to a non running container: /db AS /web/base" in docker.fails("start", "web")[1]
    docker.docker("start", "db")
    docker.docker("start", "web")


def test_a_target_that_was_removed_is_no_link_any_more(docker: Launcher) -> None:
    docker.docker("create", "--name", "db", *_SLEEPER)
    docker.docker("create", "--name", "web", "--link", "db:base", *_SLEEPER)
    docker.docker("rm", "db")

    docker.docker("start", "web")

    assert json.loads(docker.docker("inspect", "web"))[0]["HostConfig"]["Links"] is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--link", "nosuch:x"), "could not get container for nosuch: No such container: nosuch"),
        (("--link", "a:b:c"), "bad format for links: a:b:c"),
        (("--link", "on-host:x"), "conflicting options: host type networking can't be used with links"),
    ],
)
def test_a_link_that_cannot_be_is_refused(docker: Launcher, options: tuple[str, ...], words: str) -> None:
    docker.docker("create", "--name", "db", *_SLEEPER)
    docker.docker("create", "--name", "on-host", "--network", "host", *_SLEEPER)

    assert words in docker.fails("create", "--name", "web", *options, *_SLEEPER)[1]

    assert sorted(docker.docker("ps", "-a", "--format", "{{.Names}}").split()) == ["db", "on-host"]


def test_a_target_off_the_default_network_stops_the_start(docker: Launcher) -> None:
    docker.docker("run", "-d", "--name", "db", "--network", "none", *_SLEEPER)

    error = docker.fails("run", "--name", "web", "--link", "db:x", *_SLEEPER)[1]

    assert "Cannot link to /db, as it does not belong to the default network" in error


# Networks that a user made


@pytest.fixture
def network(docker: Launcher) -> Iterator[str]:
    docker.docker("network", "create", "net")
    yield "net"
    docker.clear()
    docker.docker("network", "rm", "net")


def test_on_other_networks_a_link_is_a_name_for_the_one_that_has_it(docker: Launcher, network: str) -> None:
    docker.docker("run", "-d", "--name", "db", "--network", network, *_SLEEPER)
    docker.docker("run", "-d", "--name", "web", "--network", network, "--link", "db:base", *_SLEEPER)
    docker.docker("run", "-d", "--name", "other", "--network", network, *_SLEEPER)

    docker.docker("exec", "web", "ping", "-c1", "-w3", "base")

    assert docker.run("exec", "other", "ping", "-c1", "-w3", "base").returncode == 1
    assert "BASE_NAME" not in docker.docker("exec", "web", "env")
    assert json.loads(docker.docker("inspect", "web"))[0]["NetworkSettings"]["Networks"]["net"]["Links"] == [
        "db:base"
    ]


def test_a_link_is_made_by_network_connect(docker: Launcher, network: str) -> None:
    docker.docker("run", "-d", "--name", "db", "--network", network, *_SLEEPER)
    docker.docker("run", "-d", "--name", "web", *_SLEEPER)

    docker.docker("network", "connect", "--link", "db:base", network, "web")

    docker.docker("exec", "web", "ping", "-c1", "-w3", "base")


def test_a_link_is_removed_and_its_containers_stay(docker: Launcher) -> None:
    docker.docker("run", "-d", "--name", "db", *_SLEEPER)
    docker.docker("run", "-d", "--name", "web", "--link", "db:base", "--link", "db:other", *_SLEEPER)

    docker.docker("rm", "--link", "web/base")

    assert json.loads(docker.docker("inspect", "web"))[0]["HostConfig"]["Links"] == ["/db:/web/other"]
    assert [line.split("\t")[1].split()[0] for line in hosts(docker, "web") if "db" in line] == ["other"]
    docker.docker("restart", "-t", "0", "web")
    assert not any("base" in line for line in hosts(docker, "web"))
    assert "No such container: web/base" in docker.fails("rm", "--link", "web/base")[1]
    assert "cannot remove the default link name" in docker.fails("rm", "--link", "web")[1]
    assert len(docker.docker("ps", "-q").split()) == 2
