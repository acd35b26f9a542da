"""How long until a new sandbox is reached from all other hosts: real cnmds in namespaces, real members of etcd.

A sandbox on each other host asks for its address all the time (ARP, then ICMP), as a neighbour that wants it does.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from bench.client import Client, request
from bench.floor import Floor, new_namespace
from bench.overlay_prober import Prober
from bench.samples import Samples
from bench.stage import connecting
from tests.cluster.hosts import ClusterLab, eventually, joined_lab

HOSTS = 8
NETWORK = "reach"
_SUBNET, _ADDRESS = "10.77.0.0/16", "10.77.200.{}"
_EVERY_MILLISECONDS = 2
"""Between two questions of one host."""
_PATIENCE_SECONDS = 10.0
_PAUSE_SECONDS = 0.1
"""After each round, for what is left to be done behind an answer."""


def hosts(members: int) -> AbstractContextManager[ClusterLab]:
    """A cluster with so many members of etcd; the other hosts are clients."""
    return joined_lab(members, clients=HOSTS - members)


def create(lab: ClusterLab, name: str, **options: Any) -> None:
    """A network that all hosts know when this returns."""
    lab.h[1].cnmd.create_network(name, Driver="overlay", **options)
    for host in lab.h.values():
        eventually(lambda host=host: host.cnmd.request("GET", f"/networks/{name}")[0] == 200)


def measure(lab: ClusterLab, samples: Samples, label: str, *, rounds: int) -> None:
    """From the first request on: `{label} answered`, until the last has its answer; `{label} first` and
    `{label} reached`, until one and all of the other hosts have an echo; the same of `{label} anew`, where it is the
    host's first sandbox in the network. `{label} floor`: a namespace, and the least that attaches it to a bridge."""
    create(lab, NETWORK, IPAM={"Config": [{"Subnet": _SUBNET}]})
    with contextlib.ExitStack() as stack:
        probers = [stack.enter_context(Prober(host, NETWORK)) for number, host in lab.h.items() if number > 1]
        client = stack.enter_context(Client(lab.h[1].cnmd.socket))
        floor = Floor()
        stack.callback(floor.close)
        for number in range(1, rounds + 1):
            _round(client, probers, samples, f"{label} anew", number)
            _round_of_floor(floor, samples, label)
        client.ask("POST", "/cnm/v1/sandboxes", {"Name": "resident"})
        client.send(connecting(NETWORK, "resident"))
        for number in range(1, rounds + 1):
            _round(client, probers, samples, label, number)


def _round(client: Client, probers: Sequence[Prober], samples: Samples, label: str, number: int) -> None:
    name, address = f"new{number}", _ADDRESS.format(number % 250 + 1)
    requests = (
        request("POST", "/cnm/v1/sandboxes", {"Name": name}),
        connecting(NETWORK, name, IPAMConfig={"IPv4Address": address}),
    )
    for prober in probers:
        prober.aim(address)
    began = time.perf_counter()

    def make() -> None:
        for each in requests:
            client.send(each)
        samples.add(f"{label} answered", (time.perf_counter() - began) * 1000)

    making = threading.Thread(target=make)
    making.start()
    times = _heard(probers, began)
    making.join()
    samples.add(f"{label} first", min(times) * 1000)
    samples.add(f"{label} reached", max(times) * 1000)
    client.ask("DELETE", f"/cnm/v1/sandboxes/{name}?force=1")
    time.sleep(_PAUSE_SECONDS)


def _round_of_floor(floor: Floor, samples: Samples, label: str) -> None:
    began = time.perf_counter()
    namespace = new_namespace()
    endpoint = floor.endpoint(namespace)
    floor.attach(endpoint)
    samples.add(f"{label} floor", (time.perf_counter() - began) * 1000)
    floor.detach(endpoint)
    os.close(namespace)
    time.sleep(_PAUSE_SECONDS)


def _heard(probers: Sequence[Prober], began: float) -> list[float]:
    """Seconds until each has an echo. Raises RuntimeError where one has none."""
    poll, waiting = select.poll(), {prober.fileno(): prober for prober in probers}
    for descriptor in waiting:
        poll.register(descriptor, select.POLLIN)
    times: list[float] = []
    while waiting:
        if time.perf_counter() - began > _PATIENCE_SECONDS:
            raise RuntimeError(f"{len(waiting)} hosts had no answer within {_PATIENCE_SECONDS:.0f} s")
        for prober in waiting.values():
            prober.ask()
        for descriptor, _ in poll.poll(_EVERY_MILLISECONDS):
            if waiting[descriptor].hears():
                times.append(time.perf_counter() - began)
                poll.unregister(descriptor)
                del waiting[descriptor]
    return times
