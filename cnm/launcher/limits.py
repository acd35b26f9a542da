"""What limits may be, and what becomes of those that this kernel cannot set: Docker's rules and words.

Source: Docker's verifyPlatformContainerResources and adaptContainerSettings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

import msgspec

from cnm.errors import InvalidParameter
from cnm.launcher.host import LIMITS, Feature, Host
from cnm.wire.containers import Resources

R = TypeVar("R", bound=Resources)

_LEAST_MEMORY = 6 << 20


class _Discard(NamedTuple):
    """An option that is dropped where `feature` is lacking: its fields, what they become, and what is said."""

    feature: Feature
    given: Callable[[Resources], bool]
    without: dict[str, Any]
    warning: str


_NOT_MOUNTED = "or the cgroup is not mounted."

_DISCARDS = (
    _Discard(
        Feature.MEMORY,
        lambda r: (r.memory or 0) > 0,
        {"memory": 0, "memory_swap": -1},
        f"Your kernel does not support memory limit capabilities {_NOT_MOUNTED} Limitation discarded.",
    ),
    _Discard(
        Feature.SWAP,
        lambda r: (r.memory or 0) > 0 and r.memory_swap != -1,
        {"memory_swap": -1},
        f"Your kernel does not support swap limit capabilities {_NOT_MOUNTED} Memory limited without swap.",
    ),
    _Discard(
        Feature.SWAPPINESS,
        lambda r: r.memory_swappiness is not None,
        {"memory_swappiness": None},
        f"Your kernel does not support memory swappiness capabilities {_NOT_MOUNTED} Memory swappiness discarded.",
    ),
    _Discard(
        Feature.MEMORY_RESERVATION,
        lambda r: (r.memory_reservation or 0) > 0,
        {"memory_reservation": 0},
        f"Your kernel does not support memory soft limit capabilities {_NOT_MOUNTED} Limitation discarded.",
    ),
    _Discard(
        Feature.KERNEL_MEMORY,
        lambda r: (r.kernel_memory or 0) > 0,
        {"kernel_memory": 0},
        f"Your kernel does not support kernel memory limit capabilities {_NOT_MOUNTED} Limitation discarded.",
    ),
    _Discard(
        Feature.OOM_KILL_DISABLE,
        lambda r: bool(r.oom_kill_disable),
        {"oom_kill_disable": None},
        "Your kernel does not support OomKillDisable. OomKillDisable discarded.",
    ),
    _Discard(
        Feature.PIDS,
        lambda r: (r.pids_limit or 0) > 0,
        {"pids_limit": None},
        f"Your kernel does not support PIDs limit capabilities {_NOT_MOUNTED} PIDs limit discarded.",
    ),
    _Discard(
        Feature.CPU_SHARES,
        lambda r: (r.cpu_shares or 0) > 0,
        {"cpu_shares": 0},
        f"Your kernel does not support CPU shares {_NOT_MOUNTED} Shares discarded.",
    ),
    _Discard(
        Feature.CPU_QUOTA,
        lambda r: bool(r.cpu_period or r.cpu_quota),
        {"cpu_period": 0, "cpu_quota": 0},
        "Your kernel does not support CPU CFS scheduler. CPU period/quota discarded.",
    ),
    _Discard(
        Feature.CPUSET,
        lambda r: bool(r.cpuset_cpus or r.cpuset_mems),
        {"cpuset_cpus": "", "cpuset_mems": ""},
        f"Your kernel does not support cpuset {_NOT_MOUNTED} Cpuset discarded.",
    ),
    _Discard(
        Feature.BLKIO_WEIGHT,
        lambda r: (r.blkio_weight or 0) > 0,
        {"blkio_weight": 0},
        f"Your kernel does not support Block I/O weight {_NOT_MOUNTED} Weight discarded.",
    ),
    _Discard(
        Feature.BLKIO_WEIGHT_DEVICE,
        lambda r: bool(r.blkio_weight_device),
        {"blkio_weight_device": []},
        f"Your kernel does not support Block I/O weight_device {_NOT_MOUNTED} Weight-device discarded.",
    ),
    _Discard(
        Feature.BLKIO_READ_BPS,
        lambda r: bool(r.blkio_device_read_bps),
        {"blkio_device_read_bps": []},
        f"Your kernel does not support BPS Block I/O read limit {_NOT_MOUNTED} "
        "Block I/O BPS read limit discarded.",
    ),
    _Discard(
        Feature.BLKIO_WRITE_BPS,
        lambda r: bool(r.blkio_device_write_bps),
        {"blkio_device_write_bps": []},
        f"Your kernel does not support BPS Block I/O write limit {_NOT_MOUNTED} "
        "Block I/O BPS write limit discarded.",
    ),
    _Discard(
        Feature.BLKIO_READ_IOPS,
        lambda r: bool(r.blkio_device_read_iops),
        {"blkio_device_read_iops": []},
        f"Your kernel does not support IOPS Block read limit {_NOT_MOUNTED} Block I/O IOPS read limit discarded.",
    ),
    _Discard(
        Feature.BLKIO_WRITE_IOPS,
        lambda r: bool(r.blkio_device_write_iops),
        {"blkio_device_write_iops": []},
        f"Your kernel does not support IOPS Block write limit {_NOT_MOUNTED} Block I/O IOPS write limit discarded.",
    ),
)


def settled_resources(resources: R, host: Host) -> tuple[R, list[str]]:
    """The limits as they will hold here, and the warnings about those that will not."""
    warnings = []
    # -1 stands for the kernel's own value: old clients send it.
    settled = msgspec.structs.replace(resources, memory_swappiness=_swappiness(resources))
    for discard in _DISCARDS:
        if discard.feature not in host.features and discard.given(settled):
            settled = msgspec.structs.replace(settled, **discard.without)
            warnings.append(discard.warning)
    if settled.kernel_memory:
        warnings.append(
            "Specifying a kernel memory limit is deprecated and will be removed in a future release."
        )
    if settled.oom_kill_disable and not settled.memory:
        warnings.append(
            "OOM killer is disabled for the container, but no memory limit is set, this can result in the system "
            "running out of resources."
        )
    return settled, warnings


def _swappiness(resources: Resources) -> int | None:
    return None if resources.memory_swappiness == -1 else resources.memory_swappiness


def with_defaults(resources: R) -> R:
    """As Docker keeps them: as much swap as memory, the kernel may kill, and 0 for any number of processes."""
    memory, processes = resources.memory or 0, resources.pids_limit
    return msgspec.structs.replace(
        resources,
        memory_swap=2 * memory if memory > 0 and not resources.memory_swap else resources.memory_swap,
        oom_kill_disable=bool(resources.oom_kill_disable),
        pids_limit=None if processes is None else max(0, processes),
    )


def check_resources(resources: Resources, host: Host, *, update: bool = False) -> None:
    """Raises InvalidParameter for limits that are out of range or contradict each other."""
    settled, _ = settled_resources(resources, host)
    for wrong in (_wrong_memory(settled, update), _wrong_cpu(settled, host), _wrong_cpuset(settled, host)):
        for text in wrong:
            raise InvalidParameter(text)
    if not 10 <= (settled.blkio_weight or 10) <= 1000:
        raise InvalidParameter("Range of blkio weight is from 10 to 1000")
    _check_ulimits(settled, host)


def _wrong_memory(wanted: Resources, update: bool) -> Iterator[str]:
    memory, swap, reservation = wanted.memory or 0, wanted.memory_swap or 0, wanted.memory_reservation or 0
    if memory and memory < _LEAST_MEMORY:
        yield "Minimum memory limit allowed is 6MB"
    if memory > 0 and 0 < swap < memory:
        yield "Minimum memoryswap limit should be larger than memory limit, see usage"
    if memory == 0 and swap > 0 and not update:
        yield "You should always set the Memory limit when using Memoryswap limit, see usage"
    if wanted.memory_swappiness is not None and not 0 <= wanted.memory_swappiness <= 100:
        yield f"Invalid value: {wanted.memory_swappiness}, valid memory swappiness range is 0-100"
    if 0 < reservation < _LEAST_MEMORY:
        yield "Minimum memory reservation allowed is 6MB"
    if 0 < memory < reservation:
        yield "Minimum memory limit can not be less than memory reservation limit, see usage"
    if 0 < (wanted.kernel_memory or 0) < _LEAST_MEMORY:
        yield "Minimum kernel memory limit allowed is 6MB"


def _wrong_cpu(wanted: Resources, host: Host) -> Iterator[str]:
    nano, period, quota = wanted.nano_cpus or 0, wanted.cpu_period or 0, wanted.cpu_quota or 0
    if (wanted.cpu_shares or 0) < 0:
        yield f"invalid CPU shares ({wanted.cpu_shares}): value must be a positive integer"
    if nano > 0 and period > 0:
        yield "Conflicting options: Nano CPUs and CPU Period cannot both be set"
    if nano > 0 and quota > 0:
        yield "Conflicting options: Nano CPUs and CPU Quota cannot both be set"
    if nano > 0 and Feature.CPU_QUOTA not in host.features:
        yield (
            "NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler or the cgroup is not mounted"
        )
    if not 0 <= nano <= host.cpus * 10**9:
        yield (f"Range of CPUs is from 0.01 to {host.cpus}.00, as there are only {host.cpus} CPUs available")
    if period and not 1000 <= period <= 1_000_000:
        yield "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"
    if 0 < quota < 1000:
        yield "CPU cfs quota can not be less than 1ms (i.e. 1000)"
    yield from _wrong_realtime(wanted, host)


def _wrong_realtime(wanted: Resources, host: Host) -> Iterator[str]:
    period, runtime = wanted.cpu_realtime_period or 0, wanted.cpu_realtime_runtime or 0
    if (period or runtime) and Feature.CPU_REALTIME not in host.features:
        yield "kernel does not support CPU real-time scheduler"
    if period and runtime > period:
        yield "cpu real-time runtime cannot be higher than cpu real-time period"


def _wrong_cpuset(wanted: Resources, host: Host) -> Iterator[str]:
    for kind, noun, asked, there in (
        ("cpus", "CPUs", wanted.cpuset_cpus or "", host.cpuset_cpus),
        ("mems", "memory nodes", wanted.cpuset_mems or "", host.cpuset_mems),
    ):
        try:
            missing = _numbers(asked) - _numbers(there)
        except ValueError as error:
            yield f"Invalid value {asked} for cpuset {kind}: {error}"
            return
        if missing:
            yield f"Requested {noun} are not available - requested {asked}, available: {there}"


_MOST_CPUS = 8192


def _numbers(text: str) -> set[int]:
    """Of a list like "0-2,4". Raises ValueError."""
    found: set[int] = set()
    for part in filter(None, [text] if "," not in text else text.split(",")):
        first, _, last = part.partition("-")
        if not (first.isascii() and first.isdigit() and (last or first).isdigit()) or part.endswith("-"):
            raise ValueError(f"invalid format: {text}")
        if int(last or first) > _MOST_CPUS:
            raise ValueError(f"value of out range, maximum is {_MOST_CPUS}")
        found.update(range(int(first), int(last or first) + 1))
    return found


def _check_ulimits(wanted: Resources, host: Host) -> None:
    """Without CAP_SYS_RESOURCE nobody raises a hard limit: better said now than by the runtime at every start."""
    for limit in wanted.ulimits or ():
        if limit.name not in LIMITS:
            raise InvalidParameter(f"invalid ulimit type: {limit.name}")
        if limit.hard != -1 and (limit.soft == -1 or limit.soft > limit.hard):
            raise InvalidParameter(
                f"ulimit soft limit must be less than or equal to hard limit: {limit.soft} > {limit.hard}"
            )
        highest = host.hard_limits.get(limit.name)
        if highest is not None and (limit.hard == -1 or limit.hard > highest):
            raise InvalidParameter(
                f"ulimit {limit.name}={limit.soft}:{limit.hard} cannot be set: the hard limit here is {highest}, "
                "and the launcher lacks CAP_SYS_RESOURCE; ask for less, or raise the limit of the launcher"
            )
