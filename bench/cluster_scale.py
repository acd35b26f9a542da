"""`python -m bench.cluster_scale [--quick]`: a thousand hosts as etcd sees them, one host's agent that knows a hundred
thousand endpoints, and what follows for other clusters.

Three members of etcd and a thousand watchers share this machine. Writes bench/SCALE.md.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bench import cluster_population as population
from bench import processor
from bench.child import Child
from bench.cluster_agent import agent
from bench.cluster_simulation import CLUSTERS, fitted, simulated
from bench.cluster_watchers import Watchers
from bench.report import machine, table
from bench.samples import Samples, median, percentile
from cnm.cluster.etcd.client import Client
from cnm.cluster.etcd.contract import EtcdError, Put
from netns_fixtures import IsolationError, isolate
from tests.support import unpacked
from tests.support.etcd import PROGRAMS, EtcdCluster, running_etcd

_RESULTS = Path(__file__).with_name("SCALE.md")
_MEMBERS = 3
_SETTLE_SECONDS = 3.0


class Size(NamedTuple):
    """How much is measured."""

    hosts: int = 1000
    near: int = 8
    """Hosts of one network, where networks have few."""
    entries: int = 100_000
    changes: int = 40
    seconds: int = 10


class Watched(NamedTuple):
    """One way in which networks are spread over hosts."""

    words: str
    watchers: int
    rate: float
    """Changes a second that were asked for."""
    changes: int
    deliveries: int
    took: float
    """Seconds of the members' processors, above what they take at rest."""


class Footprint(NamedTuple):
    """Of the members: resident MiB in all, and percent of a core while nothing happens."""

    watchers: int
    resident: float
    idle: float


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.cluster_scale", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of everything")
    parser.add_argument("--output", type=Path, default=_RESULTS, metavar="FILE")
    options = parser.parse_args()
    if lacking := unpacked.lacking(*PROGRAMS):
        print(f"bench.cluster_scale: {lacking}", file=sys.stderr)
        return 1
    try:
        isolate()
    except IsolationError as error:
        print(f"bench.cluster_scale: {error}", file=sys.stderr)
        return 1
    size = Size(hosts=100, entries=10_000, changes=10, seconds=3) if options.quick else Size()
    samples, load = Samples(), os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="cnm-bench-") as directory:
        place = Path(directory)
        with running_etcd(place / "etcd", _MEMBERS) as etcd:
            footprints, watched = _measure_watchers(etcd, samples, size)
            memory = _measure_agent(etcd, place, samples, size)
    loads = f"{load:.1f} at the beginning, {os.getloadavg()[0]:.1f} at the end"
    text = markdown(samples, footprints, watched, memory, size, loads)
    options.output.write_text(text)
    print(text)
    return 0


def _say(words: str) -> None:
    print(f"bench.cluster_scale: {words}", file=sys.stderr, flush=True)


def _root(etcd: EtcdCluster) -> Client:
    pems = [(etcd.place / name).read_bytes() for name in ("ca.pem", "root.pem", "root-key.pem")]
    return Client(etcd.endpoints, *pems)


