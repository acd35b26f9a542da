"""What a container uses, read from its cgroups and its network namespace, in the form of Docker's stats."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from cnm.errors import NotFound
from cnm.kernel.pseudo_files import read_text
from cnm.launcher.container import Container
from cnm.launcher.parts import Parts

_ROOT = "/sys/fs/cgroup"
_SECOND = 1.0
_TICK = 10**9 // os.sysconf("SC_CLK_TCK")
_V1_JOINED = "cpu,cpuacct"
"""The usual name of the hierarchy that has both; other hosts have one for each."""


_ONLY_CFQ = (
    *("io_queue_recursive", "io_service_time_recursive", "io_wait_time_recursive"),
    *("io_merged_recursive", "io_time_recursive", "sectors_recursive"),
)
"""What a scheduler told that no kernel has today: empty with cgroups v1, null with v2, as Docker has it."""


class Stats:
    """Thread-safe: everything is read when it is asked for."""

    def __init__(self, parts: Parts) -> None:
        self._p = parts

    def readings(
        self, container: Container, *, again: bool, one_shot: bool
    ) -> Iterator[dict[str, Any] | None]:
        """Each second, None in between; one if not `again`, after a second so that there is one before it too."""
        before = None
        if not again and not one_shot:
            before = self._read(container)
            yield from self._pause()
        while True:
            if not self._p.registry.is_there(container.id):
                return
            now = self._read(container)
            yield shown(container, now, before)
            if not again:
                return
            before = now
            yield from self._pause()

    def _pause(self) -> Iterator[None]:
        yield None
        threading.Event().wait(_SECOND)

    def _read(self, container: Container) -> dict[str, Any]:
        """Empty where it does not run."""
        try:
            state = self._p.registry.get(container.id).state
        except NotFound:
            return {}
        if not state.status.is_alive:
            return {}
        version = self._p.host.cgroup_version
        group = container.cgroup.lstrip("/")
        read = _read_v2 if version == 2 else _read_v1
        return {**read(group), "networks": _networks(state.pid), "system": _system_nanoseconds()}


def shown(container: Container, now: dict[str, Any], before: dict[str, Any] | None) -> dict[str, Any]:
    """GET /containers/{ref}/stats."""
    found: dict[str, Any] = {
        "read": _text(time.time_ns()) if now else "0001-01-01T00:00:00Z",
        "preread": _text(before["at"]) if before else "0001-01-01T00:00:00Z",
        "pids_stats": now.get("pids", {}),
        "blkio_stats": {
            "io_service_bytes_recursive": now.get("bytes"),
            "io_serviced_recursive": now.get("operations"),
            **dict.fromkeys(_ONLY_CFQ, now.get("by_cfq")),
        },
        "num_procs": 0,
        "storage_stats": {},
        "cpu_stats": _cpu(now),
        "precpu_stats": _cpu(before or {}),
        "memory_stats": now.get("memory", {}),
        "name": f"/{container.name}",
        "id": container.id,
    }
    if now.get("networks"):
        found["networks"] = now["networks"]
    return found


def _cpu(reading: dict[str, Any]) -> dict[str, Any]:
    if not reading:
        empty = {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0}
        return {
            "cpu_usage": empty,
            "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0},
        }
    return {
        "cpu_usage": reading["cpu"],
        "system_cpu_usage": reading["system"],
        "online_cpus": os.cpu_count() or 1,
        "throttling_data": reading["throttling"],
    }


def _read_v1(group: str) -> dict[str, Any]:
    cpu, memory, blkio = (_place(name, group) for name in ("cpu", "memory", "blkio"))
    accounts = _place("cpuacct", group)
    ticks = _pairs(f"{accounts}/cpuacct.stat")
    usage = {
        "total_usage": _number(f"{accounts}/cpuacct.usage"),
        "percpu_usage": [int(word) for word in read_text(f"{accounts}/cpuacct.usage_percpu").split()],
        "usage_in_kernelmode": ticks.get("system", 0) * _TICK,
        "usage_in_usermode": ticks.get("user", 0) * _TICK,
    }
    throttled = _pairs(f"{cpu}/cpu.stat")
    return {
        "at": time.time_ns(),
        "cpu": usage,
        "throttling": {
            "periods": throttled.get("nr_periods", 0),
            "throttled_periods": throttled.get("nr_throttled", 0),
            "throttled_time": throttled.get("throttled_time", 0),
        },
        "memory": {
            "usage": _number(f"{memory}/memory.usage_in_bytes"),
            "max_usage": _number(f"{memory}/memory.max_usage_in_bytes"),
            "stats": _pairs(f"{memory}/memory.stat"),
            "failcnt": _number(f"{memory}/memory.failcnt"),
            "limit": _limit(_number(f"{memory}/memory.limit_in_bytes")),
        },
        "pids": _pids(_place("pids", group)),
        "bytes": _blkio(f"{blkio}/blkio.throttle.io_service_bytes"),
        "operations": _blkio(f"{blkio}/blkio.throttle.io_serviced"),
        "by_cfq": [],
    }


def _read_v2(group: str) -> dict[str, Any]:
    place = f"{_ROOT}/{group}"
    cpu = _pairs(f"{place}/cpu.stat")
    maximum = read_text(f"{place}/memory.max").strip()
    io = _io(f"{place}/io.stat")
    return {
        "at": time.time_ns(),
        "cpu": {
            "total_usage": cpu.get("usage_usec", 0) * 1000,
            "usage_in_kernelmode": cpu.get("system_usec", 0) * 1000,
            "usage_in_usermode": cpu.get("user_usec", 0) * 1000,
        },
        "throttling": {
            "periods": cpu.get("nr_periods", 0),
            "throttled_periods": cpu.get("nr_throttled", 0),
            "throttled_time": cpu.get("throttled_usec", 0) * 1000,
        },
        "memory": {
            "usage": _number(f"{place}/memory.current"),
            "stats": _pairs(f"{place}/memory.stat"),
            "limit": _limit(int(maximum) if maximum.isdecimal() else 2**63),
        },
        "pids": _pids(place),
        "bytes": [entry for entry in io if entry["op"] in ("read", "write")],
        "operations": None,
    }


def _place(controller: str, group: str) -> str:
    """In the hierarchy of the controller; that of two has both names, and often links of each."""
    joined = f"{_ROOT}/{_V1_JOINED}/{group}"
    if controller in _V1_JOINED.split(",") and os.path.isdir(joined):
        return joined
    return f"{_ROOT}/{controller}/{group}"


def _limit(limit: int) -> int:
    """The machine's memory where there is none."""
    return min(limit, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))


