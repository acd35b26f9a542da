"""`python -m bench.names [--quick]`: how fast names are answered, beside aardvark-dns, dnsmasq and Docker's resolver.

dnsperf asks, in the namespace that is served. It has a processor of its own; the server has the other one. All are
asked in turn, in rounds. Writes bench/NAMES.md.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench import name_servers
from bench.dns_clients import OUTSTANDING, dnsperf, light
from bench.name_servers import NAMES, NETWORK, Server
from bench.report import machine, table
from bench.samples import Samples, median
from netns_fixtures import IsolationError, isolate
from tests.support import unpacked
from tests.support.names_lab import NamesLab, eventually, running_names_lab

_RESULTS = Path(__file__).with_name("NAMES.md")
_SERVER, _CLIENT = 0, 1
"""Processors."""
_TARGET_RATE, _TARGET_MICROSECONDS = 60_000, 120
_STEADY_RATE = 5000
"""Queries a second while sandboxes come and go: far below what is possible, so that what takes longer shows."""


def measure(server: Server, samples: Samples, seconds: int) -> None:
    """As many as it can on one processor, then one after the other."""
    server.run_on({_SERVER})
    many = dnsperf(server.target, seconds, OUTSTANDING, processor=_CLIENT)
    one = dnsperf(server.target, seconds, 1, processor=_CLIENT)
    samples.add(f"{server.title} rate", many.rate)
    samples.add(f"{server.title} one", one.average)
    samples.add(f"{server.title} lost", many.lost + one.lost)


def measure_processors(server: Server, samples: Samples, seconds: int) -> None:
    for processors in ({_SERVER}, {_SERVER, _CLIENT}):
        server.run_on(processors)
        rate = light(server.target, seconds, processor=_CLIENT)
        samples.add(f"{len(processors)} processors", rate)


def measure_changes(lab: NamesLab, server: Server, samples: Samples, seconds: int) -> None:
    """With nobody coming or going, then with as many as one client can make come and go."""
    server.run_on({_SERVER, _CLIENT})
    lab.sandbox("guest")
    for kind, changing in (("still", contextlib.nullcontext), ("changing", lambda: _changes(lab, samples))):
        with changing():
            told = dnsperf(server.target, seconds, OUTSTANDING, processor=_CLIENT, rate=_STEADY_RATE)
        samples.add(f"{kind} average", told.average)
        samples.add(f"{kind} longest", told.longest)
        samples.add(f"{kind} rate", told.rate)
        samples.add(f"{kind} lost", told.lost)
    lab.remove("guest")


@contextlib.contextmanager
def _changes(lab: NamesLab, samples: Samples) -> Iterator[None]:
    """A sandbox joins the network and leaves it, again and again."""
    over = threading.Event()

    def change() -> None:
        changes = 0
        began = time.monotonic()
        while not over.is_set():
            lab.cnmd.connect(NETWORK, "guest")
            lab.cnmd.ask("POST", f"/networks/{NETWORK}/disconnect", {"Container": "guest"})
            changes += 2
        samples.add("changes", changes / (time.monotonic() - began))

    thread = threading.Thread(target=change)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


_HEAD = """\
# Names

Written by `python -m bench.names{quick}`. dnsperf asks for the addresses of {names:,} names, all of them known, with
EDNS, in the namespace that is served, on a processor of its own; the server has the other one. Queries per second with
{outstanding} outstanding, microseconds with one; medians of rounds. Asked of cnm: {rate:,}/s, {microseconds} µs.
"""
_PROCESSORS = """\
## A second processor

dnsperf takes as long for a query as a server does: with two processors in all there is nothing left that a second
worker could do. A client that asks in batches (`bench/dns_flood.py`) leaves something, and its queries have a cookie,
as those of dig have, so that each must be read. It has one processor, which it shares with one of the workers in the
second row.
"""
_CHANGES = """\
## While sandboxes come and go