def _measure_watchers(
    etcd: EtcdCluster, samples: Samples, size: Size
) -> tuple[list[Footprint], list[Watched]]:
    root, watched = _root(etcd), []
    footprints = [_footprint(etcd, 0, size.seconds)]
    flat = [population.ident("flat")] * size.hosts
    near = [population.ident("near", number // size.near) for number in range(size.hosts)]
    for words, networks, rates in (("one network", flat, (1, 4)), ("many networks", near, (20, 100))):
        _say(f"{size.hosts} watchers on {words}")
        with Watchers(etcd.place, etcd.endpoints) as watchers:
            samples.add(f"{words} opened", watchers.open(networks) * 1000)
            footprints.append(_footprint(etcd, size.hosts, size.seconds))
            for rate in rates:
                idle = footprints[-1].idle / 100
                watched.append(_watched(etcd, root, watchers, samples, words, networks, rate, size, idle))
    root.close()
    return footprints, watched


def _footprint(etcd: EtcdCluster, watchers: int, seconds: float) -> Footprint:
    time.sleep(_SETTLE_SECONDS)
    before, start = _seconds(etcd), time.monotonic()
    time.sleep(seconds)
    idle = 100 * (_seconds(etcd) - before) / (time.monotonic() - start)
    return Footprint(watchers, sum(_resident(member.process.pid) for member in etcd.members), idle)


def _watched(
    etcd: EtcdCluster,
    root: Client,
    watchers: Watchers,
    samples: Samples,
    words: str,
    networks: Sequence[str],
    rate: int,
    size: Size,
    idle: float,
) -> Watched:
    """Endpoints come, one a change, on networks in turn. `idle`: what the members take without them, of a core."""
    count = size.changes if rate < 20 else rate * size.seconds
    distinct = list(dict.fromkeys(networks))
    put: dict[str, float] = {}
    before, delivered = _seconds(etcd), watchers.deliveries()
    began = time.monotonic()
    for number in range(count):
        time.sleep(max(0.0, began + number / rate - time.monotonic()))
        operation = population.endpoint(distinct[number % len(distinct)], 1, number)
        put[operation.key] = time.monotonic()
        _put(root, operation)
    expected = {key: sum(1 for each in networks if f"/{each}/" in key) for key in put}
    heard = _all_heard(watchers, expected)
    total = watchers.deliveries() - delivered
    for key, when in put.items():
        times = [(each - when) * 1000 for each in heard[key]]
        samples.add(f"{words} {rate} each", median(times))
        samples.add(f"{words} {rate} last", max(times))
    took = _seconds(etcd) - before - idle * (time.monotonic() - began)
    return Watched(words, len(networks), rate, count, total, took)


def _put(root: Client, operation: Put) -> None:
    """The members have no processor for themselves: an answer may take longer than the client waits."""
    while True:
        with contextlib.suppress(EtcdError):
            root.put(operation.key, operation.value)
            return


def _all_heard(watchers: Watchers, expected: dict[str, int]) -> dict[str, list[float]]:
    heard: dict[str, list[float]] = {}
    deadline = time.monotonic() + 60
    while any(len(heard.get(key, ())) < times for key, times in expected.items()):
        if time.monotonic() > deadline:
            raise RuntimeError("some watchers did not hear of a change")
        time.sleep(0.2)
        for key, times in watchers.heard().items():
            heard.setdefault(key, []).extend(times)
    return heard


def _measure_agent(etcd: EtcdCluster, place: Path, samples: Samples, size: Size) -> dict[str, float]:
    """One host in a network with everybody else; resident MiB before and after."""
    _say(f"an agent that knows {size.entries:,} endpoints")
    root, network, namespace = _root(etcd), population.ident("large"), str(place / "overlay")
    population.founded(root)
    population.write(root, population.nodes(size.hosts))
    population.write(root, population.endpoints(network, size.hosts, size.entries))
    try:
        with agent(etcd.place, etcd.endpoints) as host:
            empty = host.ask("begin")["resident"]
            told = host.ask("enter", namespace, network)
            for part in ("seconds", "listed", "wrote", "cpu"):
                samples.add(f"agent {part}", told[part] * 1000)
            full = host.ask("figures")
            host.ask("written")
            _changes(root, host, samples, network, size)
            host.kill()
        with agent(etcd.place, etcd.endpoints) as host:
            host.ask("figures")
            began = time.monotonic()
            host.ask("begin", namespace, network)
            samples.add("agent restart", (time.monotonic() - began) * 1000)
            host.kill()
    finally:
        subprocess.run(["umount", "--lazy", namespace], capture_output=True)
        root.close()
    members = sum(_resident(member.process.pid) for member in etcd.members)
    return {"empty": empty, "full": full["resident"], "most": full["most"], "members": members}


def _changes(root: Client, host: Child, samples: Samples, network: str, size: Size) -> None:
    """Single ones, while so many others are known."""
    for number in range(size.entries + 1, size.entries + 1 + size.changes):
        operation = population.endpoint(network, 2, number)
        now = time.monotonic()
        root.put(operation.key, operation.value)
        written: dict[str, float] = {}
        while not written:
            written = host.ask("written")
        samples.add("agent change", (min(written.values()) - now) * 1000)


def _seconds(etcd: EtcdCluster) -> float:
    return sum(processor.seconds(member.process.pid) for member in etcd.members)


def _resident(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"process {pid} has ended")


_HEAD = """\
# A large cluster

Written by `python -m bench.cluster_scale`. Three members of etcd and {hosts:,} hosts are processes of one machine, so
that nobody has a processor for itself; what was measured of a delivery's time is mostly the watchers' own. A host is a
gRPC connection with TLS and a watch (`bench/cluster_watchers.py`); what the members' processors take is theirs alone.

{machine}
"""


def markdown(
    samples: Samples,
    footprints: Sequence[Footprint],
    watched: Sequence[Watched],
    memory: dict[str, float],
    size: Size,
    loads: str,
) -> str:
    each = (footprints[1].resident - footprints[0].resident) * 1024 / size.hosts
    members = table(
        ("hosts that watch", "members' memory, MiB", "members' processors at rest, % of a core"),
        [(f"{one.watchers:,}", f"{one.resident:.0f}", f"{one.idle:.1f}") for one in footprints],
    )
    rows = [_watched_row(one, samples) for one in watched]
    deliveries = table(
        ("networks", "changes/s", "deliveries", "µs a delivery", "ms, median host", "ms, last host", "p99"),
        rows,
    )
    knows = table(
        (f"an agent that enters a network of {size.entries:,} endpoints", "unit", ""),
        [
            ("all reached after", "s", f"{median(samples.of('agent seconds')) / 1000:.2f}"),
            ("of it: read from etcd", "s", f"{median(samples.of('agent listed')) / 1000:.2f}"),
            ("of it: written to the kernel", "s", f"{median(samples.of('agent wrote')) / 1000:.2f}"),
            ("its processor time", "s", f"{median(samples.of('agent cpu')) / 1000:.2f}"),
            ("one more endpoint", "ms", f"{median(samples.of('agent change')):.1f}"),
            ("a restart, compared with the kernel", "s", f"{median(samples.of('agent restart')) / 1000:.2f}"),
            ("memory before", "MiB", f"{memory['empty']:.0f}"),
            ("memory with them", "MiB", f"{memory['full']:.0f}"),
            ("the most it had", "MiB", f"{memory['most']:.0f}"),
            ("memory of the members", "MiB", f"{memory['members']:.0f}"),
        ],
    )
    costs = fitted([(one.changes, one.deliveries, one.took) for one in watched])
    simulation = table(
        (
            "networks",
            "endpoints near each other",
            "hosts a change",
            "endpoints a host knows",
            "deliveries/s at 100 changes/s",
            "members' cores",
        ),
        [simulated(cluster, costs) for cluster in CLUSTERS],
    )
    opened = ", ".join(
        f"{words} {median(samples.of(f'{words} opened')) / 1000:.1f} s"
        for words in ("one network", "many networks")
    )
    return (
        f"{_HEAD.format(hosts=size.hosts, machine=machine(loads))}\n{members}\n"
        f"A host that watches costs the members {each:.0f} KiB. All come at once, and hear of changes after: "
        f"{opened}.\n\n"
        f"{deliveries}\n{knows}\n"
        f"1,000 hosts with 100,000 endpoints, computed from {costs.change:.0f} µs a change and "
        f"{costs.delivery:.0f} µs a delivery, which fit what was measured best:\n\n{simulation}"
    )


def _watched_row(one: Watched, samples: Samples) -> tuple[str, ...]:
    name = f"{one.words} {one.rate:g}"
    late = samples.of(f"{name} last")
    return (
        one.words,
        f"{one.rate:g}",
        f"{one.deliveries:,}",
        f"{one.took * 1e6 / one.deliveries:.0f}",
        f"{median(samples.of(f'{name} each')):.1f}",
        f"{median(late):.1f}",
        f"{percentile(late, 0.99):.0f}",
    )


if __name__ == "__main__":
    sys.exit(main())
