"""What `update` makes of a container's limits: Docker's rules and words.

Source: moby, Container.UpdateContainer.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import msgspec

from cnm.errors import Conflict
from cnm.launcher.container import Container
from cnm.launcher.parts import Parts
from cnm.launcher.resources import linux_resources
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


def apply_update(parts: Parts, container: Container, host: HostConfig) -> Container:
    """Its record first, then its cgroups if it runs; after a kill in between, `finish_update` does what is missing."""
    changed = msgspec.structs.replace(container, host=host)
    if not container.state.status.is_alive:
        return parts.registry.put(changed)
    with _unfinished(parts, container):
        parts.registry.put(changed)
        try:
            parts.runtime(changed).update(changed.id, linux_resources(host, parts.host))
        except BaseException:
            parts.registry.put(container)
            raise
    return changed


def finish_update(parts: Parts, container: Container) -> None:
    """Of a container that runs: its limits are as its record says."""
    if os.path.exists(_mark(parts, container)):
        with _unfinished(parts, container):
            parts.runtime(container).update(container.id, linux_resources(container.host, parts.host))


@contextlib.contextmanager
def _unfinished(parts: Parts, container: Container) -> Iterator[None]:
    """A file in the bundle for as long as the record and the cgroups may differ."""
    mark = _mark(parts, container)
    with open(mark, "w"):
        yield
    os.unlink(mark)


def _mark(parts: Parts, container: Container) -> str:
    return os.path.join(parts.places.bundle(container.id), "updating")
