"""Processor time of verbs and of their floor: what a busy machine does not blur as it does the clock."""

from __future__ import annotations

import os
import time
from pathlib import Path

from bench.floor import Floor, new_namespace
from bench.samples import Samples
from bench.stage import Stage, connecting, disconnecting

_EACH = 20


def seconds(pid: int) -> float:
    """That all threads of a process have taken, to the nanosecond; utime and stime only count ticks."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


def measure(stage: Stage, samples: Samples, *, blocks: int) -> None:
    """Blocks of attaches and of detaches, each beside one of the floor's; milliseconds for one of them.

    What the daemon does behind its answers counts; the relay's process and the kernel's own threads do not.
    """
    boxes = [f"block{number}" for number in range(_EACH)]
    for box in boxes:
        stage.create_sandbox(box)
    stage.create_network("blocks")
    ports = [{"ContainerPort": 80, "HostPort": 9100 + number} for number in range(_EACH)]
    attaching = [connecting("blocks", box, Ports=[port]) for box, port in zip(boxes, ports, strict=True)]
    detaching = [disconnecting("blocks", box) for box in boxes]
    floor = Floor()
    for _ in range(blocks):
        samples.add("processor attach", _of_daemon(stage, attaching))
        samples.add("processor detach", _of_daemon(stage, detaching))
        endpoints = [floor.endpoint(new_namespace()) for _ in boxes]
        start = time.thread_time()
        for endpoint in endpoints:
            floor.attach(endpoint)
        between = time.thread_time()
        for endpoint in endpoints:
            floor.detach(endpoint)
        samples.add("floor processor attach", (between - start) * 1000 / _EACH)
        samples.add("floor processor detach", (time.thread_time() - between) * 1000 / _EACH)
        for endpoint in endpoints:
            os.close(endpoint.namespace)
        floor.reap()
    floor.close()


def _of_daemon(stage: Stage, messages: list[bytes]) -> float:
    start = seconds(stage.pid)
    for message in messages:
        stage.client.send(message)
    return (seconds(stage.pid) - start) * 1000 / len(messages)
