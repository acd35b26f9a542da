"""Hosts of a cluster as namespaces joined by a switch, each with a real cnmd that has its own root and run."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest

from cnm.cluster.home import Home
from cnm.cluster.tunnel_config import interface_name
from cnm.cluster.wireguard_keys import SLOTS
from cnm.errors import NotFound
from cnm.kernel import wireguard_uapi
from netns_fixtures import Topology
from tests.support.cnmd import Cnmd
from tests.support.names_lab import relays, resolvers
from tests.support.unpacked import environment, lacking, program

NEEDS_ETCD = pytest.mark.skipif(lacking("etcd", "etcdctl") != "", reason=lacking("etcd", "etcdctl"))

NEEDS_WIREGUARD = pytest.mark.skipif(lacking("wireguard-go") != "", reason=lacking("wireguard-go"))

PATIENCE = 20.0

T = TypeVar("T")


def world(count: int) -> dict[str, Any]:
    """A switch, and `count` hosts `h1`, `h2`, … on it, each with a gateway that is nobody."""
    hosts: dict[str, Any] = {"switch": {"bridges": {"br0": {}}}}
    links = []
    for number in range(1, count + 1):
        name = f"h{number}"
        hosts[name] = {"routes": [{"destination": "default", "via": "192.0.2.254"}]}
        links.append(
            {
                "ends": [
                    {
                        "host": name,
                        "interface": "eth0",
                        "addresses": [f"192.0.2.{number}/24", f"2001:db8::{number}/64"],
                    },
                    {"host": "switch", "interface": f"to-{name}", "bridge": "br0"},
                ]
            }
        )
    return {"hosts": hosts, "links": links}


class ClusterHost:
    """One host: `cnmctl` talks to its own cnmd."""

    def __init__(self, topology: Topology, place: Path, number: int, config: str = "") -> None:
        self.name = f"h{number}"
        self.address = f"192.0.2.{number}"
        self.net = topology.hosts[self.name]
        etcd = f'etcd = "{program("etcd")}"\nplugins = false\nneighbours = false\n'
        self.cnmd = Cnmd(
            place / self.name,
            partial(self.net.popen, env={**os.environ, **environment()}),
            config or etcd,
        )

    @property
    def home(self) -> Path:
        return self.cnmd.place / "root" / "cluster"

    def start(self) -> None:
        self.cnmd.start()

    def cnmctl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.cnmd.cnmctl("cluster", *arguments)

    def says(self, *arguments: str) -> str:
        """What `cnmctl cluster …` prints, which must succeed."""
        done = self.cnmctl(*arguments)
        assert done.returncode == 0, (
            f"{self.name}: {' '.join(arguments)}: {done.stderr}\n{self.cnmd.log[-3000:]}"
        )
        return done.stdout

    def fails(self, *arguments: str) -> str:
        """The error of `cnmctl cluster …`, one line without who says it."""
        done = self.cnmctl(*arguments)
        assert done.returncode == 1, f"{self.name}: {' '.join(arguments)} did not fail: {done.stdout}"
        (line,) = done.stderr.splitlines()
        return line.removeprefix("Error response from daemon: ")

    def init(self, *flags: str) -> None:
        self.says("init", "--name", self.name, *flags)

    def token(self, *flags: str) -> str:
        return self.says("token", "-q", *flags).strip()

    def join(self, member: ClusterHost, *flags: str) -> str:
        return self.says("join", "--name", self.name, *flags, member.token(), member.address)

    def status(self) -> Any:
        return self.cnmd.ask("GET", "/cnm/v1/cluster")

    def etcd_pids(self) -> list[int]:
        """Of the processes that have this host's data."""
        wanted = f"--data-dir={self.home / 'etcd'}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    if wanted in (entry / "cmdline").read_bytes().split(b"\0"):
                        found.append(int(entry.name))
        return found

    def wireguard_pids(self) -> list[int]:
        """Of the processes that serve this host's tunnels."""
        record = Home(str(self.home.parent)).record()
        names = [interface_name(record.cluster_id, record.name, slot) for slot in SLOTS] if record else []
        found = []
        for name in names:
            with contextlib.suppress(NotFound):
                found.append(wireguard_uapi.owner(name))
        return found

    def kill_etcd(self, number: int = signal.SIGKILL) -> None:
        for pid in self.etcd_pids():
            os.kill(pid, number)

    def die(self) -> None:
        """As a host whose power is cut: nobody is told."""
        self.cnmd.kill()
        self.kill_etcd()
        for pid in (*self.wireguard_pids(), *resolvers(self.cnmd), *relays(self.cnmd)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for path in (self.cnmd.place / "run" / "netns").glob("*"):
            subprocess.run(["umount", "--lazy", str(path)], capture_output=True)
        eventually(lambda: not self.etcd_pids())


class ClusterLab:
    """`h[1]`, `h[2]`, …"""

    def __init__(self, topology: Topology, place: Path, count: int) -> None:
        self.topology = topology
        self.h = {number: ClusterHost(topology, place, number) for number in range(1, count + 1)}

    def start(self) -> None:
        """All at the same time: most of a start is one processor's."""
        with ThreadPoolExecutor() as pool:
            list(pool.map(ClusterHost.start, self.h.values()))

    def close(self) -> None:
        for host in self.h.values():
            host.die()


@contextlib.contextmanager
def cluster_lab(place: Path, count: int) -> Iterator[ClusterLab]:
    """Hosts with a running cnmd that is in no cluster; at the end they are gone, their etcds too."""
    with Topology(world(count)) as topology:
        lab = ClusterLab(topology, place, count)
        try:
            lab.start()
            yield lab
        finally:
            lab.close()


@contextlib.contextmanager
def new_lab(count: int) -> Iterator[ClusterLab]:
    """Hosts that are in no cluster, in a folder of their own."""
    place = short_place()
    try:
        with cluster_lab(place, count) as lab:
            yield lab
    finally:
        drop_place(place)


@contextlib.contextmanager
def joined_lab(members: int, clients: int = 0, outside: int = 0) -> Iterator[ClusterLab]:
    """Hosts of one cluster: members first, then clients; the last `outside` hosts are in none."""
    with new_lab(members + clients + outside) as lab:
        lab.h[1].init()
        for number in range(2, members + 1):
            lab.h[number].join(lab.h[1])
        together([lab.h[members + number] for number in range(1, clients + 1)], _join_as_client(lab.h[1]))
        yield lab


def _join_as_client(member: ClusterHost) -> Any:
    return lambda host: host.join(member, "--client")


def together(items: Sequence[Any], act: Any) -> list[Any]:
    """What `act` returns for each, all at the same time."""
    if not items:
        return []
    with ThreadPoolExecutor(len(items)) as pool:
        return list(pool.map(act, items))


def eventually(check: Callable[[], T], seconds: float = PATIENCE) -> T:
    """What `check` returns once that is true. Raises AssertionError after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        if found := check():
            return found
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s"
        time.sleep(0.05)


def short_place() -> Path:
    """A folder whose path leaves room for a socket's 107 bytes."""
    return Path(tempfile.mkdtemp(prefix="cl", dir="/run"))


def drop_place(place: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)
