"""Values under /proc/sys of the namespace that the calling thread is in."""

from __future__ import annotations

import os

from cnm.errors import KernelError
from cnm.kernel.state import Sysctl

_ROOT = "/proc/sys/"


def write(sysctl: Sysctl) -> None:
    """Raises KernelError naming the key and the value."""
    try:
        descriptor = os.open(_ROOT + sysctl.key, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, sysctl.value.encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        why = os.strerror(error.errno or 0).lower()
        raise KernelError(f"cannot set {sysctl.key} to {sysctl.value}: {why}", error.errno or 0) from None


def read(key: str) -> str | None:
    """The value without its newline, None where this kernel has no such key."""
    try:
        with open(_ROOT + key) as file:
            return file.read().strip()
    except OSError:
        return None