{steady:,} queries a second by dnsperf, of {names:,} names of the network; meanwhile one client has a sandbox join and
leave it without a pause. cnmd and the workers have both processors, and so has the client that asks for that.
"""


def markdown(samples: Samples, titles: Sequence[str], loads: str, quick: bool) -> str:
    head = _HEAD.format(
        quick=" --quick" if quick else "",
        names=NAMES,
        outstanding=OUTSTANDING,
        rate=_TARGET_RATE,
        microseconds=_TARGET_MICROSECONDS,
    )
    parts = (
        head,
        machine(loads),
        _servers(samples, titles),
        _PROCESSORS,
        _processors(samples),
        _CHANGES.format(steady=_STEADY_RATE, names=NAMES),
        _changing(samples),
    )
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def _servers(samples: Samples, titles: Sequence[str]) -> str:
    rows = []
    for title in titles:
        rates = samples.of(f"{title} rate")
        rows.append(
            (
                title,
                str(len(rates)),
                f"{median(rates):,.0f}",
                f"{min(rates):,.0f} to {max(rates):,.0f}",
                f"{median(samples.of(f'{title} one')):.0f}",
                f"{sum(samples.of(f'{title} lost')):.0f}",
            )
        )
    return table(("server", "rounds", "queries/s", "range", "µs, one outstanding", "lost"), rows)


def _processors(samples: Samples) -> str:
    one, two = (samples.of(f"{count} processors") for count in (1, 2))
    gain = median([after / before for before, after in zip(one, two, strict=True)])
    rows = [
        ("one", f"{median(one):,.0f}", ""),
        ("two, one of them shared with the client", f"{median(two):,.0f}", f"{gain:.2f} ×"),
    ]
    return table(("processors for the workers", "queries/s", "gain, round by round"), rows)


def _changing(samples: Samples) -> str:
    rows = []
    for kind, words in (("still", "nobody"), ("changing", "one, without a pause")):
        changes = samples.of("changes") if kind == "changing" else [0.0]
        rows.append(
            (
                words,
                f"{median(changes):,.0f}",
                f"{median(samples.of(f'{kind} rate')):,.0f}",
                f"{median(samples.of(f'{kind} average')):.0f}",
                f"{median(samples.of(f'{kind} longest')):,.0f}",
                f"{sum(samples.of(f'{kind} lost')):.0f}",
            )
        )
    return table(("comes and goes", "joins and leaves/s", "queries/s", "µs", "longest µs", "lost"), rows)


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.names", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--output", type=Path, default=_RESULTS, metavar="FILE")
    options = parser.parse_args()
    if lacking := unpacked.lacking("dnsperf", *name_servers.PROGRAMS):
        print(f"bench.names: {lacking}", file=sys.stderr)
        return 1
    try:
        isolate()
    except IsolationError as error:
        print(f"bench.names: {error}", file=sys.stderr)
        return 1
    samples, load = Samples(), os.getloadavg()[0]
    titles = _measured(samples, *((1, 1) if options.quick else (7, 3)))
    loads = f"{load:.1f} at the beginning, {os.getloadavg()[0]:.1f} at the end"
    text = markdown(samples, titles, loads, options.quick)
    options.output.write_text(text)
    print(text)
    return 0


def _measured(samples: Samples, rounds: int, seconds: int) -> Sequence[str]:
    """Titles of the servers."""
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cnm-bench-")))
        lab = stack.enter_context(running_names_lab(directory / "lab"))
        ours = name_servers.cnm(lab)
        servers = (
            ours,
            stack.enter_context(name_servers.aardvark(directory, lab.outside)),
            stack.enter_context(name_servers.dnsmasq(directory, lab.outside)),
            stack.enter_context(name_servers.docker(directory)),
        )
        for server in servers:
            eventually(server.processes)
        for _ in range(rounds):
            for server in servers:
                measure(server, samples, seconds)
            measure_processors(ours, samples, seconds)
            measure_changes(lab, ours, samples, seconds)
    return [server.title for server in servers]


if __name__ == "__main__":
    sys.exit(main())
