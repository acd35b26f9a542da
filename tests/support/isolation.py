"""Moves the calling process into network and mount namespaces of its own, away from the machine's."""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from pathlib import Path

_CLONE_NEWNS = 0x00020000  # include/uapi/linux/sched.h
_CLONE_NEWNET = 0x40000000

_MOUNTS = """
mount --make-rprivate /
mkdir "$1/cgroup"
mount --rbind /sys/fs/cgroup "$1/cgroup"
mount -t sysfs sysfs /sys
mount --rbind "$1/cgroup" /sys/fs/cgroup
umount -l "$1/cgroup"
rmdir "$1/cgroup"
mount -t tmpfs tmpfs /run
mkdir /run/netns /run/lock
touch /run/isolated
ip link set lo up
"""
"""sysfs shows the namespace it was mounted from, cgroups stay the machine's, `/run` is empty and private."""


def isolate() -> None:
    """Call it while the process has one thread: others would stay behind. Raises OSError without root."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS | _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "cannot make namespaces for the tests: run them as root")
    with tempfile.TemporaryDirectory() as aside:
        subprocess.run(["sh", "-euc", _MOUNTS, "isolate", aside], check=True)


def isolated() -> bool:
    """This process, or one that started it, has isolated itself."""
    return Path("/run/isolated").exists()
