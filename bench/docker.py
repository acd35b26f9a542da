"""`python -m bench.docker [--quick]`: networks and containers of a real dockerd, on cnm and on Docker's own bridge.

Two dockerds, each on a stage of its own: with its userland proxy and without. In every round the same thing is done on
Docker's own bridge, on a network of cnm whose links dockerd moves, on one whose links are made inside the container,
and with a plugin that does the least that one can, in an order that chance decides. Writes bench/DOCKER.md.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.bare_plugin import serve_bare
from bench.client import Client, request
from bench.report import machine, table
from bench.samples import Samples, median, percentile
from netns_fixtures import IsolationError, Topology, isolate
from tests.support import dockerd as docker_support
from tests.support import unpacked
from tests.support.cnmd import Cnmd

_RESULTS = Path(__file__).with_name("DOCKER.md")
_PLUGINS = "/run/docker/plugins"
_KINDS = ("docker", "moved", "direct", "bare")
_PUBLISHING = _KINDS[:3]
_COMPARED = _KINDS[:2]
"""In everything, not in connect and disconnect only."""
_DRIVERS = {"docker": "bridge", "moved": "cnm", "direct": "cnm", "bare": "bare"}
_WORDS = {
    "docker": "Docker's bridge",
    "moved": "cnm",
    "direct": "cnm, links made inside",
    "bare": "a pair and nothing else",
}
_PORTS = (0, 100, 300)
_COMING = ("CreateEndpoint", "Join", "ProgramExternalConnectivity", "EndpointOperInfo")
_GOING = ("RevokeExternalConnectivity", "Leave", "DeleteEndpoint")
_SHARES = {"connect": _COMING, "disconnect": _GOING, "start with a port": _COMING, "stop with a port": _GOING}
"""What dockerd asks of a plugin for each, in this order, round by round."""
_LOGGED = re.compile(r"NetworkDriver\.(\w+): 200 in ([\d.]+) ms")
_MOST_SHARE = 3.0
_PAUSE_SECONDS = 0.15
"""After each verb: links are deleted behind the answer, on either side, and nobody's next verb is to wait for it."""


@dataclass
class Place:
    """A dockerd with cnm as its plugin; `client` speaks to dockerd's API."""

    name: str
    client: Client
    image: str

    def ask(self, method: str, path: str, body: object = None) -> object:
        return self.client.ask(method, path, body)

    def create_network(self, kind: str, name: str) -> None:
        options = {"cnm.join": "direct"} if kind == "direct" else {}
        body = {"Name": name, "Driver": _DRIVERS[kind], "Options": options}
        self.ask("POST", "/networks/create", body)

    def create_container(self, name: str, network: str, ports: int = 0, first: int = 20000) -> None:
        exposed = {f"{number}/tcp": {} for number in range(1, ports + 1)}
        bound = {f"{n}/tcp": [{"HostPort": str(first + n)}] for n in range(1, ports + 1)}
        body = {
            "Image": self.image,
            "Cmd": ["sleep", "100000"],
            "ExposedPorts": exposed,
            "HostConfig": {"NetworkMode": network, "PortBindings": bound},
        }
        self.ask("POST", f"/containers/create?name={name}", body)

    def start(self, name: str) -> None:
        self.client.send(request("POST", f"/containers/{name}/start"))

    def remove(self, name: str) -> None:
        self.client.send(request("DELETE", f"/containers/{name}?force=1"))


@contextlib.contextmanager
def place(name: str, *flags: str) -> Iterator[Place]:
    """In a namespace of its own, where cnmd is known to dockerd and dockerd to cnmd."""
    with (
        tempfile.TemporaryDirectory(prefix="cnm-bench-") as directory,
        Topology({"hosts": {"host": {}}}) as topology,
    ):
        host, state = topology.hosts["host"], Path(directory) / "docker"
        programs = {
            **os.environ,
            **unpacked.environment(),
        }  # cnmd opens Docker's chain with the iptables there
        cnmd = Cnmd(Path(directory) / "cnmd", partial(host.popen, env=programs), plugin_dir=_PLUGINS)
        cnmd.docker_host = f"unix://{state / 'docker.sock'}"
        cnmd.start()
        try:
            with (
                serve_bare(host, Path(_PLUGINS) / "bare.sock"),
                docker_support.start_dockerd(state, *flags, popen=host.popen) as daemon,
            ):
                image = docker_support.make_image(daemon)
                for kind in _KINDS:
                    Place(name, Client(str(daemon.socket)), image).create_network(kind, kind)
                yield Place(name, Client(str(daemon.socket)), image)
        finally:
            cnmd.kill()


