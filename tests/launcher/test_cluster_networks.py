"""Containers of two hosts of a cluster, each with its launcher: on overlay, macvlan and ipvlan networks as they run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.cluster.hosts import NEEDS_ETCD, ClusterLab, eventually, together
from tests.support import launcher as lab
from tests.support.launcher import Launcher
from tests.support.launcher_left import left

pytestmark = NEEDS_ETCD

_SLEEPER = ("busybox", "sleep", "1000")
Pair = tuple[Launcher, Launcher]


@pytest.fixture(scope="module")
def launchers(cluster: ClusterLab) -> Iterator[Pair]:
    with ExitStack() as stack:
        here, there = together(
            list(cluster.h.values()), lambda host: stack.enter_context(lab.beside(host.cnmd))
        )
        for launcher in (here, there):
            launcher.docker("network", "create", "home")
        yield here, there
        for launcher in (here, there):
            launcher.docker("network", "rm", "home")


@pytest.fixture
def pair(launchers: Pair) -> Iterator[Pair]:
    """Both without containers before and after, each with a network `home` of its own."""
    before = [left(launcher) for launcher in launchers]  # of the host itself, for all its overlay networks
    yield launchers
    together(launchers, Launcher.clear)
    assert [left(launcher) for launcher in launchers] == before


@pytest.fixture
def web(pair: Pair) -> Iterator[str]:
    """An overlay network that both hosts know."""
    here, there = pair
    here.docker(
        "network",
        "create",
        "-d",
        "overlay",
        "--subnet",
        "10.88.0.0/24",
        "--ipv6",
        "--subnet",
        "fd88::/64",
        "web",
    )
    eventually(lambda: there.run("network", "inspect", "web").returncode == 0)
    yield "web"
    together(pair, Launcher.clear)
    here.docker("network", "rm", "web")
    eventually(lambda: there.run("network", "inspect", "web").returncode == 1)


def reaches(docker: Launcher, name: str, target: str) -> bool:
    return docker.run("exec", name, "ping", "-c1", "-W2", target).returncode == 0


def shown(docker: Launcher, name: str) -> Any:
    return json.loads(docker.docker("inspect", name))[0]["NetworkSettings"]["Networks"]


def run(docker: Launcher, name: str, *options: str) -> None:
    docker.docker("run", "-d", "--name", name, *options, *_SLEEPER)


def test_containers_of_two_hosts_find_each_other_by_name(pair: Pair, web: str) -> None:
    here, there = pair
    run(here, "one", "--network", web, "--network-alias", "eins")
    serve = "echo of the other host > /www; exec httpd -f -h /"
    there.docker("run", "-d", "--name", "two", "--network", web, "busybox", "sh", "-c", serve)
    address = shown(there, "two")[web]

    assert all(
        reaches(here, "one", target) for target in ("two", address["IPAddress"], address["GlobalIPv6Address"])
    )
    assert all(reaches(there, "two", target) for target in ("one", "eins"))
    assert here.docker("exec", "one", "wget", "-qO-", "http://two/www") == "of the other host"


def test_running_containers_are_connected_to_an_overlay_network_and_disconnected(
    pair: Pair, web: str
) -> None:
    here, there = pair
    run(here, "one", "--network", "home")
    run(there, "two", "--network", "home")
    assert not reaches(here, "one", "10.88.0.77")

    here.docker("network", "connect", web, "one")
    there.docker("network", "connect", "--alias", "zwei", "--ip", "10.88.0.77", web, "two")

    assert all(reaches(here, "one", target) for target in ("two", "zwei", "10.88.0.77"))
    assert reaches(there, "two", "one")
    assert shown(there, "two")[web]["IPAddress"] == "10.88.0.77"
    assert list(shown(there, "two")) == ["home", web]

    there.docker("network", "disconnect", web, "two")

    assert list(shown(there, "two")) == ["home"]
    assert there.docker("exec", "two", "ls", "/sys/class/net").split() == ["eth0", "lo"]
    eventually(lambda: here.run("exec", "one", "nslookup", "two").returncode != 0)
    assert not reaches(here, "one", "10.88.0.77")


def test_a_container_that_is_stopped_started_renamed_and_removed_is_followed_elsewhere(
    pair: Pair, web: str
) -> None:
    here, there = pair
    run(here, "one", "--network", web)
    run(there, "two", "--network", web)
    assert reaches(here, "one", "two")

    there.docker("stop", "-t", "0", "two")
    eventually(lambda: not _is_known(here, "two"))
    there.docker("start", "two")
    eventually(lambda: reaches(here, "one", "two"))
    there.docker("rename", "two", "zwei")
    eventually(lambda: reaches(here, "one", "zwei") and not _is_known(here, "two"))
    there.docker("rm", "-f", "zwei")
    eventually(lambda: not _is_known(here, "zwei"))


def _is_known(docker: Launcher, name: str) -> bool:
    return docker.run("exec", "one", "nslookup", name).returncode == 0


def test_launchers_that_are_killed_leave_names_and_packets_alone(pair: Pair, web: str) -> None:
    here, there = pair
    run(here, "one", "--network", web)
    run(there, "two", "--network", web)

    for launcher in pair:
        launcher.kill()
        launcher.start()

    assert reaches(here, "one", "two")
    assert reaches(there, "two", "one")
    there.docker("network", "disconnect", web, "two")
    eventually(lambda: not _is_known(here, "two"))
    there.docker("network", "connect", web, "two")
    eventually(lambda: reaches(here, "one", "two"))


_LAN = ("--subnet", "192.0.2.0/24", "--gateway", "192.0.2.254", "-o", "parent=eth0")
_RANGES = ("192.0.2.64/26", "192.0.2.128/26")
"""Of each host, whose network of its own it is, on the one segment of all."""


@pytest.fixture
def lan(pair: Pair, request: pytest.FixtureRequest) -> Iterator[str]:
    """A network of this kind on each host, upon its eth0."""
    for launcher, part in zip(pair, _RANGES, strict=True):
        launcher.docker("network", "create", "-d", request.param, *_LAN, "--ip-range", part, "lan")
    yield "lan"
    for launcher in pair:
        launcher.clear()
        launcher.docker("network", "rm", "lan")


@pytest.mark.parametrize("lan", ["macvlan", "ipvlan"], indirect=True)
def test_running_containers_are_connected_to_the_hosts_segment_and_disconnected(
    pair: Pair, lan: str, cluster: ClusterLab, request: pytest.FixtureRequest
) -> None:
    here, there = pair
    kind = request.node.callspec.params["lan"]
    if reason := _lacking(cluster, kind):
        pytest.skip(reason)
    run(here, "one", "--network", "home")
    run(there, "two", "--network", "home")

    here.docker("network", "connect", lan, "one")
    there.docker("network", "connect", "--ip", "192.0.2.190", lan, "two")

    first = shown(here, "one")[lan]["IPAddress"]
    assert first.startswith("192.0.2.")
    assert shown(there, "two")[lan]["IPAddress"] == "192.0.2.190"
    assert reaches(here, "one", "192.0.2.190")
    assert reaches(there, "two", first)
    assert reaches(here, "one", "192.0.2.2"), "the other host itself"

    there.docker("network", "disconnect", lan, "two")

    assert there.docker("exec", "two", "ls", "/sys/class/net").split() == ["eth0", "lo"]
    assert not reaches(here, "one", "192.0.2.190")


@pytest.mark.parametrize("lan", ["ipvlan"], indirect=True)
def test_a_kind_that_the_kernel_lacks_is_refused_and_the_container_stays_as_it_was(
    pair: Pair, lan: str, cluster: ClusterLab
) -> None:
    here, _ = pair
    if not _lacking(cluster, "ipvlan"):
        pytest.skip("this kernel has ipvlan links")
    run(here, "one", "--network", "home")

    code, error = here.fails("network", "connect", lan, "one")

    assert code == 1
    assert "this kernel has no ipvlan links: load module ipvlan" in error
    assert list(shown(here, "one")) == ["home"]
    assert here.docker("exec", "one", "ls", "/sys/class/net").split() == ["eth0", "lo"]


def _lacking(cluster: ClusterLab, kind: str) -> str:
    """Why there can be no links of this kind, "" where there can."""
    add = ["ip", "link", "add", "probe", "link", "eth0", "type", kind]
    if cluster.h[1].net.run(add, check=False).returncode != 0:
        return f"this kernel has no {kind} links"
    cluster.h[1].net.run(["ip", "link", "delete", "probe"])
    return ""
