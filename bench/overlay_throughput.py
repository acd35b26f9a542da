"""TCP between two hosts through cnm's overlay, through the same path made by hand, and through Docker's Swarm overlay.

Six hosts on one switch, two for each; in every round all paths are measured, in an order that chance decides.
"""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from bench.samples import Samples
from netns_fixtures import Host, Topology
from tests.cluster.hosts import ClusterLab, drop_place, short_place, world
from tests.support.dockerd import Dockerd, make_image, start_dockerd
from tests.support.unpacked import environment, program

MTU = 1450
_NETWORK = "path"
_VNI = "4001"
_SETTLE_SECONDS = 0.2
_ONE_PROCESSOR = "0,0"
"""Of client and server, and so of all the kernel does in between: what a path costs shows, and not where the scheduler
puts its ends, which is worth a third of the throughput from one run to the next."""


class Way(NamedTuple):
    """Two namespaces, and the second one's address."""

    client: Host
    server: Host
    address: str


@contextlib.contextmanager
def paths() -> Iterator[dict[str, Way]]:
    """By name: `wire` (the hosts themselves, no overlay), `cnm`, `by hand`, `swarm`."""
    place = short_place()
    try:
        with Topology(world(6)) as topology, contextlib.ExitStack() as stack:
            hosts = topology.hosts
            yield {
                "wire": Way(hosts["h3"], hosts["h4"], "192.0.2.4"),
                "by hand": by_hand(topology, "h3", "h4"),
                "cnm": stack.enter_context(_cnm(topology, place)),
                "swarm": stack.enter_context(_swarm(topology, place, "h5", "h6")),
            }
    finally:
        drop_place(place)


@contextlib.contextmanager
def _cnm(topology: Topology, place: Path) -> Iterator[Way]:
    """On h1 and h2."""
    lab = ClusterLab(topology, place, 2)
    try:
        lab.start()
        lab.h[1].init()
        lab.h[2].join(lab.h[1], "--client")
        lab.h[1].cnmd.create_network(_NETWORK, Driver="overlay")
        boxes, addresses = [], []
        for number, host in lab.h.items():
            box = host.cnmd.create_sandbox(f"box{number}")
            addresses.append(str(_connected(lab, number)["IPv4Address"]).partition("/")[0])
            boxes.append(Host(f"box{number}", box["NetnsPath"]))
        yield Way(boxes[0], boxes[1], addresses[1])
    finally:
        lab.close()


def _connected(lab: ClusterLab, number: int) -> dict[str, object]:
    cnmd = lab.h[number].cnmd
    deadline = time.monotonic() + 10
    while cnmd.request("GET", f"/networks/{_NETWORK}")[0] != 200:
        if time.monotonic() > deadline:
            raise RuntimeError(f"host {number} does not hear of the network")
        time.sleep(0.01)
    return dict(cnmd.connect(_NETWORK, f"box{number}"))


def by_hand(topology: Topology, *names: str) -> Way:
    """veth, bridge and VXLAN in the hosts' own namespaces, with all entries written."""
    boxes = []
    for number, name in enumerate(names, 1):
        host, other = topology.hosts[name], topology.hosts[names[2 - number]]
        box = f"{name}-box"
        local, remote = host.address("eth0"), other.address("eth0")
        for line in (
            "link add br1 type bridge",
            f"link set br1 mtu {MTU} up",
            f"link add vx1 mtu {MTU} master br1 type vxlan id {_VNI} local {local} dstport 4789 nolearning",
            "link set vx1 up",
        ):
            host.run(["ip", *line.split()])
        host.run(["bridge", "fdb", "append", "00:00:00:00:00:00", "dev", "vx1", "dst", remote, "self"])
        holder = host.popen(["unshare", "--net", "sleep", "infinity"])
        boxes.append(_box_by_hand(host, box, holder.pid, f"10.99.0.{number}/24"))
    return Way(boxes[0], boxes[1], "10.99.0.2")


