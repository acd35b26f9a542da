"""POST /containers/{ref}/update: which limits change, with Docker's rules."""

from __future__ import annotations

import msgspec

from cnm.errors import Conflict
from cnm.wire.containers import ContainerUpdate, HostConfig

_FIELDS = (
    *("cpu_shares", "memory", "nano_cpus", "blkio_weight", "cpu_period", "cpu_quota", "cpu_realtime_period"),
    *(
        "cpu_realtime_runtime",
        "cpuset_cpus",
        "cpuset_mems",
        "memory_reservation",
        "memory_swap",
        "pids_limit",
    ),
    "kernel_memory",
)


def updated(host: HostConfig, body: ContainerUpdate) -> HostConfig:
    """What is null, 0 or "" stays as it is. Raises Conflict where limits would contradict each other."""
    changes = {name: value for name in _FIELDS if (value := getattr(body, name))}
    if "nano_cpus" in changes and (host.cpu_period or host.cpu_quota):
        raise Conflict("Conflicting options: Nano CPUs cannot be updated as CPU Period has already been set")
    if host.nano_cpus and ("cpu_period" in changes or "cpu_quota" in changes):
        raise Conflict("Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set")
    memory, swap = changes.get("memory", 0), host.memory_swap or 0
    if memory and 0 < swap < memory and "memory_swap" not in changes:
        raise Conflict(
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time"
        )
    return msgspec.structs.replace(host, **changes)