def measure(where: Place, samples: Samples, *, rounds: int) -> None:
    """Networks, and a running container connected and disconnected, while others have ports published."""
    where.create_container("box", "bridge")
    where.start("box")
    time.sleep(2)  # until cnmd has learnt from dockerd that links may be made inside
    for ports in _PORTS:
        for kind in _PUBLISHING if ports else ():
            where.create_container(f"many-{kind}", kind, ports, 20000 + 1000 * _KINDS.index(kind))
            where.start(f"many-{kind}")
        _rounds(where, samples, ports, rounds)
        for kind in _PUBLISHING if ports else ():
            where.remove(f"many-{kind}")
    where.remove("box")


def _rounds(where: Place, samples: Samples, ports: int, rounds: int) -> None:
    order = random.Random(1)
    for number in range(rounds):
        for kind in order.sample(_KINDS, len(_KINDS)):
            _round(where, samples, f"{where.name} {ports} {kind}", kind, f"n{number}")


def _round(where: Place, samples: Samples, label: str, kind: str, name: str) -> None:
    send = where.client.send
    connecting = request("POST", f"/networks/{kind}/connect", {"Container": "box"})
    leaving = request("POST", f"/networks/{kind}/disconnect", {"Container": "box"})
    if kind in _COMPARED:
        samples.time(f"{label} create", where.create_network, kind, name)
        time.sleep(_PAUSE_SECONDS)
        samples.time(f"{label} remove", send, request("DELETE", f"/networks/{name}"))
        time.sleep(_PAUSE_SECONDS)
    coming = "connect" if kind != "bare" else "untimed"
    samples.time(f"{label} {coming}", send, connecting)
    time.sleep(_PAUSE_SECONDS)
    samples.time(f"{label} disconnect", send, leaving)
    time.sleep(_PAUSE_SECONDS)


