"""Hosts as `read_host` would find them, for tests that look at no machine."""

from __future__ import annotations

from typing import Any

from cnm.launcher.capabilities import NAMES
from cnm.launcher.host import Feature, Host

_ONLY_IN_V1 = {
    Feature.OOM_KILL_DISABLE,
    Feature.SWAPPINESS,
    Feature.KERNEL_MEMORY,
    Feature.KERNEL_MEMORY_TCP,
    Feature.CPU_REALTIME,
}


def a_host(*, version: int = 1, without: tuple[Feature, ...] = (), **more: Any) -> Host:
    """With everything that its cgroups can do but `without`; `more` are other fields."""
    absent = {*without, Feature.APPARMOR, *(_ONLY_IN_V1 if version == 2 else ())}
    host = Host(
        cgroup_version=version,
        features=frozenset(set(Feature) - absent),
        cpus=4,
        cpuset_cpus="0-3",
        cpuset_mems="0",
        capabilities=NAMES,
        kernel=(6, 1),
        architecture="amd64",
        hard_limits={},
        oom_score_floor=-1000,
        masked_paths=("/proc/kcore",),
        seccomp={"defaultAction": "SCMP_ACT_ERRNO", "syscalls": []},
        init="/usr/bin/tini-static",
    )
    return host._replace(**more)
