"""Containers on networks of cnmd: names, addresses, ports, and connections made while they run or not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.launcher import Launcher
from tests.support.small_containers import eventually

_SLEEPER = ("busybox", "sleep", "1000")


@pytest.fixture
def networks(docker: Launcher) -> Iterator[Launcher]:
    """Networks front (dual stack) and back."""
    docker.cnmd.create_network(
        "front",
        EnableIPv6=True,
        IPAM={"Config": [{"Subnet": "10.9.0.0/24"}, {"Subnet": "fd00:9::/64"}]},
    )
    docker.cnmd.create_network("back", IPAM={"Config": [{"Subnet": "10.10.0.0/24"}]})
    yield docker
    docker.clear()
    docker.docker("network", "rm", "front", "back")


def shown(docker: Launcher, name: str) -> Any:
    return json.loads(docker.docker("inspect", name))[0]["NetworkSettings"]


def reaches(docker: Launcher, name: str, target: str) -> bool:
    return docker.run("exec", name, "ping", "-c1", "-w2", target).returncode == 0


def test_containers_find_each_other_by_name_alias_and_address(networks: Launcher) -> None:
    docker = networks
    docker.docker("run", "-d", "--name", "one", "--network", "front", *_SLEEPER)
    docker.docker(
        *("run", "-d", "--name", "two", "--network", "front", "--network-alias", "zwei"),
        *("--ip", "10.9.0.77", "--ip6", "fd00:9::77", *_SLEEPER),
    )

    assert all(reaches(docker, "one", target) for target in ("two", "zwei", "10.9.0.77", "fd00:9::77"))
    found = shown(docker, "two")["Networks"]["front"]
    assert (found["IPAddress"], found["GlobalIPv6Address"]) == ("10.9.0.77", "fd00:9::77")
    assert found["IPAMConfig"] == {"IPv4Address": "10.9.0.77", "IPv6Address": "fd00:9::77"}
    assert (found["Gateway"], found["IPPrefixLen"]) == ("10.9.0.1", 24)


def test_a_network_is_asked_for_by_its_id_too(networks: Launcher) -> None:
    docker = networks
    ident = docker.docker("network", "inspect", "-f", "{{.Id}}", "front")

    docker.docker("run", "-d", "--name", "one", "--network", ident[:12], "-p", "8090:80", *_SLEEPER)

    assert list(shown(docker, "one")["Networks"]) == ["front"]
    assert docker.docker("port", "one").splitlines()[0] == "80/tcp -> 0.0.0.0:8090"


def test_a_running_container_is_connected_and_disconnected(networks: Launcher) -> None:
    docker = networks
    docker.docker("run", "-d", "--name", "one", "--network", "front", *_SLEEPER)
    docker.docker("run", "-d", "--name", "two", "--network", "back", *_SLEEPER)
    assert not reaches(docker, "one", "two")

    docker.docker("network", "connect", "--alias", "other", "back", "one")

    assert reaches(docker, "one", "two")
    assert reaches(docker, "two", "other")
    assert list(shown(docker, "one")["Networks"]) == ["back", "front"]
    docker.docker("network", "disconnect", "back", "one")
    assert not reaches(docker, "one", "two")
    assert list(shown(docker, "one")["Networks"]) == ["front"]


def test_what_another_client_changes_at_cnmd_is_shown(networks: Launcher) -> None:
    docker = networks
    docker.docker("run", "-d", "--name", "one", "--network", "front", *_SLEEPER)
    before = shown(docker, "one")
    port = {"Protocol": "tcp", "ContainerPort": 80, "HostPort": 8099}
    path = f"/cnm/v1/endpoints/{before['Networks']['front']['EndpointID']}/ports"

    docker.cnmd.ask("POST", path, {"Ports": [port]})

    assert before["Ports"] == {}
    eventually(lambda: "80/tcp" in shown(docker, "one")["Ports"])


def test_one_that_does_not_run_is_connected_when_it_starts(networks: Launcher) -> None:
    docker = networks
    docker.docker("create", "--name", "one", "--network", "front", *_SLEEPER)
    docker.docker("network", "connect", "--ip", "10.10.0.50", "back", "one")
    assert shown(docker, "one")["Networks"]["back"]["IPAddress"] == ""

    docker.docker("start", "one")

    assert shown(docker, "one")["Networks"]["back"]["IPAddress"] == "10.10.0.50"
    assert "is not connected to" in docker.fails("network", "disconnect", "bridge", "one")[1]


def test_a_network_shows_its_containers_and_stays_while_it_has_some(networks: Launcher) -> None:
    docker = networks
    ident = docker.docker("run", "-d", "--name", "one", "--network", "front", *_SLEEPER)

    (found,) = json.loads(docker.docker("network", "inspect", "front"))

    assert {key: each["Name"] for key, each in found["Containers"].items()} == {ident: "one"}
    assert "has active endpoints" in docker.fails("network", "rm", "front")[1]


def test_ports_are_published_shown_and_free_again(networks: Launcher) -> None:
    docker = networks
    docker.docker(
        *(
            "run",
            "-d",
            "--name",
            "web",
            "--network",
            "front",
            "-p",
            "8080:80",
            "-p",
            "127.0.0.1:8443:443/udp",
        ),
        *("busybox", "sh", "-c", "while :; do echo hello | nc -l -p 80; done"),
    )

    assert sorted(docker.docker("port", "web").splitlines()) == [
        "443/udp -> 127.0.0.1:8443",
        "80/tcp -> 0.0.0.0:8080",
        "80/tcp -> :::8080",
    ]
    assert "0.0.0.0:8080->80/tcp, :::8080->80/tcp" in docker.docker("ps", "--format", "{{.Ports}}")
    heard = docker.docker("run", "--rm", "--network", "host", "busybox", "nc", "-w", "2", "127.0.0.1", "8080")
    assert heard == "hello"
    docker.docker("stop", "-t", "0", "web")
    docker.docker("run", "--rm", "--network", "front", "-p", "8080:80", "busybox", "true")


def test_all_exposed_ports_are_published_where_they_are_free(networks: Launcher) -> None:
    docker = networks
    docker.docker("run", "-d", "--name", "one", "--expose", "81", "--expose", "82/udp", "-P", *_SLEEPER)

    ports = shown(docker, "one")["Ports"]

    assert set(ports) == {"81/tcp", "82/udp"}
    assert all(int(bound[0]["HostPort"]) > 1024 for bound in ports.values())


_TALKER = ("busybox", "sh", "-c", "while :; do echo hello | nc -l -p 80; done")


def _is_heard(docker: Launcher, port: str) -> bool:
    """From the host."""
    done = docker.run("run", "--rm", "--network", "host", "busybox", "nc", "-w", "2", "127.0.0.1", port)
    return done.stdout == "hello\n"


def test_ports_are_published_once_a_network_leads_out(networks: Launcher) -> None:
    docker = networks
    docker.docker("network", "create", "--internal", "inner")
    docker.docker("run", "-d", "--name", "web", "--network", "inner", "-p", "8091:80", *_TALKER)
    assert docker.docker("port", "web") == ""

    docker.docker("network", "connect", "front", "web")

    assert docker.docker("port", "web").splitlines() == ["80/tcp -> 0.0.0.0:8091", "80/tcp -> :::8091"]
    assert _is_heard(docker, "8091")
    docker.docker("network", "disconnect", "front", "web")
    assert not _is_heard(docker, "8091")
    docker.clear()
    docker.docker("network", "rm", "inner")


def test_ports_move_to_the_network_that_is_the_way_out(networks: Launcher) -> None:
    docker = networks
    docker.docker("run", "-d", "--name", "web", "--network", "front", "-p", "8092:80", *_TALKER)
    docker.docker("network", "connect", "back", "web")

    docker.docker("network", "disconnect", "front", "web")

    assert docker.docker("port", "web").splitlines()[0] == "80/tcp -> 0.0.0.0:8092"
    assert docker.docker("ps", "-q", "--filter", "publish=8092") != ""
    assert _is_heard(docker, "8092")


def test_a_network_that_is_gone_can_be_left(networks: Launcher) -> None:
    docker = networks
    docker.docker("network", "create", "lost")
    docker.docker("run", "-d", "--name", "one", "--network", "lost", *_SLEEPER)
    ident = docker.docker("network", "inspect", "-f", "{{.Id}}", "lost")
    docker.docker("stop", "-t", "0", "one")
    assert shown(docker, "one")["Networks"]["lost"]["NetworkID"] == ident
    docker.docker("network", "rm", "lost")
    assert "network lost not found" in docker.fails("start", "one")[1]

    docker.docker("network", "disconnect", "lost", "one")

    assert shown(docker, "one")["Networks"] == {}
    assert "is not connected to the network lost" in docker.fails("network", "disconnect", "lost", "one")[1]
    docker.docker("network", "connect", "front", "one")
    docker.docker("network", "connect", "--alias", "again", "front", "one")
    docker.docker("start", "one")
    assert shown(docker, "one")["Networks"]["front"]["IPAddress"] != ""
    assert "network lost not found" in docker.fails("network", "disconnect", "lost", "one")[1]
    assert "is not connected to the" in docker.fails("network", "disconnect", "-f", "lost", "one")[1]
    assert "is not connected to" in docker.fails("network", "disconnect", "-f", "back", "one")[1]


def test_a_sandbox_that_is_no_container_is_disconnected_by_force(networks: Launcher) -> None:
    docker = networks
    docker.cnmd.create_sandbox("stray")
    docker.cnmd.connect("front", "stray")
    assert "No such container: stray" in docker.fails("network", "disconnect", "front", "stray")[1]

    docker.docker("network", "disconnect", "-f", "front", "stray")

    assert docker.docker("network", "inspect", "-f", "{{.Containers}}", "front") == "map[]"
    docker.cnmd.ask("DELETE", "/cnm/v1/sandboxes/stray")


def test_the_hosts_network_none_and_another_containers(networks: Launcher) -> None:
    docker = networks
    docker.docker("run", "-d", "--name", "one", "--network", "front", *_SLEEPER)
    look = ("busybox", "ip", "-o", "-4", "addr")

    assert "10.9.0." in docker.docker("run", "--rm", "--network", "container:one", *look)
    assert docker.docker("run", "--rm", "--network", "none", *look).count("\n") == 0
    assert "10.9.0.1/24" in docker.docker("run", "--rm", "--network", "host", *look)


def test_a_container_is_found_by_its_new_name(networks: Launcher) -> None:
    docker = networks
    docker.docker("run", "-d", "--name", "one", "--network", "front", *_SLEEPER)
    docker.docker("run", "-d", "--name", "two", "--network", "front", *_SLEEPER)

    docker.docker("rename", "one", "eins")

    assert reaches(docker, "two", "eins")
    assert not reaches(docker, "two", "one")


def test_networks_are_made_listed_and_pruned(networks: Launcher) -> None:
    docker = networks
    docker.docker("network", "create", "--subnet", "10.11.0.0/24", "--label", "a=b", "extra")

    assert "extra" in docker.docker("network", "ls", "--filter", "label=a=b", "--format", "{{.Name}}")
    assert "extra" in docker.docker("network", "prune", "-f", "--filter", "label=a=b")
    assert docker.docker("network", "ls", "--filter", "name=extra", "-q") == ""
