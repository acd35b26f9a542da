"""A daemon that carries a thousand endpoints: one more of them, memory, rest, restarts; and the command line."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from bench import processor
from bench.floor import Floor, new_namespace
from bench.samples import Samples
from bench.stage import PORT, Stage, connecting, disconnecting

ENDPOINTS = 1000
_NETWORKS = 2
"""A bridge takes 1,023 ports."""
_CHANGED = 100
_SETTLE_SECONDS = 7
"""In which the daemon does what the last verbs left to be done, and looks once more at the host."""


@dataclass
class Footprint:
    """What a daemon takes."""

    empty: float = 0
    full: float = 0
    restarted: float = 0
    """Resident MiB without endpoints, with all of them, and after a restart with all of them."""
    idle: float = 0
    """Percent of one core while nothing is asked of it."""


def measure(stage: Stage, samples: Samples, *, restarts: int, idle_seconds: float) -> Footprint:
    """The floor's bridge has as many ports as one of the daemon's."""
    footprint = Footprint(empty=_resident(stage.pid))
    floor, namespaces = Floor(), []
    for number in range(_NETWORKS):
        stage.create_network(f"large{number}")
    for number in range(ENDPOINTS):
        stage.create_sandbox(f"one{number}")
        port = {"ContainerPort": 80, "HostPort": 10000 + number}
        stage.connect(f"large{number % _NETWORKS}", f"one{number}", Ports=[port])
        if number % _NETWORKS == 0:
            namespaces.append(new_namespace())
            floor.attach(floor.endpoint(namespaces[-1]))
    footprint.full = _resident(stage.pid)
    _measure_changes(stage, floor, samples)
    floor.close()
    for namespace in namespaces:
        os.close(namespace)
    footprint.idle = _idle_share(stage.pid, idle_seconds)
    for _ in range(restarts):
        stage.daemon.stop()
        samples.time("restart", stage.daemon.start)
        stage.daemon.kill()
        samples.time("restart after SIGKILL", stage.daemon.start)
    stage.reconnect()
    footprint.restarted = _resident(stage.pid)
    samples.time("doctor", stage.client.ask, "GET", "/cnm/v1/doctor")
    return footprint


def _measure_changes(stage: Stage, floor: Floor, samples: Samples) -> None:
    send = stage.client.send
    for number in range(_CHANGED):
        stage.create_sandbox(f"further{number}")
        samples.time("attach at 1,000", send, connecting("large0", f"further{number}", Ports=[PORT]))
        samples.time("detach at 1,000", send, disconnecting("large0", f"further{number}"))
        namespace = new_namespace()
        endpoint = floor.endpoint(namespace)
        samples.time("floor attach at 1,000", floor.attach, endpoint)
        samples.time("floor detach at 1,000", floor.detach, endpoint)
        os.close(namespace)


def measure_command_line(stage: Stage, samples: Samples, *, rounds: int) -> None:
    """Whole processes, beside one of Python that does nothing."""
    cnmctl = [sys.executable, "-m", "cnm.cli", "-H", f"unix://{stage.daemon.socket}", "network", "ls"]
    if (installed := Path(sys.executable).with_name("cnmctl")).exists():
        cnmctl[:3] = [str(installed)]
    for _ in range(rounds):
        samples.time("cnmctl network ls", _run, cnmctl)
        samples.time("python -c pass", _run, [sys.executable, "-c", "pass"])


def _run(command: list[str]) -> None:
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)


def _resident(pid: int) -> float:
    """MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"process {pid} has ended")


def _idle_share(pid: int, seconds: float) -> float:
    time.sleep(_SETTLE_SECONDS)
    before, start = processor.seconds(pid), time.monotonic()
    time.sleep(seconds)
    return 100 * (processor.seconds(pid) - before) / (time.monotonic() - start)
