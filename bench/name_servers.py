"""Who answers in `bench.names`: cnm, aardvark-dns, dnsmasq and Docker's resolver, each with the same thousand names."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.dns_clients import Target, name
from netns_fixtures import Host, Topology
from tests.support import dockerd as docker_support
from tests.support import unpacked
from tests.support.names_lab import UPSTREAM, NamesLab, eventually

NAMES = 1000
NETWORK = "web"
_MEMBERS = 10
"""Who has the names in cnm: aliases of theirs."""
PROGRAMS = ("aardvark-dns", "dnsmasq", *docker_support.PROGRAMS)


@dataclass(frozen=True)
class Server:
    title: str
    target: Target
    processes: Callable[[], Sequence[int]]
    """Those that answer."""

    def run_on(self, processors: set[int]) -> None:
        for process in self.processes():
            for thread in os.listdir(f"/proc/{process}/task"):
                os.sched_setaffinity(int(thread), processors)


def cnm(lab: NamesLab) -> Server:
    """For a sandbox on a network with others that have the names, as aliases."""
    lab.cnmd.create_network(NETWORK)
    box = lab.sandbox("front", NETWORK)
    share = NAMES // _MEMBERS
    for number in range(_MEMBERS):
        lab.sandbox(f"member{number}")
        aliases = [name(each) for each in range(number * share, (number + 1) * share)]
        lab.cnmd.connect(NETWORK, f"member{number}", Aliases=aliases)
    eventually(lambda: len(lab.resolvers()) > 1)
    return Server("cnm", _target(box, "127.0.0.11"), lambda: lab.resolvers()[1:])


@contextlib.contextmanager
def dnsmasq(directory: Path, host: Host) -> Iterator[Server]:
    hosts = directory / "hosts"
    hosts.write_text("".join(f"{_address(number)} {name(number)}\n" for number in range(NAMES)))
    command = [
        *(str(unpacked.program("dnsmasq")), "--keep-in-foreground", "--no-resolv", "--no-hosts"),
        *("--conf-file=/dev/null", f"--addn-hosts={hosts}", "--listen-address=127.0.0.1"),
        *("--bind-interfaces", "--user=root", "--pid-file="),
    ]
    with _running(host, command) as process:
        yield Server("dnsmasq 2.90", _target(host, "127.0.0.1"), lambda: [process.pid])


@contextlib.contextmanager
def aardvark(directory: Path, host: Host) -> Iterator[Server]:
    """A network of Podman's, as netavark writes it down: the address that is listened on, then a line a container.

    Who asks must be a container of the network: the host itself is one here.
    """
    place = directory / "aardvark-dns"
    place.mkdir()
    lines = [UPSTREAM, f"{'f' * 64} {UPSTREAM}  front"]
    lines += [f"{number:064x} {_address(number)}  {name(number)}" for number in range(NAMES)]
    (place / NETWORK).write_text("\n".join(lines) + "\n")
    command = [str(unpacked.program("aardvark-dns")), "--config", str(place), "--port", "53", "run"]
    starter = host.popen(command, env={**os.environ, **unpacked.environment()}, stdout=subprocess.DEVNULL)
    starter.wait()
    process = int((place / "aardvark.pid").read_text())
    try:
        yield Server("aardvark-dns 1.4", _target(host, UPSTREAM), lambda: [process])
    finally:
        os.kill(process, signal.SIGKILL)  # it went to the background: nobody here can wait for it


@contextlib.contextmanager
def docker(directory: Path) -> Iterator[Server]:
    """A container of Debian's dockerd, beside one that has the names as aliases."""
    with (
        Topology({"hosts": {"host": {}}}) as topology,
        docker_support.start_dockerd(directory / "docker", popen=topology.hosts["host"].popen) as daemon,
    ):
        image = docker_support.make_image(daemon)
        daemon.docker("network", "create", NETWORK)
        aliases = [f"--network-alias={name(number)}" for number in range(NAMES)]
        run = ("run", "--detach", "--network", NETWORK)
        daemon.docker(*run, "--name", "front", image, "sleep", "100000")
        daemon.docker(*run, "--name", "back", *aliases, image, "sleep", "100000")
        key = daemon.docker("inspect", "--format", "{{.NetworkSettings.SandboxKey}}", "front")
        host = Host("front", key)
        yield Server("Docker 20.10", _target(host, "127.0.0.11"), partial(_descendants, "dockerd"))
        host.close()


def _target(host: Host, address: str) -> Target:
    return Target(host, address, [name(number) for number in range(NAMES)])


def _address(number: int) -> str:
    return f"10.9.{number // 250}.{number % 250 + 1}"


@contextlib.contextmanager
def _running(host: Host, command: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, **unpacked.environment()}
    process = host.popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _descendants(program: str) -> list[int]:
    """Processes of this name that this one, or a child of it, has started."""
    found = subprocess.run(["pgrep", "-x", program], capture_output=True, text=True).stdout.split()
    return [int(one) for one in found if _is_ours(int(one))]


def _is_ours(process_id: int) -> bool:
    while process_id > 1:
        if process_id == os.getpid():
            return True
        text = Path(f"/proc/{process_id}/stat").read_text()
        process_id = int(text.rpartition(")")[2].split()[1])
    return False
