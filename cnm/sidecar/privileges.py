"""A sidecar gives up what it does not need: other people's descriptors, capabilities, the user root."""

from __future__ import annotations

import ctypes
import os
import resource
import struct
from collections.abc import Collection

from cnm.errors import CnmError

NOBODY = 65534
"""User and group; Debian's nobody and nogroup."""

_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITY_VERSION_3 = 0x20080522
"""<linux/prctl.h>, <linux/capability.h>."""

_libc = ctypes.CDLL(None, use_errno=True)


def close_inherited(keep: Collection[int]) -> None:
    """Close every descriptor above stderr but these: cnmd's libraries do not mark all of theirs close-on-exec."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    first = 3
    for kept in sorted(keep):
        os.closerange(first, kept)
        first = kept + 1
    os.closerange(first, limit)


def allow_many_descriptors() -> None:
    """Sidecars hold a socket or two for everything that they serve."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def drop() -> None:
    """Become nobody where this is root; in any case without capabilities, and without a way to any. Raises CnmError."""
    try:
        _call("PR_SET_NO_NEW_PRIVS", _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        if os.geteuid() == 0:
            _empty_bounding_set()
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
        _clear_capabilities()
    except OSError as error:
        raise CnmError(f"cannot drop privileges: {(error.strerror or str(error)).lower()}") from None


def _empty_bounding_set() -> None:
    with open("/proc/sys/kernel/cap_last_cap") as file:
        last = int(file.read())
    for capability in range(last + 1):
        _call("PR_CAPBSET_DROP", _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0))


def _clear_capabilities() -> None:
    """Effective, permitted and inheritable; the ambient ones go with them (capabilities(7))."""
    header = ctypes.create_string_buffer(struct.pack("Ii", _CAPABILITY_VERSION_3, 0))
    nothing = ctypes.create_string_buffer(24)
    _call("capset", _libc.capset(header, nothing))


def _call(doing: str, result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{doing}: {os.strerror(number)}")
