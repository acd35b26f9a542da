"""A real cnmd uses another program's plugin, which makes veth pairs on a bridge of its own: packets pass."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from netns_fixtures import Host, Topology
from tests.support.cnmd import Cnmd, running
from tests.support.scripted_plugin import Reply, ScriptedPlugin, answer, error, scripted_plugin

LONG = 'remote-plugin-spec-dirs = []\nremote-plugin-timeout = 20\nlog-level = "debug"\n'
FAR = {"Driver": "lp", "EnableIPv6": True}
SUBNETS = {"Config": [{"Subnet": "10.9.0.0/24"}, {"Subnet": "fd09::/64"}]}


@dataclass
class World:
    host: Host
    daemon: Cnmd
    plugin: ScriptedPlugin
    paths: dict[str, str]
    """Of the sandboxes' namespaces, by name."""

    def ip(self, command: str, sandbox: str = "") -> Any:
        return json.loads(self.inside(f"ip -j {command}", sandbox) or "[]")

    def inside(self, command: str, sandbox: str = "", *, check: bool = True) -> str:
        """Output of a command in a sandbox, or on the host."""
        words = command.split()
        if sandbox:
            words = ["nsenter", f"--net={self.paths[sandbox]}", *words]
        return self.host.run(words, check=check).stdout

    def pings(self, sandbox: str, address: str) -> bool:
        return " 0% packet loss" in self.inside(f"ping -c 1 -W 2 {address}", sandbox, check=False)

    def links(self, sandbox: str = "") -> set[str]:
        return {link["ifname"] for link in self.ip("link", sandbox)}


@contextmanager
def veths_of(plugin: ScriptedPlugin, host: Host) -> Iterator[None]:
    """What a network driver does: a bridge with the gateways, a pair for each endpoint."""
    for command in (
        "ip link add spbr type bridge",
        "ip addr add 10.9.0.1/24 dev spbr",
        "ip addr add fd09::1/64 dev spbr nodad",
        "ip link set spbr up",
    ):
        host.run(command.split())

    def make(name: str) -> None:
        host.run(f"ip link add {name} type veth peer name {name}p".split())
        host.run(f"ip link set {name}p master spbr up".split())

    plugin.make_link = make
    plugin.drop_link = lambda name: host.run(f"ip link del {name}p".split(), check=False)
    plugin.join_answer = {
        "Gateway": "10.9.0.1",
        "GatewayIPv6": "fd09::1",
        "StaticRoutes": [{"Destination": "198.18.0.0/24", "RouteType": 1}],
    }
    yield
    host.run(["ip", "link", "del", "spbr"])


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    place = tmp_path_factory.mktemp("cnmd")
    with (
        Topology({"hosts": {"host": {}}}) as topology,
        scripted_plugin(place / "plugins" / "lp.sock") as plugin,
        veths_of(plugin, topology.hosts["host"]),
        running(place, topology.hosts["host"].popen, LONG) as daemon,
    ):
        yield World(topology.hosts["host"], daemon, plugin, {})


@pytest.fixture
def world(started: World) -> Iterator[World]:
    daemon = started.daemon
    daemon.create_network("far", **FAR, IPAM=SUBNETS)
    for name in ("one", "two"):
        started.paths[name] = daemon.create_sandbox(name)["NetnsPath"]
    yield started
    for name in ("one", "two"):
        daemon.ask("DELETE", f"/cnm/v1/sandboxes/{name}?force=1")
    daemon.ask("POST", "/networks/prune")
    assert daemon.findings() == []
    assert (started.plugin.kept.networks, started.plugin.kept.endpoints) == (set(), set())
    assert started.links() == {"lo", "spbr"}


def test_sandboxes_reach_each_other_and_the_way_out(world: World) -> None:
    one = world.daemon.connect("far", "one")
    two = world.daemon.connect("far", "two")

    assert world.pings("one", two["IPv4Address"].partition("/")[0])
    assert world.pings("two", one["IPv6Address"].partition("/")[0])
    assert world.pings("one", "10.9.0.1")
    assert world.pings("one", "fd09::1")
    (eth0,) = world.ip("link show eth0", "one")
    assert eth0["address"] == one["MacAddress"]
    assert {r["dst"] for r in world.ip("route", "one")} == {"default", "10.9.0.0/24", "198.18.0.0/24"}
    assert world.daemon.findings() == []


def test_the_link_goes_back_and_the_plugin_deletes_it(world: World) -> None:
    world.daemon.connect("far", "one")
    (name,) = world.plugin.kept.links.values()
    assert name not in world.links()

    world.daemon.ask("POST", "/networks/far/disconnect", {"Container": "one"})

    assert world.links("one") == {"lo"}
    assert world.links() == {"lo", "spbr"}


def test_a_sandbox_may_leave_and_join_again(world: World) -> None:
    world.daemon.ask("POST", "/cnm/v1/endpoints", {"Network": "far", "Name": "e"})
    for _ in range(2):
        world.daemon.ask("POST", "/cnm/v1/endpoints/far%2Fe/join", {"Sandbox": "one"})
        assert world.pings("one", "10.9.0.1")
        world.daemon.ask("POST", "/cnm/v1/endpoints/far%2Fe/leave", {})
    world.daemon.ask("DELETE", "/cnm/v1/endpoints/far%2Fe")


