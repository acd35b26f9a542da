"""What `update` makes of a container's limits: Docker's rules and words.

Source: moby, Container.UpdateContainer.
"""

from __future__ import annotations

import msgspec

from cnm.errors import Conflict
from cnm.wire.containers import ContainerUpdate, HostConfig, Resources, RestartPolicy

_FIELDS = (
    *("cpu_shares", "memory", "nano_cpus", "blkio_weight", "cpu_period", "cpu_quota", "cpu_realtime_period"),
    *(
        "cpu_realtime_runtime",
        "cpuset_cpus",
        "cpuset_mems",
        "kernel_memory",
        "memory_reservation",
        "memory_swap",
    ),
)
"""What changes where it is given: what is 0 or "" stays."""


def updated(current: HostConfig, wanted: ContainerUpdate) -> HostConfig:
    """Raises Conflict where the change contradicts what was set before; Docker's words, which name the container first.

    The caller checks the limits themselves (`validation.check_update`).
    """
    _check_conflicts(current, wanted)
    policy = wanted.restart_policy or RestartPolicy()
    if policy.name and policy.name != "no" and current.auto_remove:
        raise Conflict("Restart policy cannot be updated because AutoRemove is enabled for the container")
    changes = {field: getattr(wanted, field) for field in _FIELDS if getattr(wanted, field)}
    if wanted.pids_limit is not None:
        changes["pids_limit"] = max(0, wanted.pids_limit)
    if policy.name:
        changes["restart_policy"] = policy
    return msgspec.structs.replace(current, **changes)


def _check_conflicts(current: HostConfig, wanted: Resources) -> None:
    for noun, field in (("CPU Period", "cpu_period"), ("CPU Quota", "cpu_quota")):
        if (wanted.nano_cpus or 0) > 0 and (getattr(current, field) or 0) > 0:
            raise Conflict(f"Conflicting options: Nano CPUs cannot be updated as {noun} has already been set")
        if (getattr(wanted, field) or 0) > 0 and (current.nano_cpus or 0) > 0:
            raise Conflict(f"Conflicting options: {noun} cannot be updated as NanoCPUs has already been set")
    swap = current.memory_swap or 0
    if wanted.memory and not wanted.memory_swap and wanted.memory > swap:
        raise Conflict(
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time"
        )
