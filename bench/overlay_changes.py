"""What a host's agent makes of changes elsewhere: ten thousand endpoints at once, a thousand a second, a restart.

The agent is the project's own, over the real kernel and real members of etcd (`bench.cluster_agent`); the other hosts
are records only.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from pathlib import Path

from bench import cluster_population as population
from bench.child import Child
from bench.cluster_agent import agent
from bench.samples import Samples
from cnm.cluster.etcd.client import Client
from cnm.mac import generate_mac
from tests.support.etcd import EtcdCluster, running_etcd

ENDPOINTS = 10_000
_HOSTS = 50
RATE = 1000
"""Changes a second."""
_BATCH_SECONDS = 0.02
"""Changes are written so often: a writer that waited for each alone would not reach the rate."""
_WAIT_SECONDS = 20.0


def measure(samples: Samples, members: int, *, rounds: int, seconds: int) -> None:
    """With so many members of etcd: `{members} programmed` and its parts, `{members} lag`, `{members} change cpu`,
    `{members} restart`, `{members} began`; milliseconds all."""
    with tempfile.TemporaryDirectory(prefix="cnm-bench-") as directory:
        place = Path(directory)
        with running_etcd(place / "etcd", members) as etcd:
            root = _root(etcd)
            try:
                population.founded(root)
                population.write(root, population.nodes(_HOSTS))
                network = population.ident("network")
                population.write(root, population.endpoints(network, _HOSTS, ENDPOINTS))
                namespace = str(place / "overlay")
                _measure_programming(samples, etcd, namespace, network, members, rounds)
                _measure_restarts(samples, etcd, namespace, network, members, rounds)
                _measure_following(samples, etcd, root, namespace, network, members, seconds)
            finally:
                root.close()
                subprocess.run(["umount", "--lazy", str(place / "overlay")], capture_output=True)


def _root(etcd: EtcdCluster) -> Client:
    pems = [(etcd.place / name).read_bytes() for name in ("ca.pem", "root.pem", "root-key.pem")]
    return Client(etcd.endpoints, *pems)


def _measure_programming(
    samples: Samples, etcd: EtcdCluster, namespace: str, network: str, members: int, rounds: int
) -> None:
    with agent(etcd.place, etcd.endpoints) as host:
        host.ask("begin")
        for _ in range(rounds):
            told = host.ask("enter", namespace, network)
            samples.add(f"{members} entered", told["seconds"] * 1000)
            samples.add(f"{members} listed", told["listed"] * 1000)
            samples.add(f"{members} programmed", told["wrote"] * 1000)
            host.ask("exit", namespace, network)


def _measure_following(
    samples: Samples,
    etcd: EtcdCluster,
    root: Client,
    namespace: str,
    network: str,
    members: int,
    seconds: int,
) -> None:
    """Endpoints come and move between hosts, `RATE` a second."""
    with agent(etcd.place, etcd.endpoints) as host:
        host.ask("begin")
        host.ask("enter", namespace, network)
        host.ask("written")
        before = host.ask("figures")
        put = _write_steadily(root, network, RATE * seconds)
        written = _all_written(host, put)
        after = host.ask("figures")
        for mac, when in put.items():
            samples.add(f"{members} lag", (written[mac] - when) * 1000)
        samples.add(f"{members} change cpu", (after["cpu"] - before["cpu"]) * 1000 / len(put))
        samples.add(f"{members} rate", len(put) / (max(put.values()) - min(put.values())))


def _write_steadily(root: Client, network: str, count: int) -> dict[str, float]:
    """When each was asked of etcd, by MAC."""
    share, put = int(RATE * _BATCH_SECONDS), {}
    began = time.monotonic()
    for start in range(0, count, share):
        time.sleep(max(0.0, began + start / RATE - time.monotonic()))
        numbers = range(ENDPOINTS + 1 + start, ENDPOINTS + 1 + start + share)
        now = time.monotonic()
        root.transact(
            (), [population.endpoint(network, 2 + number % (_HOSTS - 1), number) for number in numbers]
        )
        put.update({generate_mac(f"{population.address(number)}/10", ""): now for number in numbers})
    return put


def _all_written(host: Child, put: dict[str, float]) -> dict[str, float]:
    written: dict[str, float] = {}
    deadline = time.monotonic() + _WAIT_SECONDS
    while put.keys() - written.keys():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{len(put.keys() - written.keys())} changes were not followed")
        time.sleep(0.2)
        written |= host.ask("written")
    return written


def _measure_restarts(
    samples: Samples, etcd: EtcdCluster, namespace: str, network: str, members: int, rounds: int
) -> None:
    """The network is in the kernel: a new process reads what the cluster has and what the kernel has, and compares."""
    with agent(etcd.place, etcd.endpoints) as host:
        host.ask("begin")
        host.ask("enter", namespace, network)
        host.kill()  # without a farewell: what it wrote stays for the next
    for _ in range(rounds):
        began = time.monotonic()
        with agent(etcd.place, etcd.endpoints) as host:
            host.ask("figures")  # it has started
            start = time.monotonic()
            host.ask("begin", namespace, network)
            now = time.monotonic()
            samples.add(f"{members} restart", (now - began) * 1000)
            samples.add(f"{members} reconciled", (now - start) * 1000)
            host.kill()
    with agent(etcd.place, etcd.endpoints) as host:
        host.ask("begin", namespace, network)
        host.ask("exit", namespace, network)


__all__ = ["ENDPOINTS", "RATE", "measure"]
