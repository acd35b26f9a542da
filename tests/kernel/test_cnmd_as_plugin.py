"""One cnmd uses another as its remote plugin: networks and addresses are the other's, packets pass between them.

A cnmd has a network namespace for itself, so the two are on hosts of their own, and a go-between carries a link that
one has made for the other across, as if both were on one host.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from netns_fixtures import Host, Topology
from tests.support.cnmd import Cnmd, running
from tests.support.plugin_proxy import PluginProxy

NETWORK = {
    "Driver": "other",
    "EnableIPv6": True,
    "IPAM": {"Driver": "other", "Config": [{"Subnet": "10.91.0.0/24"}, {"Subnet": "fd91::/64"}]},
}


@dataclass
class World:
    user: Cnmd
    plugin: Cnmd
    user_host: Host
    plugin_host: Host
    proxy: PluginProxy

    def inside(self, sandbox: str, command: str, *, check: bool = True) -> str:
        """Output of a command in a sandbox of the user's."""
        path = self.user.ask("GET", f"/cnm/v1/sandboxes/{sandbox}")["NetnsPath"]
        return self.user_host.run(["nsenter", f"--net={path}", *command.split()], check=check).stdout

    def networks_of_plugin(self) -> list[Any]:
        return [n for n in self.plugin.ask("GET", "/networks") if n["Name"] not in ("bridge", "host", "none")]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    place = tmp_path_factory.mktemp("cnmds")
    with Topology({"hosts": {"one": {}, "two": {}}}) as topology:
        one, two = topology.hosts["one"], topology.hosts["two"]
        # Below /run, which is the test's own: paths of sockets are short.
        sockets = Path("/run/cnm-as-plugin")

        def carry(path: str, answer: bytes) -> None:
            if path.endswith(".Join") and b" 200 " in answer[:16]:
                name = json.loads(answer.partition(b"\r\n\r\n")[2])["InterfaceName"]["SrcName"]
                two.run(["ip", "link", "set", name, "netns", str(one.path)])

        proxy = PluginProxy(sockets / "other.sock", str(place / "two" / "plugins" / "cnm.sock"), after=carry)
        settings = f'remote-plugin-dirs = ["{sockets}"]\nremote-plugin-spec-dirs = []\n'
        with (
            running(place / "two", two.popen) as plugin,
            running(place / "one", one.popen, settings) as user,
        ):
            yield World(user, plugin, one, two, proxy)
        proxy.close()


@pytest.fixture(autouse=True)
def nothing_is_left(world: World) -> Iterator[None]:
    yield
    for sandbox in world.user.ask("GET", "/cnm/v1/sandboxes"):
        world.user.ask("DELETE", f"/cnm/v1/sandboxes/{sandbox['Id']}?force=1")
    world.user.ask("POST", "/networks/prune")
    assert world.networks_of_plugin() == []
    assert world.plugin.ask("GET", "/cnm/v1/endpoints") == []
    assert world.user.findings() == []
    assert world.plugin.findings() == []


def test_networks_and_addresses_are_the_others(world: World) -> None:
    world.user.create_network("far", **NETWORK)
    world.user.create_sandbox("box")

    endpoint = world.user.connect("far", "box")

    (theirs,) = world.networks_of_plugin()
    (their_endpoint,) = world.plugin.ask("GET", "/cnm/v1/endpoints")
    assert theirs["Driver"] == "bridge"
    assert endpoint["IPv4Address"] == their_endpoint["IPv4Address"] == "10.91.0.2/24"
    assert endpoint["IPv6Address"] == their_endpoint["IPv6Address"] == "fd91::2/64"
    assert endpoint["MacAddress"] == their_endpoint["MacAddress"]


def test_packets_pass_to_the_others_gateway(world: World) -> None:
    world.user.create_network("far", **NETWORK)
    world.user.create_sandbox("box")
    world.user.connect("far", "box")

    for gateway in ("10.91.0.1", "fd91::1"):
        assert " 0% packet loss" in world.inside("box", f"ping -c 1 -W 3 {gateway}")
    assert "default via 10.91.0.1" in world.inside("box", "ip route")


def test_two_sandboxes_talk_through_the_other(world: World) -> None:
    world.user.create_network("far", **NETWORK)
    for name in ("box", "bag"):
        world.user.create_sandbox(name)
        world.user.connect("far", name)

    assert " 0% packet loss" in world.inside("bag", "ping -c 1 -W 3 10.91.0.2")


def test_ports_are_published_by_the_other(world: World) -> None:
    world.user.create_network("far", **NETWORK)
    world.user.create_sandbox("box")
    world.user.connect("far", "box", Ports=[{"ContainerPort": 80, "HostPort": 8080}])

    (theirs,) = world.plugin.ask("GET", "/cnm/v1/endpoints")
    assert [(port["ContainerPort"], port["HostPort"]) for port in theirs["Ports"]] == [(80, 8080)]


def test_an_option_that_the_other_refuses_is_refused_in_its_words(world: World) -> None:
    body = {"Name": "far", "Driver": "other", "Options": {"nosuch": "1"}}

    status, answer = world.user.request("POST", "/networks/create", body)

    assert status >= 400
    assert "unknown option nosuch for driver bridge" in answer["message"]


def test_both_may_be_killed(world: World) -> None:
    world.user.create_network("far", **NETWORK)
    world.user.create_sandbox("box")
    world.user.connect("far", "box")

    for daemon in (world.plugin, world.user):
        daemon.kill()
        daemon.start()

    assert " 0% packet loss" in world.inside("box", "ping -c 1 -W 3 10.91.0.1")
    assert world.user.findings() == []
