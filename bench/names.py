"""`python -m bench.names [--quick]`: how fast names are answered, beside dnsmasq, aardvark-dns and Docker's resolver.

dnsperf asks, in the namespace that is served, for addresses of known names, with EDNS. It has a processor of its own;
the server has the other one. All are asked in turn, in rounds. Writes bench/NAMES.md.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from bench.report import machine, table
from bench.samples import Samples, median
from netns_fixtures import Host, IsolationError, Topology, isolate
from tests.support import dockerd as docker_support
from tests.support import unpacked
from tests.support.names_lab import NamesLab, eventually, running_names_lab

_RESULTS = Path(__file__).with_name("NAMES.md")
_NAMES = 1000
_SERVER_CORE, _CLIENT_CORE = 0, 1
_RATE = re.compile(r"Queries per second:\s+([\d.]+)")
_LATENCY = re.compile(r"Average Latency \(s\):\s+([\d.]+)")
_LOST = re.compile(r"Queries lost:\s+(\d+)")
_TARGET_RATE, _TARGET_MICROSECONDS = 60_000, 120


@dataclass
class Server:
    """Somebody who answers at `address` in the namespace of `host`; `processes` are those that do."""

    name: str
    host: Host
    address: str
    names: Sequence[str]
    processes: Callable[[], Sequence[int]]
    cores: set[int] = field(default_factory=lambda: {_SERVER_CORE})


def ask(server: Server, seconds: int, outstanding: int) -> tuple[float, float, int]:
    """(queries per second, average microseconds, queries lost)."""
    for process in server.processes():
        os.sched_setaffinity(process, server.cores)
    with tempfile.NamedTemporaryFile("w", suffix=".queries") as queries:
        queries.writelines(f"{name} A\n" for name in server.names)
        queries.flush()
        command = [
            *("taskset", "-c", str(_CLIENT_CORE), str(unpacked.program("dnsperf")), "-e"),
            *("-s", server.address, "-d", queries.name, "-l", str(seconds)),
            *("-q", str(outstanding), "-c", "4" if outstanding > 1 else "1"),
        ]
        environment = {**os.environ, **unpacked.environment()}
        done = server.host.popen(command, env=environment, stdout=subprocess.PIPE)
        output, _ = done.communicate()
    rate, latency, lost = (pattern.search(output) for pattern in (_RATE, _LATENCY, _LOST))
    if rate is None or latency is None or lost is None:
        raise RuntimeError(f"dnsperf on {server.name}: {output}")
    return float(rate[1]), float(latency[1]) * 1e6, int(lost[1])


@contextlib.contextmanager
def cnm(lab: NamesLab) -> Iterator[Sequence[Server]]:
    """A sandbox on a network with many names; once on one core, once on both."""
    lab.cnmd.create_network("web")
    box = lab.sandbox("front", "web")
    lab.sandbox("back", "web")
    for number in range(_NAMES):
        body = {"Name": f"name{number}", "Value": f"10.9.{number // 250}.{number % 250 + 1}"}
        lab.cnmd.ask("POST", "/cnm/v1/networks/web/dns", body)
    eventually(lambda: len(lab.resolvers()) > 1)
    names = [f"name{number}" for number in range(_NAMES)]
    one = Server("cnm", box, "127.0.0.11", names, lambda: lab.resolvers()[1:])
    both = Server("cnm, on both cores", box, "127.0.0.11", names, one.processes, {0, 1})
    yield [one, both]


@contextlib.contextmanager
def process(name: str, host: Host, address: str, command: Sequence[str]) -> Iterator[Server]:
    """A program that serves `name0` and so on at an address of the host's."""
    environment = {**os.environ, **unpacked.environment()}
    running_one = host.popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(0.5)
        names = [f"name{number}" for number in range(_NAMES)]
        yield Server(name, host, address, names, lambda: [running_one.pid])
    finally:
        running_one.kill()
        running_one.wait()


def dnsmasq(directory: Path, host: Host) -> contextlib.AbstractContextManager[Server]:
    hosts = directory / "hosts"
    hosts.write_text("".join(f"10.9.{n // 250}.{n % 250 + 1} name{n}\n" for n in range(_NAMES)))
    command = [
        *(str(unpacked.program("dnsmasq")), "--keep-in-foreground", "--no-resolv", "--no-hosts"),
        *("--conf-file=/dev/null", f"--addn-hosts={hosts}", "--listen-address=127.0.0.1"),
        *("--bind-interfaces", "--user=root", "--pid-file="),
    ]
    return process("dnsmasq 2.90", host, "127.0.0.1", command)