def test_packets_pass_after_a_crash(world: World) -> None:
    world.daemon.connect("far", "one")
    world.plugin.calls.clear()

    world.daemon.kill()
    assert world.pings("one", "10.9.0.1")
    world.daemon.start()

    assert world.plugin.calls == []
    assert world.daemon.findings() == []
    world.daemon.ask("POST", "/networks/far/disconnect", {"Container": "one"})


def test_a_crash_in_the_middle_of_a_join_leaves_nothing_in_the_plugin(world: World) -> None:
    world.plugin.script("NetworkDriver.ProgramExternalConnectivity", Reply(delay=3.0))
    status: list[int] = []

    def connect() -> None:
        try:
            status.append(world.daemon.request("POST", "/networks/far/connect", {"Container": "one"})[0])
        except OSError:
            status.append(0)

    thread = threading.Thread(target=connect)
    thread.start()
    _until(lambda: "ProgramExternalConnectivity" in world.plugin.asked())
    assert "eth0" in world.links("one")
    world.daemon.kill()
    thread.join()
    world.daemon.start()

    _until(lambda: not world.plugin.kept.endpoints)
    assert world.links("one") == {"lo"}
    assert world.links() == {"lo", "spbr"}
    assert world.daemon.ask("GET", "/cnm/v1/endpoints") == []


def test_cnmd_starts_at_once_while_the_plugin_is_away(world: World) -> None:
    world.daemon.connect("far", "one")
    world.daemon.kill()
    world.plugin.stop()
    began = time.monotonic()

    world.daemon.start()

    assert time.monotonic() - began < 8
    assert world.daemon.findings() == []
    world.plugin.start()
    world.daemon.connect("far", "two")
    assert world.pings("two", "10.9.0.2")


def test_a_link_that_its_owner_deleted_is_a_finding(world: World) -> None:
    world.daemon.connect("far", "one")
    (name,) = world.plugin.kept.links.values()
    world.host.run(f"ip link del {name}p".split())

    found = world.daemon.findings()

    assert ("missing", "link", "eth0") in {(f["Problem"], f["Kind"], f["Object"]) for f in found}
    status, body = world.daemon.request("POST", "/cnm/v1/repair")
    assert status == 500
    assert "the program that owns it did not make it, or took it away" in body["message"]


@pytest.mark.parametrize(
    ("method", "reply", "words"),
    [
        ("CreateEndpoint", error("no luck"), "plugin lp: NetworkDriver.CreateEndpoint: no luck"),
        ("CreateEndpoint", answer(Interface={"MacAddress": "x"}), "invalid MAC address: x"),
        (
            "Join",
            answer(InterfaceName={"SrcName": "nowhere"}),
            "interface nowhere is not in the host's namespace",
        ),
        ("Join", answer(Gateway="x"), "failed to set gateway: 'x' is no IP address; rolled back"),
        (
            "Join",
            Reply(b'{"Gateway', hang_up="midway"),
            "plugin lp: NetworkDriver.Join: the answer breaks off",
        ),
        (
            "Join",
            answer(InterfaceName={"SrcName": "spbr", "DstPrefix": "eth"}),
            "cannot move interface spbr",
        ),
    ],
)
def test_a_mistake_of_the_plugin_is_one_line_and_leaves_nothing(
    world: World, method: str, reply: Reply, words: str
) -> None:
    world.plugin.script(f"NetworkDriver.{method}", reply)

    status, body = world.daemon.request("POST", "/networks/far/connect", {"Container": "one"})

    assert status == 500
    assert words in body["message"]
    assert "\n" not in body["message"]
    assert world.daemon.ask("GET", "/cnm/v1/endpoints") == []
    assert world.links("one") == {"lo"}
    assert world.plugin.kept.endpoints == set()


def test_cnmctl_makes_networks_of_a_plugin(world: World) -> None:
    made = world.daemon.cnmctl(
        *("network", "create", "-d", "lp", "--ipam-driver", "lp", "-o", "vlan=7", "--ipam-opt", "a=b", "more")
    )
    assert (made.returncode, made.stderr) == (0, "")
    assert world.plugin.last("CreateNetwork")["Options"]["com.docker.network.generic"] == {"vlan": "7"}
    assert world.plugin.last("RequestPool")["Options"] == {"a": "b"}
    listed = world.daemon.cnmctl(
        "network", "ls", "--filter", "driver=lp", "--format", "{{.Name}} {{.Driver}}"
    )
    assert set(listed.stdout.split("\n")) - {""} == {"far lp", "more lp"}

    unknown = world.daemon.cnmctl("network", "create", "-d", "nosuch", "other")
    assert unknown.returncode == 1
    assert 'could not find network driver "nosuch"' in unknown.stderr


def test_cnmd_does_not_take_itself_for_a_plugin(world: World) -> None:
    status, body = world.daemon.request("POST", "/networks/create", {"Name": "x", "Driver": "cnm"})

    assert status == 400
    assert "plugin cnm is this very cnmd" in body["message"]


def _until(condition: Any) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
