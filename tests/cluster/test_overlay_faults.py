"""Overlay networks while processes, hosts and links fail: what goes on, what fails fast, what comes back."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cnm.cluster import keys
from netns_fixtures import Host, NetnsError
from tests.cluster.boxes import Box, agreed, bridge_entries, compact, create, disagreement, etcd, records
from tests.cluster.hosts import NEEDS_ETCD, ClusterHost, ClusterLab, eventually, joined_lab

pytestmark = [pytest.mark.root, NEEDS_ETCD]

AT_ONCE = 3.0
"""Seconds in which a command says that it cannot be done, on a busy machine; a lone one takes one."""


class World:
    """A cluster of three members and a client, h4, with one network that has a box on each of them."""

    def __init__(self, lab: ClusterLab) -> None:
        self.lab, self.h = lab, lab.h
        self.wire: Host = lab.topology.hosts["switch"]
        self.network = create(list(self.h.values()), "web", Internal=True)
        self.boxes = {number: Box(host, f"box{number}", "web") for number, host in self.h.items()}

    def settled(self) -> None:
        """Returns once kernel, daemons and etcd agree, and every pair of boxes does."""
        agreed(self.disagreement)
        for one in self.boxes.values():
            for other in self.boxes.values():
                assert one.ping(other.ipv4), f"{one.name} -> {other.name}"

    def disagreement(self) -> list[str]:
        try:
            return disagreement(self.h[1], list(self.h.values()), [self.network])
        except (
            AssertionError,
            OSError,
            NetnsError,
        ) as error:  # etcd or a daemon is not back: shown where it lasts
            return [str(error)]

    @contextmanager
    def cut(self, *numbers: int) -> Iterator[None]:
        """These hosts' links are down for the block."""
        for number in numbers:
            self.wire.run(["ip", "link", "set", f"to-h{number}", "down"])
        try:
            yield
        finally:
            for number in numbers:
                self.wire.run(["ip", "link", "set", f"to-h{number}", "up"])

    def ends_at(self, number: int) -> set[str]:
        """Where the tunnel of the network leads to from there."""
        return {entry["dst"] for entry in bridge_entries(self.h[number], self.network) if "dst" in entry}


@pytest.fixture(scope="module")
def _world() -> Iterator[World]:
    with joined_lab(members=3, clients=1) as lab:
        yield World(lab)


@pytest.fixture
def world(_world: World) -> Iterator[World]:
    """Everything is well before each test, and after it."""
    _world.settled()
    yield _world
    _world.settled()


def refused(host: ClusterHost, name: str) -> str:
    """Why a sandbox cannot be connected now, which is said at once; nothing of it is left."""
    host.cnmd.create_sandbox(name)
    began = time.monotonic()
    body = {"Container": name, "EndpointConfig": {}}
    status, answer = host.cnmd.request("POST", "/networks/web/connect", body)
    took = time.monotonic() - began
    assert status >= 500, answer
    assert took < AT_ONCE
    assert host.cnmd.ask("GET", f"/cnm/v1/endpoints?sandbox={name}") == []
    host.cnmd.ask("DELETE", f"/cnm/v1/sandboxes/{name}")
    return str(answer["message"])


# Processes


def test_packets_flow_while_a_cnmd_is_killed_and_it_knows_everything_afterwards(world: World) -> None:
    one, other = world.boxes[1], world.boxes[4]
    world.h[4].cnmd.kill()

    assert one.ping(other.ipv4)
    assert other.ping(one.ipv4)
    came = Box(world.h[1], "came", "web")
    world.h[4].start()

    eventually(lambda: other.ping(came.ipv4, timeout=0.5))
    assert came.ipv4 in other.run("getent", "hosts", "came").stdout
    came.remove()


def test_a_killed_member_of_etcd_stops_nothing(world: World) -> None:
    world.h[2].kill_etcd()

    came = Box(world.h[2], "came", "web")
    assert came.ping(world.boxes[1].ipv4)
    assert world.boxes[4].ping(came.ipv4)

    came.remove()


def test_a_frozen_member_of_etcd_stops_nothing(world: World) -> None:
    world.h[2].kill_etcd(signal.SIGSTOP)
    try:
        came = eventually(lambda: came_in(world.h[4], "came"))
        assert came.ping(world.boxes[1].ipv4)
        assert world.boxes[2].ping(came.ipv4)
    finally:
        world.h[2].kill_etcd(signal.SIGCONT)

    came.remove()


def came_in(host: ClusterHost, name: str) -> Box | None:
    """A box, where its host can have one: a frozen leader makes an election."""
    try:
        return Box(host, name, "web")
    except AssertionError:
        host.cnmd.ask("DELETE", f"/cnm/v1/sandboxes/{name}?force=1")
        return None


# The majority


