"""What the machine allows its containers, read once when the launcher starts."""

from __future__ import annotations

import os
import platform
import re
import resource
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

from cnm.errors import Unavailable
from cnm.kernel.pseudo_files import read_text
from cnm.launcher.capabilities import named
from cnm.launcher.programs import Programs
from cnm.launcher.seccomp import find_profile, read_profile

_CGROUPS = Path("/sys/fs/cgroup")


class Feature(Enum):
    """What a kernel may lack; a value is the file that shows it in cgroup v1, and the controller it takes in v2.

    Source: Docker's pkg/sysinfo.
    """

    MEMORY = ("memory", "memory.limit_in_bytes", "memory")
    SWAP = ("memory", "memory.memsw.limit_in_bytes", "memory")
    MEMORY_RESERVATION = ("memory", "memory.soft_limit_in_bytes", "memory")
    OOM_KILL_DISABLE = ("memory", "memory.oom_control", "")
    SWAPPINESS = ("memory", "memory.swappiness", "")
    KERNEL_MEMORY = ("memory", "memory.kmem.limit_in_bytes", "")
    KERNEL_MEMORY_TCP = ("memory", "memory.kmem.tcp.limit_in_bytes", "")
    CPU_SHARES = ("cpu", "cpu.shares", "cpu")
    CPU_QUOTA = ("cpu", "cpu.cfs_quota_us", "cpu")
    CPU_REALTIME = ("cpu", "cpu.rt_period_us", "")
    CPUSET = ("cpuset", "cpuset.cpus", "cpuset")
    PIDS = ("pids", "cgroup.procs", "pids")
    BLKIO_WEIGHT = ("blkio", "blkio.weight", "io")
    BLKIO_WEIGHT_DEVICE = ("blkio", "blkio.weight_device", "io")
    BLKIO_READ_BPS = ("blkio", "blkio.throttle.read_bps_device", "io")
    BLKIO_WRITE_BPS = ("blkio", "blkio.throttle.write_bps_device", "io")
    BLKIO_READ_IOPS = ("blkio", "blkio.throttle.read_iops_device", "io")
    BLKIO_WRITE_IOPS = ("blkio", "blkio.throttle.write_iops_device", "io")
    CGROUP_NAMESPACES = ("/proc/self/ns/cgroup",)
    SECCOMP = ("/proc/sys/kernel/seccomp",)
    APPARMOR = ("/sys/kernel/security/apparmor",)


class Host(NamedTuple):
    """`cpuset_cpus` and `cpuset_mems` are lists as cpuset(7) writes them: "0-1"."""

    cgroup_version: int
    """2 where all controllers are in it, 1 for the older hierarchies and hybrids."""
    features: frozenset[Feature]
    cpus: int
    """That the launcher may use."""
    cpuset_cpus: str
    cpuset_mems: str
    capabilities: tuple[str, ...]
    """That the launcher can give away, in the order of their bits."""
    kernel: tuple[int, int]
    architecture: str
    """As Go names it: "amd64"."""
    hard_limits: Mapping[str, int]
    """By the names of `--ulimit`: none may be higher; empty where the launcher may raise limits."""
    oom_score_floor: int
    """The lowest `--oom-score-adj` that it can set."""
    masked_paths: tuple[str, ...]
    seccomp: Mapping[str, Any] | None
    """Docker's profile; None where none is installed."""
    init: str
    """Path of the program behind `--init`, "" where it is not installed."""


def read_host(programs: Programs, cgroups: Path = _CGROUPS) -> Host:
    """Raises Unavailable for a configured seccomp profile that cannot be read."""
    version = 2 if (cgroups / "cgroup.controllers").exists() else 1
    capabilities = _capabilities()
    may_raise = "CAP_SYS_RESOURCE" in capabilities
    cpuset = "cpuset/cpuset.{}" if version == 1 else "cpuset.{}.effective"
    profile = find_profile(programs.seccomp_profile)
    return Host(
        cgroup_version=version,
        features=_features(version, cgroups),
        cpus=len(os.sched_getaffinity(0)),
        cpuset_cpus=_text(cgroups / cpuset.format("cpus")),
        cpuset_mems=_text(cgroups / cpuset.format("mems")),
        capabilities=capabilities,
        kernel=kernel_version(platform.release()),
        architecture=_ARCHITECTURES.get(platform.machine(), platform.machine()),
        hard_limits={} if may_raise else _hard_limits(),
        oom_score_floor=-1000 if may_raise else int(_text(Path("/proc/self/oom_score_adj"))),
        masked_paths=(*_MASKED, *_thermal_throttles()),
        seccomp=read_profile(profile) if profile else None,
        init=_init(programs),
    )


_ARCHITECTURES = {
    "x86_64": "amd64",
    "i686": "386",
    "aarch64": "arm64",
    "armv7l": "arm",
    "mips64": "mips64",
    "ppc64le": "ppc64le",
    "s390x": "s390x",
    "riscv64": "riscv64",
}

_MASKED = (
    *("/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats"),
    *("/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats"),
    *("/sys/devices/virtual/powercap", "/sys/firmware"),
)
"""Docker 28's, which hides what tells of other programs' work: GHSA-6fw5-f8r9-fgfm, GHSA-jq35-85cj-fj4p."""


def _thermal_throttles() -> list[str]:
    return sorted(map(str, Path("/sys/devices/system/cpu").glob("cpu[0-9]*/thermal_throttle")))


def kernel_version(release: str) -> tuple[int, int]:
    """(6, 18) of "6.18.44-fc"."""
    found = re.match(r"(\d+)\.(\d+)", release)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _capabilities() -> tuple[str, ...]:
    masks = dict(re.findall(r"^(Cap\w+):\s*(\w+)$", _text(Path("/proc/self/status")), re.MULTILINE))
    return named(int(masks["CapBnd"], 16) & int(masks["CapPrm"], 16))


def _features(version: int, cgroups: Path) -> frozenset[Feature]:
    has = _has_in_v1(cgroups) if version == 1 else _has_in_v2(cgroups)
    of_cgroups = {feature for feature in Feature if len(feature.value) == 3 and has(*feature.value)}
    return frozenset(of_cgroups | {f for f in Feature if len(f.value) == 1 and os.path.exists(f.value[0])})


_Has = Callable[[str, str, str], bool]


def _has_in_v1(cgroups: Path) -> _Has:
    return lambda hierarchy, file, _: (cgroups / hierarchy / file).exists()


def _has_in_v2(cgroups: Path) -> _Has:
    controllers = _text(cgroups / "cgroup.controllers").split()
    # The root has no limits of its own: the launcher's cgroup shows whether swap is counted.
    own = _text(Path("/proc/self/cgroup")).rpartition("::")[2]
    swap = Path(f"{cgroups}{own}/memory.swap.max").exists()
    return lambda _, file, controller: controller in controllers and (swap or "memsw" not in file)


def _text(path: Path) -> str:
    return read_text(str(path)).strip()


LIMITS = {
    name.removeprefix("RLIMIT_").lower(): getattr(resource, name)
    for name in dir(resource)
    if name.startswith("RLIMIT_") and name != "RLIMIT_OFILE"
} | {"locks": 10}
"""The kernel's number of each limit by its name in `--ulimit`."""


def _hard_limits() -> dict[str, int]:
    """Those that are limited at all."""
    found = {name: resource.getrlimit(number)[1] for name, number in LIMITS.items()}
    return {name: hard for name, hard in found.items() if hard != resource.RLIM_INFINITY}


def _init(programs: Programs) -> str:
    try:
        return os.path.abspath(programs.path("init"))
    except Unavailable:
        return ""