def _pids(place: str) -> dict[str, int]:
    limit = read_text(f"{place}/pids.max").strip()
    found = {"current": _number(f"{place}/pids.current")}
    return found | ({"limit": int(limit)} if limit.isdecimal() else {})


def _blkio(path: str) -> list[dict[str, Any]]:
    """With the kernel's words, as Docker has them: "Read" where those of cgroup v2 are "read"."""
    found = []
    for line in read_text(path).splitlines():
        words = line.split()
        if len(words) == 3 and words[1] in ("Read", "Write", "Sync", "Async", "Discard", "Total"):
            major, _, minor = words[0].partition(":")
            found.append({"major": int(major), "minor": int(minor), "op": words[1], "value": int(words[2])})
    return found


def _io(path: str) -> list[dict[str, Any]]:
    names = {"rbytes": "read", "wbytes": "write"}
    found = []
    for line in read_text(path).splitlines():
        device, *words = line.split()
        major, _, minor = device.partition(":")
        for word in words:
            key, _, value = word.partition("=")
            if key in names:
                found.append(
                    {"major": int(major), "minor": int(minor), "op": names[key], "value": int(value)}
                )
    return found


def _networks(pid: int) -> dict[str, dict[str, int]]:
    """By interface, from /proc/PID/net/dev (proc(5)); not the loopback."""
    found = {}
    for line in read_text(f"/proc/{pid}/net/dev").splitlines()[2:]:
        name, _, rest = line.partition(":")
        numbers = [int(word) for word in rest.split()]
        if name.strip() != "lo" and len(numbers) >= 12:
            found[name.strip()] = {
                **dict(zip(("rx_bytes", "rx_packets", "rx_errors", "rx_dropped"), numbers[:4], strict=True)),
                **dict(
                    zip(("tx_bytes", "tx_packets", "tx_errors", "tx_dropped"), numbers[8:12], strict=True)
                ),
            }
    return found


def _system_nanoseconds() -> int:
    """Of all processors, from /proc/stat: user to softirq, as dockerd counts them."""
    words = read_text("/proc/stat").partition("\n")[0].split()[1:8]
    return sum(map(int, words)) * _TICK


def _number(path: str) -> int:
    text = read_text(path).strip()
    return int(text) if text.isdecimal() else 0


def _pairs(path: str) -> dict[str, int]:
    words = (line.split() for line in read_text(path).splitlines())
    return {pair[0]: int(pair[1]) for pair in words if len(pair) == 2 and pair[1].isdecimal()}


def _text(nanoseconds: int) -> str:
    moment = datetime.fromtimestamp(nanoseconds // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{moment}.{nanoseconds % 10**9:09d}Z"
