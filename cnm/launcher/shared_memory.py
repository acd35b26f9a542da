"""The /dev/shm of containers that let others share it: mounted outside of them, where both can have it from."""

from __future__ import annotations

import os

from cnm.errors import CnmError
from cnm.kernel import mounting


def make(path: str, size: int, owner: int) -> None:
    """A new one of `size` bytes at `path`, which is made; `owner` is the host's id of root inside. Raises CnmError."""
    remove(path)
    try:
        os.makedirs(path, mode=0o700)
        data = f"mode=1777,size={size},uid={owner},gid={owner}"
        mounting.mount("shm", path, "tmpfs", data, mounting.NOSUID | mounting.NODEV | mounting.NOEXEC)
    except OSError as error:
        raise CnmError(f"mounting shm tmpfs: {(error.strerror or '').lower()}: {path}") from None


def remove(path: str) -> None:
    """Whoever shares it has it still. Nothing there is fine."""
    mounting.unmount_all(path)
    try:
        os.rmdir(path)
    except FileNotFoundError:
        return
