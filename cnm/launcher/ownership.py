"""Whose a file is, as its container sees it: what user namespaces have shifted is shifted back."""

from __future__ import annotations

import os
import struct

from cnm.launcher.modes import UserMapping

CAPABILITIES = "security.capability"
"""The attribute of a file."""
_REVISION_2, _REVISION_3 = 0x02000000, 0x03000000
_REVISION_MASK = 0xFF000000
_SIZE_OF_3 = 24


def owner(status: os.stat_result, mapping: UserMapping | None) -> tuple[int, int]:
    """User and group inside; those that are not mapped stay as they are."""
    if mapping is None:
        return status.st_uid, status.st_gid
    return mapping.inside(status.st_uid), mapping.inside(status.st_gid)


def capabilities_inside(value: bytes, mapping: UserMapping | None) -> bytes:
    """Those that root of the user namespace gave a file are as if root had (struct vfs_ns_cap_data of capability.h)."""
    if mapping is None or len(value) != _SIZE_OF_3:
        return value
    (magic,) = struct.unpack_from("<I", value)
    if magic & _REVISION_MASK != _REVISION_3:
        return value
    return struct.pack("<I", magic & ~_REVISION_MASK | _REVISION_2) + value[4:-4]
