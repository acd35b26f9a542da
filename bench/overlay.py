"""`python -m bench.overlay [--quick]`: networks over many hosts. Writes bench/OVERLAY.md.

How soon a new sandbox is reached from everywhere, what ten thousand endpoints elsewhere cost, and what a stream gets
beside the same path made by hand and beside Docker's Swarm.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from bench import overlay_changes, overlay_reach, overlay_throughput
from bench.report import machine, table
from bench.samples import Samples, median, percentile
from netns_fixtures import IsolationError, isolate
from tests.support import unpacked
from tests.support.dockerd import PROGRAMS as DOCKER_PROGRAMS
from tests.support.etcd import PROGRAMS as ETCD_PROGRAMS

_RESULTS = Path(__file__).with_name("OVERLAY.md")
_MEMBERS = (1, 3)
_WAYS = {
    "wire": "the hosts' own interfaces, 1,500 bytes",
    "by hand": "veth, bridge and VXLAN made by hand",
    "cnm": "cnm",
    "swarm": "Docker 20.10 with Swarm",
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.overlay", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two minutes instead of ten")
    parser.add_argument("--output", type=Path, default=_RESULTS, metavar="FILE")
    options = parser.parse_args()
    if lacking := unpacked.lacking("iperf3", *ETCD_PROGRAMS, *DOCKER_PROGRAMS):
        print(f"bench.overlay: {lacking}", file=sys.stderr)
        return 1
    try:
        isolate()
    except IsolationError as error:
        print(f"bench.overlay: {error}", file=sys.stderr)
        return 1
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)  # our own, as all mounts are here
    samples, load = Samples(), os.getloadavg()[0]
    _measure(samples, options.quick)
    loads = f"{load:.1f} at the beginning, {os.getloadavg()[0]:.1f} at the end"
    text = markdown(samples, loads, options.quick)
    options.output.write_text(text)
    print(text)
    return 0


def _measure(samples: Samples, quick: bool) -> None:
    for members in _MEMBERS:
        _say(f"eight hosts, members of etcd: {members}")
        with overlay_reach.hosts(members) as lab:
            overlay_reach.measure(lab, samples, str(members), rounds=20 if quick else 100)
    for members in _MEMBERS:
        _say(f"ten thousand endpoints, members of etcd: {members}")
        overlay_changes.measure(samples, members, rounds=3 if quick else 9, seconds=3 if quick else 10)
    _say("throughput")
    with overlay_throughput.paths() as paths:
        overlay_throughput.measure(paths, samples, rounds=3 if quick else 25, seconds=1)


def _say(words: str) -> None:
    print(f"bench.overlay: {words}", file=sys.stderr, flush=True)


_HEAD = """\
# Networks over many hosts

Written by `python -m bench.overlay{quick}`. All hosts are namespaces of one machine, with real cnmds, real members of
etcd and a switch between them, so that they share its processors.

{machine}

## A new sandbox is reached from everywhere

Eight hosts. On one a sandbox is created and joined to the network by two requests; a sandbox on each of the other
seven asks for its address all the time. Milliseconds from the beginning of the first request. *One more*: the host has
another sandbox in the network; the target is for this, as its prototype was measured. *The first*: it
has none, so that the network's own namespace and tunnel are made, what is on other hosts is read, and a member lets it
write: once for a host and a network. The *floor* is the least that the kernel can be asked for, a
namespace and its link to a bridge (`bench/floor.py`), between the others on the same machine.
"""
_CHANGES = """\
## Ten thousand endpoints on other hosts

A host's agent (the project's own, over the real kernel) beside records of fifty hosts. Changes come {rate:,} a second,
twenty in a transaction of etcd; their time is from asking etcd to the kernel having it.
"""
_THROUGHPUT = """\
## Throughput