def test_without_a_majority_packets_flow_and_a_claim_is_refused_at_once(world: World) -> None:
    gone = Box(world.h[1], "gone", "web")
    for number in (2, 3):
        world.h[number].kill_etcd(signal.SIGSTOP)
    try:
        words = refused(world.h[1], "late")
        assert "etcd" in words
        assert "\n" not in words
        assert world.boxes[1].ping(world.boxes[4].ipv4)
        assert world.boxes[2].ping(world.boxes[3].ipv4)
        gone.remove()
        assert (
            world.h[1].cnmd.request("POST", "/networks/create", {"Name": "n", "Driver": "overlay"})[0] >= 500
        )
        assert world.h[1].cnmd.request("GET", "/networks/n")[0] == 404
        assert world.h[1].cnmd.request("DELETE", "/networks/web")[0] >= 400
    finally:
        for number in (2, 3):
            world.h[number].kill_etcd(signal.SIGCONT)

    eventually(lambda: came_in(world.h[1], "late")).remove()
    eventually(lambda: "gone" not in names(world) and "late" not in names(world))


def names(world: World) -> set[str]:
    """Of all endpoints, as etcd has them."""
    found = records(world.h[1], keys.endpoints(world.network))
    return {shared["names"][0] for shared in found.values()}


# Links and hosts


def test_a_host_behind_a_cut_link_is_given_up_and_comes_back(world: World) -> None:
    gone = Box(world.h[4], "gone", "web")
    with world.cut(4):
        assert not world.boxes[1].ping(world.boxes[4].ipv4, timeout=0.3)
        came = Box(world.h[1], "came", "web")
        gone.remove()
        assert "etcd" in refused(world.h[4], "late")
        eventually(lambda: world.ends_at(1) == {"192.0.2.2", "192.0.2.3"})
        assert world.boxes[1].run("getent", "hosts", "box4").returncode == 2
        assert world.boxes[1].ping(world.boxes[2].ipv4)
        assert world.ends_at(4) == {"192.0.2.1", "192.0.2.2", "192.0.2.3"}  # it forgets nobody

    eventually(lambda: world.boxes[4].ping(came.ipv4, timeout=0.5))
    eventually(lambda: names(world) == {"box1", "box2", "box3", "box4", "came"})
    came.remove()


def test_both_sides_of_a_partition_agree_after_it(world: World) -> None:
    left = Box(world.h[2], "left", "web")
    with world.cut(2):
        assert "etcd" in refused(world.h[2], "late")
        left.remove()
        new = Box(world.h[3], "new", "web")
        assert new.ping(world.boxes[1].ipv4)

    eventually(lambda: world.boxes[2].ping(new.ipv4, timeout=0.5))
    eventually(lambda: names(world) == {"box1", "box2", "box3", "box4", "new"})
    new.remove()


def test_a_host_that_died_returns_with_its_sandboxes(world: World) -> None:
    world.h[3].die()
    eventually(lambda: "192.0.2.3" not in world.ends_at(1))
    came = Box(world.h[4], "came", "web")
    assert came.ipv4 != world.boxes[3].ipv4

    world.h[3].start()

    world.boxes[3] = renewed(world.boxes[3])
    eventually(lambda: world.boxes[3].ping(came.ipv4, timeout=0.5))
    assert came.ping(world.boxes[3].ipv4)
    came.remove()


def renewed(box: Box) -> Box:
    """A box whose namespace was made anew."""
    box.net.close()
    box.net = Host(box.net.name, box.sandbox["NetnsPath"])
    return box


def test_a_watch_whose_history_is_gone_is_followed_by_what_there_is(world: World) -> None:
    gone = Box(world.h[1], "gone", "web")
    eventually(lambda: world.boxes[4].ping(gone.ipv4))
    with world.cut(4):
        eventually(lambda: world.h[4].status()["State"] != "ready")  # a shorter cut is TCP's affair
        gone.remove()
        came = Box(world.h[1], "came", "web")
        revision = etcd(world.h[1], "get", "/cnm/v1/cluster")["header"]["revision"]
        compact(world.h[1], revision)

    eventually(lambda: world.boxes[4].ping(came.ipv4, timeout=0.5))
    agreed(world.disagreement)
    assert "the watch is over (compacted): everything is read again" in world.h[4].cnmd.log
    assert world.boxes[4].run("getent", "hosts", "gone").returncode == 2
    came.remove()


def test_a_host_that_returns_with_an_old_state_takes_nobodys_address(world: World) -> None:
    host, root = world.h[4], world.h[4].cnmd.place / "root"
    old = Box(host, "old", "web")
    host.cnmd.stop()
    shutil.copytree(root, root.with_name("before"))
    host.start()
    eventually(lambda: host.status()["State"] == "ready")
    old.remove()
    holder = Box(world.h[1], "holder", "web", IPAMConfig={"IPv4Address": old.ipv4})

    host.die()
    shutil.rmtree(root)
    root.with_name("before").rename(root)
    host.start()

    world.boxes[4] = renewed(world.boxes[4])
    eventually(lambda: world.boxes[4].ping(world.boxes[2].ipv4, timeout=0.5))
    assert world.boxes[2].ping(holder.ipv4)
    eventually(lambda: [line for line in warnings(host) if f"address {old.ipv4} of this host" in line])
    host.cnmd.ask("DELETE", "/cnm/v1/sandboxes/old?force=1")
    eventually(lambda: world.boxes[4].ping(holder.ipv4, timeout=0.5))
    assert records(world.h[1], keys.address("10.0.0.0/24", holder.ipv4))[""]["node"] == "h1"
    holder.remove()


def warnings(host: ClusterHost) -> list[str]:
    return host.cnmd.cnmctl("status").stderr.splitlines()
