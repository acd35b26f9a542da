"""Capabilities of a container's processes, from `--cap-add`, `--cap-drop` and `--privileged`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from cnm.errors import InvalidParameter

NAMES = (
    *("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID"),
    *("CAP_KILL", "CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE"),
    *("CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER"),
    *("CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT"),
    *("CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE", "CAP_SYS_TIME"),
    *("CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL"),
    *("CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM"),
    *("CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE"),
)
"""In the order of their bits (linux/capability.h); a runtime refuses names that it does not know."""

DEFAULT = (
    *("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW"),
    *("CAP_SETGID", "CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT"),
    *("CAP_KILL", "CAP_AUDIT_WRITE"),
)
"""Docker's fourteen: a80425fb as a mask."""

_ALL = "ALL"


def named(mask: int) -> tuple[str, ...]:
    """The capabilities of a mask as in /proc/PID/status."""
    return tuple(name for bit, name in enumerate(NAMES) if mask >> bit & 1)


def normalised(names: Iterable[str], available: Collection[str]) -> list[str]:
    """Names in any case, with or without CAP_, as the kernel's; ALL stays.

    Raises InvalidParameter for a name that no kernel has, or that `available` does not hold.
    """
    found = []
    for name in map(str.upper, names):
        full = name if name == _ALL or name.startswith("CAP_") else f"CAP_{name}"
        if full != _ALL and full not in NAMES:
            raise InvalidParameter(f'unknown capability: "{full}"')
        if full != _ALL and full not in available:
            raise InvalidParameter(
                "capability not supported by your kernel or not available in the current environment: "
                f'"{full}"'
            )
        found.append(full)
    return found


def granted(
    add: Sequence[str], drop: Sequence[str], *, privileged: bool, available: Sequence[str]
) -> tuple[str, ...]:
    """What a container gets of what is `available` here, without repetitions. Raises as `normalised` does.

    `drop` may name what the host lacks: it is absent either way.
    """
    if privileged:
        return tuple(available)
    dropped = normalised(drop, NAMES)
    added = normalised(add, available)
    if _ALL in added:
        return tuple(name for name in available if name not in dropped)
    basis = () if _ALL in dropped else tuple(name for name in DEFAULT if name in available)
    kept = (name for name in basis if name not in dropped)
    return tuple(dict.fromkeys((*kept, *added)))


def capability_sets(capabilities: Sequence[str], uid: int) -> dict[str, list[str]]:
    """`process.capabilities`. A user other than root starts with none and may gain those of the bounding set.

    So execve(2) does; inheritable and ambient ones are never set (CVE-2022-24769).
    """
    kinds = ("bounding", "effective", "permitted") if uid == 0 else ("bounding",)
    return {kind: list(capabilities) for kind in kinds}