def measure(server: Server, samples: Samples, seconds: int) -> None:
    rate, _, lost = ask(server, seconds, 20)
    samples.add(f"{server.name} rate", rate)
    samples.add(f"{server.name} lost", lost)
    if server.cores == {_SERVER_CORE}:
        _, latency, _ = ask(server, seconds, 1)
        samples.add(f"{server.name} latency", latency)


@contextlib.contextmanager
def docker(directory: Path) -> Iterator[Server]:
    """A container of Debian's dockerd, which is asked for another by name."""
    with (
        Topology({"hosts": {"host": {}}}) as topology,
        docker_support.start_dockerd(directory / "docker", popen=topology.hosts["host"].popen) as daemon,
    ):
        image = docker_support.make_image(daemon)
        daemon.docker("network", "create", "web")
        for name in ("front", "back"):
            daemon.docker("run", "--detach", "--name", name, "--network", "web", image, "sleep", "100000")
        key = daemon.docker("inspect", "--format", "{{.NetworkSettings.SandboxKey}}", "front")
        host = Host("front", key)
        yield Server("Docker 20.10", host, "127.0.0.11", ["back"], partial(_named, "dockerd"))
        host.close()


def _named(name: str) -> list[int]:
    """Processes of a name that this one, or a child of it, has started."""
    found = subprocess.run(["pgrep", "-x", name], capture_output=True, text=True).stdout.split()
    return [int(one) for one in found if _is_ours(int(one))]


def _is_ours(process_id: int) -> bool:
    while process_id > 1:
        if process_id == os.getpid():
            return True
        text = Path(f"/proc/{process_id}/stat").read_text()
        process_id = int(text.rpartition(")")[2].split()[1])
    return False


def markdown(samples: Samples, names: Sequence[str], loads: str, quick: bool) -> str:
    rows = []
    for name in names:
        rates = samples.of(f"{name} rate")
        latencies = samples.of(f"{name} latency")
        rows.append(
            (
                name,
                str(len(rates)),
                f"{median(rates):,.0f}",
                f"{max(rates):,.0f}",
                f"{median(latencies):.0f}" if latencies else "",
                f"{sum(samples.of(f'{name} lost')):.0f}",
            )
        )
    asked = (
        f"dnsperf asks for the addresses of {_NAMES:,} known names (of one in Docker's case) with EDNS, in the "
        "namespace that is served, on a core of its own; the server has the other core. Queries per second with 20 "
        f"outstanding, microseconds with one. Targets for cnm on one: {_TARGET_RATE:,}/s, {_TARGET_MICROSECONDS} µs."
    )
    written = f"Written by `python -m bench.names{' --quick' if quick else ''}`."
    return f"# Names\n\n{written} {asked}\n\n{machine(loads)}\n\n" + table(
        ("server", "rounds", "queries/s", "most", "µs, one outstanding", "lost"), rows
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.names", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--output", type=Path, default=_RESULTS, metavar="FILE")
    options = parser.parse_args()
    if lacking := unpacked.lacking("dnsperf", "dnsmasq", *docker_support.PROGRAMS):
        print(f"bench.names: {lacking}", file=sys.stderr)
        return 1
    try:
        isolate()
    except IsolationError as error:
        print(f"bench.names: {error}", file=sys.stderr)
        return 1
    samples, load = Samples(), os.getloadavg()[0]
    rounds, seconds = (1, 1) if options.quick else (5, 3)
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cnm-bench-")))
        lab = stack.enter_context(running_names_lab(directory / "lab"))
        servers = [*stack.enter_context(cnm(lab))]
        servers.append(stack.enter_context(dnsmasq(directory, lab.outside)))
        servers.append(stack.enter_context(docker(directory)))
        for _ in range(rounds):
            for server in servers:
                measure(server, samples, seconds)
    loads = f"{load:.1f} at the beginning, {os.getloadavg()[0]:.1f} at the end"
    text = markdown(samples, [server.name for server in servers], loads, options.quick)
    options.output.write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