def measure_starts(where: Place, samples: Samples, *, rounds: int) -> None:
    """A container with this many published ports of its own."""
    for ports in _PORTS:
        for number in range(rounds if ports == 0 else max(rounds // 8, 1)):
            for kind in _COMPARED:
                name, label = f"s{ports}-{number}-{kind}", f"{where.name} {ports} {kind}"
                where.create_container(name, kind, ports)
                samples.time(f"{label} start", where.start, name)
                samples.time(f"{label} rm", where.remove, name)


def measure_share(samples: Samples, *, rounds: int) -> None:
    """The plugin's own part of a connect and a disconnect: its calls one after the other, without dockerd.

    Once as a client sees them, HTTP included, and once as cnmd itself logs them.
    """
    with tempfile.TemporaryDirectory(prefix="cnm-bench-") as directory:
        cnmd = Cnmd(Path(directory) / "cnmd", config='log-level = "debug"\n')
        cnmd.start()
        client = Client(str(Path(directory) / "cnmd" / "plugins" / "cnm.sock"))
        network = "a" * 64
        pool = {"AddressSpace": "LocalDefault", "Pool": "10.90.0.0/16", "Gateway": "10.90.0.1/16"}
        made = {"NetworkID": network, "Options": {}, "IPv4Data": [pool], "IPv6Data": []}
        client.ask("POST", "/NetworkDriver.CreateNetwork", made)
        for number in range(rounds):
            _share_round(client, samples, network, number)
        client.ask("POST", "/NetworkDriver.DeleteNetwork", {"NetworkID": network})
        client.close()
        cnmd.stop()
        _add_logged(samples, cnmd.log)


def _add_logged(samples: Samples, log: str) -> None:
    """What cnmd says that each call took, added up by what they are for."""
    took: dict[str, list[float]] = {}
    for method, milliseconds in _LOGGED.findall(log):
        took.setdefault(method, []).append(float(milliseconds))
    turns = {name: 0 if name in ("connect", "disconnect") else 1 for name in _SHARES}
    for name, methods in _SHARES.items():
        for parts in zip(*(took[method][turns[name] :: 2] for method in methods), strict=True):
            samples.add(f"logged {name}", sum(parts))


def _share_round(client: Client, samples: Samples, network: str, number: int) -> None:
    """Without a port, then with one."""
    for with_port, names in (
        (False, ("connect", "disconnect")),
        (True, ("start with a port", "stop with a port")),
    ):
        bodies = _bodies(network, 2 * number + with_port, with_port)
        for name in names:
            messages = [
                request("POST", f"/NetworkDriver.{m}", bodies.get(m, bodies[""])) for m in _SHARES[name]
            ]
            samples.time(f"share {name}", lambda messages=messages: [client.send(m) for m in messages])


def _bodies(network: str, number: int, with_port: bool) -> dict[str, dict[str, object]]:
    """Of the calls by their names; "" stands for those that only name the endpoint."""
    endpoint = {"NetworkID": network, "EndpointID": f"{number:012x}".ljust(64, "0")}
    binding = {"Proto": 6, "IP": "", "Port": 80, "HostIP": "", "HostPort": 8080, "HostPortEnd": 8080}
    ports = {"com.docker.network.portmap": [binding] if with_port else []}
    interface = {
        "Address": f"10.90.{number // 250}.{number % 250 + 2}/16",
        "AddressIPv6": "",
        "MacAddress": "",
    }
    return {
        "": {**endpoint},
        "CreateEndpoint": {**endpoint, "Interface": interface, "Options": ports},
        "Join": {**endpoint, "SandboxKey": f"/var/run/docker/netns/{number:012x}", "Options": ports},
        "ProgramExternalConnectivity": {**endpoint, "Options": ports},
    }


def markdown(samples: Samples, loads: str, quick: bool) -> str:
    rows = [row for name in ("proxy", "no proxy") for ports in _PORTS for row in _rows(samples, name, ports)]
    head = (
        f"# dockerd with cnm\n\nWritten by `python -m bench.docker{' --quick' if quick else ''}`. Milliseconds over "
        "dockerd's API; *× Docker's* is the median of a thing on cnm by that on Docker's own bridge in the same run. "
        "dockerd is Debian's 20.10. *ports*: published by containers that run meanwhile, for `start` and `rm` by the "
        "container itself. There is a pause after each verb. dockerd 20.10 starts containers with links that it "
        "moves, whatever is asked for. *A pair and nothing else*: a plugin that does no more than that. Its disconnect "
        "is dockerd's own work and the kernel's moving of a link between namespaces: no plugin can be faster "
        f"whose links dockerd moves.\n\n{machine(loads)}\n\n"
    )
    shares = [
        (
            f"{name}: {', '.join(methods)}",
            f"{median(samples.of(f'logged {name}')):.2f}",
            f"{percentile(samples.of(f'logged {name}'), 0.99):.1f}",
            f"{median(samples.of(f'share {name}')):.2f}",
            "≤ 3",
            "yes" if median(samples.of(f"logged {name}")) <= _MOST_SHARE else "**no**",
        )
        for name, methods in _SHARES.items()
    ]
    return (
        head
        + table(("the plugin's own share", "median", "p99", "with HTTP", "target", "met"), shares)
        + "\n"
        + table(("userland proxy", "ports", "what", "on", "n", "median", "min", "× Docker's"), rows)
    )


def _rows(samples: Samples, name: str, ports: int) -> Iterator[tuple[str, ...]]:
    for verb in ("create", "remove", "connect", "disconnect", "start", "rm"):
        own = samples.of(f"{name} {ports} docker {verb}")
        for kind in _KINDS:
            values = samples.of(f"{name} {ports} {kind} {verb}")
            if values:
                times = f"{median(values) / median(own):.2f}" if kind != "docker" else ""
                figures = (str(len(values)), f"{median(values):.1f}", f"{min(values):.1f}", times)
                yield (_PROXY[name], str(ports), verb, _WORDS[kind], *figures)


_PROXY = {"proxy": "on", "no proxy": "off"}


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.docker", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two minutes instead of ten")
    parser.add_argument("--output", type=Path, default=_RESULTS, metavar="FILE")
    options = parser.parse_args()
    if lacking := unpacked.lacking(*docker_support.PROGRAMS):
        print(f"bench.docker: {lacking}", file=sys.stderr)
        return 1
    try:
        isolate()
    except IsolationError as error:
        print(f"bench.docker: {error}", file=sys.stderr)
        return 1
    samples, load = Samples(), os.getloadavg()[0]
    rounds = 8 if options.quick else 30
    measure_share(samples, rounds=200 if options.quick else 400)
    for name, flags in (("proxy", ()), ("no proxy", ("--userland-proxy=false",))):
        print(f"bench.docker: {name}", file=sys.stderr, flush=True)
        with place(name, *flags) as where:
            measure(where, samples, rounds=rounds)
            measure_starts(where, samples, rounds=rounds)
    loads = f"{load:.1f} at the beginning, {os.getloadavg()[0]:.1f} at the end"
    text = markdown(samples, loads, options.quick)
    options.output.write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
