"""Limits of a container as the OCI's `linux.resources`, for its start and for `update`.

The same for cgroup v1 and v2: runtimes convert shares, weights and swap themselves. What the kernel cannot do is left
out (`limits.settled` says so to the user).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from cnm.errors import InvalidParameter
from cnm.launcher.host import Host
from cnm.launcher.limits import settled_resources
from cnm.wire.containers import Resources, ThrottleDevice, WeightDevice

PERIOD = 100_000
"""Microseconds: the period of `--cpus`, Docker's and the kernel's default."""


def linux_resources(resources: Resources, host: Host) -> dict[str, Any]:
    """Without devices, which never change. Raises InvalidParameter for a block device that is not there."""
    wanted, _ = settled_resources(resources, host)
    found = {
        "memory": _memory(wanted),
        "cpu": _cpu(wanted),
        "blockIO": _block_io(wanted),
        "pids": _pids(wanted),
    }
    return {kind: limits for kind, limits in found.items() if limits}


def _memory(wanted: Resources) -> dict[str, Any]:
    found: dict[str, Any] = _given(
        limit=wanted.memory,
        reservation=wanted.memory_reservation,
        swap=wanted.memory_swap,
        kernel=wanted.kernel_memory,
        kernelTCP=wanted.kernel_memory_tcp,
    )
    if wanted.memory_swappiness is not None:
        found["swappiness"] = wanted.memory_swappiness
    if wanted.oom_kill_disable:
        found["disableOOMKiller"] = True
    return found


def _cpu(wanted: Resources) -> dict[str, Any]:
    nano = wanted.nano_cpus or 0
    return _given(
        shares=wanted.cpu_shares,
        quota=nano * PERIOD // 10**9 if nano > 0 else wanted.cpu_quota,
        period=PERIOD if nano > 0 else wanted.cpu_period,
        realtimeRuntime=wanted.cpu_realtime_runtime,
        realtimePeriod=wanted.cpu_realtime_period,
        cpus=wanted.cpuset_cpus,
        mems=wanted.cpuset_mems,
    )


def _block_io(wanted: Resources) -> dict[str, Any]:
    return _given(
        weight=wanted.blkio_weight,
        weightDevice=[_weight(device) for device in wanted.blkio_weight_device or ()],
        throttleReadBpsDevice=_rates(wanted.blkio_device_read_bps),
        throttleWriteBpsDevice=_rates(wanted.blkio_device_write_bps),
        throttleReadIOPSDevice=_rates(wanted.blkio_device_read_iops),
        throttleWriteIOPSDevice=_rates(wanted.blkio_device_write_iops),
    )


def _pids(wanted: Resources) -> dict[str, int]:
    """Docker takes 0 and less for no limit; an update must say so, to a runtime as -1."""
    limit = wanted.pids_limit
    return {} if limit is None else {"limit": limit if limit > 0 else -1}


def _given(**limits: Any) -> dict[str, Any]:
    return {name: value for name, value in limits.items() if value}


def _weight(device: WeightDevice) -> dict[str, int]:
    return {**_numbers(device.path), "weight": device.weight}


def _rates(devices: Iterable[ThrottleDevice] | None) -> list[dict[str, int]]:
    return [{**_numbers(device.path), "rate": device.rate} for device in devices or ()]


def _numbers(path: str) -> dict[str, int]:
    try:
        device = os.stat(path).st_rdev
    except OSError as error:
        raise InvalidParameter(f"stat {path}: {(error.strerror or '').lower()}") from error
    return {"major": os.major(device), "minor": os.minor(device)}


def rlimits(
    resources: Resources, defaults: Mapping[str, tuple[int, int]] | None = None
) -> list[dict[str, Any]]:
    """`process.rlimits`: those of `--ulimit`, -1 for unlimited, over `defaults` (soft and hard by name)."""
    wanted = dict(defaults or {})
    wanted |= {limit.name: (limit.soft, limit.hard) for limit in resources.ulimits or ()}
    return [
        {"type": f"RLIMIT_{name.upper()}", "soft": soft & _UNLIMITED, "hard": hard & _UNLIMITED}
        for name, (soft, hard) in wanted.items()
    ]


_UNLIMITED = 2**64 - 1
