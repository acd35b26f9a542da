"""What a container uses, computed from the Engine API's statistics the way the docker command does."""

from __future__ import annotations

from cnm.cli.quantities import binary_size, decimal_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

NO_ANSWER = {
    "BlockIO": "--",
    "CPUPerc": "--",
    "MemPerc": "--",
    "MemUsage": "-- / --",
    "NetIO": "--",
    "PIDs": "--",
}
"""The texts of a container that tells nothing."""


def usage(stats: Mapping[str, Any]) -> dict[str, str]:
    """The texts of one answer of /containers/{id}/stats, by the fields of a row."""
    memory = stats.get("memory_stats") or {}
    used, limit = memory_used(memory), memory.get("limit") or 0
    read, written = block_bytes((stats.get("blkio_stats") or {}).get("io_service_bytes_recursive") or ())
    received, sent = network_bytes((stats.get("networks") or {}).values())
    return {
        "BlockIO": f"{decimal_size(read, 3)} / {decimal_size(written, 3)}",
        "CPUPerc": f"{cpu_percent(stats):.2f}%",
        "MemPerc": f"{used / limit * 100 if limit else 0:.2f}%",
        "MemUsage": f"{binary_size(used)} / {binary_size(limit)}",
        "NetIO": f"{decimal_size(received, 3)} / {decimal_size(sent, 3)}",
        "PIDs": str((stats.get("pids_stats") or {}).get("current") or 0),
    }


def cpu_percent(stats: Mapping[str, Any]) -> float:
    """Of one processor, since the sample before: 100.0 for one that was busy all the time."""
    now, before = stats.get("cpu_stats") or {}, stats.get("precpu_stats") or {}
    used = _total(now) - _total(before)
    passed = (now.get("system_cpu_usage") or 0) - (before.get("system_cpu_usage") or 0)
    processors = now.get("online_cpus") or len((now.get("cpu_usage") or {}).get("percpu_usage") or ())
    return used / passed * processors * 100 if used > 0 and passed > 0 else 0.0


def _total(cpu: Mapping[str, Any]) -> int:
    return int((cpu.get("cpu_usage") or {}).get("total_usage") or 0)


def memory_used(memory: Mapping[str, Any]) -> int:
    """Bytes, without the pages of files that the kernel may drop: those of cgroup v1, else those of v2."""
    usage, details = int(memory.get("usage") or 0), memory.get("stats") or {}
    for key in ("total_inactive_file", "inactive_file"):
        if details.get(key, usage) < usage:
            return usage - int(details[key])
    return usage


def block_bytes(entries: Iterable[Mapping[str, Any]]) -> tuple[int, int]:
    """Read and written, over all devices."""
    sums = {"r": 0, "w": 0}
    for entry in entries:
        kind = entry.get("op", "")[:1].lower()
        if kind in sums:
            sums[kind] += entry["value"]
    return sums["r"], sums["w"]


def network_bytes(interfaces: Iterable[Mapping[str, Any]]) -> tuple[int, int]:
    """Received and sent, over all interfaces."""
    found = list(interfaces)
    return sum(each["rx_bytes"] for each in found), sum(each["tx_bytes"] for each in found)
