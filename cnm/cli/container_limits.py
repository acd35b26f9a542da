"""What `run` sets and `update` can change: the limits of a container, and when it is started again."""

from __future__ import annotations

from cnm.cli.amounts import BYTES, DECIMAL, SWAP, UINT16
from cnm.cli.flags import INTEGER, STRING, Flag
from cnm.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LIMIT_FLAGS = (
    Flag("blkio-weight", UINT16, "Share of block I/O, 10 to 1000; 0 for none of its own"),
    Flag("cpu-period", INTEGER, "Period of the CPU quota in microseconds"),
    Flag("cpu-quota", INTEGER, "Microseconds of CPU in each period"),
    Flag("cpu-rt-period", INTEGER, "Period of the real-time quota in microseconds"),
    Flag("cpu-rt-runtime", INTEGER, "Microseconds of real-time CPU in each period"),
    Flag("cpu-shares", INTEGER, "Share of the CPU when it is scarce", "c"),
    Flag("cpus", DECIMAL, "Number of CPUs"),
    Flag("cpuset-cpus", STRING, "CPUs it may run on (0-3, 0,1)"),
    Flag("cpuset-mems", STRING, "Memory nodes it may use (0-3, 0,1)"),
    Flag("memory", BYTES, "Limit of memory", "m"),
    Flag("memory-reservation", BYTES, "Memory it is held to when memory is scarce"),
    Flag("memory-swap", SWAP, "Limit of memory and swap together; -1 for no limit of swap"),
    Flag("pids-limit", INTEGER, "Limit of processes; -1 for none"),
)

LIMITS = {
    "blkio-weight": "BlkioWeight",
    "cpu-period": "CpuPeriod",
    "cpu-quota": "CpuQuota",
    "cpu-rt-period": "CpuRealtimePeriod",
    "cpu-rt-runtime": "CpuRealtimeRuntime",
    "cpu-shares": "CpuShares",
    "cpus": "NanoCpus",
    "cpuset-cpus": "CpusetCpus",
    "cpuset-mems": "CpusetMems",
    "memory": "Memory",
    "memory-reservation": "MemoryReservation",
    "memory-swap": "MemorySwap",
    "pids-limit": "PidsLimit",
}
"""Keys of the Engine API by the flags."""


def restart_policy(text: str) -> dict[str, Any]:
    """A RestartPolicy of the Engine API from `on-failure:3`. Raises InvalidParameter with Docker's words."""
    if not text:
        return {}
    name, colon, count = text.partition(":")
    if colon and not (count.isascii() and count.removeprefix("-").isdigit()):
        raise InvalidParameter("invalid restart policy format: maximum retry count must be an integer")
    if not name:
        raise InvalidParameter("invalid restart policy format: no policy provided before colon")
    return {"Name": name, "MaximumRetryCount": int(count)} if colon else {"Name": name}