def _box_by_hand(host: Host, name: str, pid: int, address: str) -> Host:
    time.sleep(_SETTLE_SECONDS)  # until it has its namespace
    box = Host(name, f"/proc/{pid}/ns/net")
    host.run(["ip", "link", "add", "cv1", "mtu", str(MTU), "master", "br1", "type", "veth",
              "peer", "name", "eth0", "mtu", str(MTU), "netns", str(pid)])  # fmt: skip
    host.run(["ip", "link", "set", "cv1", "up"])
    for line in ("link set lo up", "link set eth0 up", f"address add {address} dev eth0"):
        box.run(["ip", *line.split()])
    return box


@contextlib.contextmanager
def _swarm(topology: Topology, place: Path, *names: str) -> Iterator[Way]:
    with contextlib.ExitStack() as stack:
        daemons = [
            stack.enter_context(start_dockerd(place / f"docker-{name}", popen=topology.hosts[name].popen))
            for name in names
        ]
        first, second = daemons
        address = topology.hosts[names[0]].address("eth0")
        first.docker("swarm", "init", "--advertise-addr", address)
        token = first.docker("swarm", "join-token", "-q", "worker")
        second.docker("swarm", "join", "--token", token, f"{address}:2377")
        first.docker("network", "create", "-d", "overlay", "--attachable", _NETWORK)
        boxes, bare = [], ""
        for daemon in daemons:
            image = make_image(daemon)
            daemon.docker(
                "run",
                "--detach",
                "--name",
                f"box{len(boxes)}",
                "--network",
                _NETWORK,
                image,
                "sleep",
                "100000",
            )
            pid, bare = _inspected(daemon, f"box{len(boxes)}")
            boxes.append(Host(f"swarm{len(boxes)}", f"/proc/{pid}/ns/net"))
        try:
            yield Way(boxes[0], boxes[1], bare)
        finally:
            for number, daemon in enumerate(daemons):
                daemon.docker("rm", "--force", f"box{number}")


def _inspected(daemon: Dockerd, container: str) -> tuple[str, str]:
    """(pid, address in the network)."""
    template = f'{{{{.State.Pid}}}} {{{{(index .NetworkSettings.Networks "{_NETWORK}").IPAddress}}}}'
    pid, address = daemon.docker("inspect", "--format", template, container).split()
    return pid, address


def measure(paths: dict[str, Way], samples: Samples, *, rounds: int, seconds: int) -> None:
    """`throughput {name}`: Gbit/s of one TCP stream; `round trip {name}`: microseconds of one echo after another."""
    order = random.Random(1)
    for path in paths.values():
        if not path.client.ping(path.address, timeout=5):
            raise RuntimeError(f"{path.client.name} does not reach {path.address}")
    for _ in range(rounds):
        for name in order.sample(sorted(paths), len(paths)):
            samples.add(f"throughput {name}", _throughput(paths[name], seconds))
            samples.add(f"round trip {name}", _round_trip(paths[name]))


def _throughput(path: Way, seconds: int) -> float:
    iperf = str(program("iperf3"))
    server = path.server.popen([iperf, "--server", "--one-off"], env=environment(), stdout=subprocess.DEVNULL)
    time.sleep(_SETTLE_SECONDS)
    command = [
        iperf,
        "--client",
        path.address,
        "--time",
        str(seconds),
        "--affinity",
        _ONE_PROCESSOR,
        "--json",
    ]
    told = json.loads(path.client.run(command, timeout=seconds + 20, env=environment()).stdout)
    server.close()
    return float(told["end"]["sum_received"]["bits_per_second"]) / 1e9


def _round_trip(path: Way) -> float:
    command = ["ping", "-q", "-c", "200", "-i", "0.002", path.address]
    line = path.client.run(command).stdout.strip().splitlines()[-1]
    return float(line.partition(" = ")[2].split("/")[1]) * 1000


def ratios(samples: Samples, sort: str, name: str, beside: str) -> Sequence[float]:
    """Round by round."""
    pairs = zip(samples.of(f"{sort} {name}"), samples.of(f"{sort} {beside}"), strict=True)
    return [value / other for value, other in pairs]