One TCP stream between two hosts for a second, and two hundred echoes one after the other; medians of rounds, in each of
which all were measured. Both ends, and so all that the kernel does between them, are on one processor, so that it shows
what a path costs. The networks' MTU is 1,450 bytes. *Ratio*: the median over the rounds.
"""


def markdown(samples: Samples, loads: str, quick: bool) -> str:
    head = _HEAD.format(quick=" --quick" if quick else "", machine=machine(loads))
    reach = table(
        ("members of etcd", "until", "n", "median", "p99", "min", "target", "met"), _reach_rows(samples)
    )
    changes = table(
        ("members of etcd", "what", "n", "median", "p99", "min", "target", "met"), _change_rows(samples)
    )
    throughput = table(
        ("path", "rounds", "Gbit/s", "min", "max", "µs there and back", "ratio to by hand", "target: met"),
        (_throughput_row(samples, name) for name in _WAYS),
    )
    return f"{head}\n{reach}\n{_CHANGES.format(rate=overlay_changes.RATE)}\n{changes}\n{_THROUGHPUT}\n{throughput}"


def _reach_rows(samples: Samples) -> Iterator[tuple[str, ...]]:
    for members in _MEMBERS:
        yield _row(members, "the floor: namespace and attach, no daemon", samples.of(f"{members} floor"))
        for label, which in ((f"{members}", "one more"), (f"{members} anew", "the first")):
            reached = samples.of(f"{label} reached")
            demands = [("p99 ≤ 150", percentile(reached, 0.99) <= 150)]
            if which == "one more":
                demands.insert(0, ("≤ 30", median(reached) <= 30))
            yield _row(members, f"{which}: the requests are answered", samples.of(f"{label} answered"))
            yield _row(members, f"{which}: one other host has an echo", samples.of(f"{label} first"))
            yield _row(members, f"{which}: all seven have", reached, demands)


def _change_rows(samples: Samples) -> Iterator[tuple[str, ...]]:
    for members in _MEMBERS:
        programmed = samples.of(f"{members} programmed")
        cost, reconciled = samples.of(f"{members} change cpu"), samples.of(f"{members} reconciled")
        rate = samples.of(f"{members} rate")[0]
        yield _row(members, "read from etcd, ms", samples.of(f"{members} listed"))
        within = [("≤ 200", median(programmed) <= 200)]
        yield _row(members, "written to the kernel, ms", programmed, within)
        yield _row(members, "entered in all, ms", samples.of(f"{members} entered"))
        yield _row(members, f"followed at {rate:,.0f} changes/s, ms", samples.of(f"{members} lag"))
        cheap = [("≤ 0.2", cost[0] <= 0.2)]
        yield _row(members, "processor time of a change, ms", cost, cheap, digits=3)
        soon = [("≤ 1,000", median(reconciled) <= 1000)]
        yield _row(members, "restart: reconciled, ms", reconciled, soon)
        yield _row(members, "restart with the process's own start, ms", samples.of(f"{members} restart"))


def _row(
    members: int,
    words: str,
    values: list[float],
    demands: Iterable[tuple[str, bool]] = (),
    digits: int = 1,
) -> tuple[str, ...]:
    found = list(demands)
    figures = (median(values), percentile(values, 0.99), min(values))
    return (
        str(members),
        words,
        str(len(values)),
        *(f"{figure:.{digits}f}" for figure in figures),
        ", ".join(asked for asked, _ in found),
        ", ".join("yes" if met else "**no**" for _, met in found),
    )


def _throughput_row(samples: Samples, name: str) -> tuple[str, ...]:
    rates = samples.of(f"throughput {name}")
    beside = median(overlay_throughput.ratios(samples, "throughput", name, "by hand"))
    verdict = f"≥ 0.95: {'yes' if beside >= 0.95 else '**no**'}" if name == "cnm" else ""
    return (
        _WAYS[name],
        str(len(rates)),
        f"{median(rates):.2f}",
        f"{min(rates):.2f}",
        f"{max(rates):.2f}",
        f"{median(samples.of(f'round trip {name}')):.0f}",
        f"{beside:.2f}",
        verdict,
    )


if __name__ == "__main__":
    sys.exit(main())
