"""Values under /proc/sys of the namespace that the calling thread is in."""

from __future__ import annotations

import os

from cnm.errors import KernelError
from cnm.kernel.state import Sysctl

_ROOT = "/proc/sys/"
_LONGEST = 4096


def write(sysctl: Sysctl) -> None:
    """Raises KernelError naming the key and the value.

    What is right already is not written: many of these switches take the kernel's routing lock, and spin for it.
    """
    value = sysctl.value.encode()
    try:
        descriptor = os.open(_ROOT + sysctl.key, os.O_RDWR | os.O_CLOEXEC)
        try:
            if os.pread(descriptor, _LONGEST, 0).rstrip() != value:
                os.write(descriptor, value)
        finally:
            os.close(descriptor)
    except OSError as error:
        why = os.strerror(error.errno or 0).lower()
        raise KernelError(f"cannot set {sysctl.key} to {sysctl.value}: {why}", error.errno or 0) from None


def read(key: str) -> str | None:
    """The value without its newline, None where this kernel has no such key."""
    try:
        descriptor = os.open(_ROOT + key, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(descriptor, _LONGEST).decode().strip()
        finally:
            os.close(descriptor)
    except OSError:
        return None
