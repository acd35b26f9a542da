"""In a launcher's process: the disk refuses a container's root file system without saying of which file.

Writes and flushes do so. A file `mount fails` or `remove fails` in the container's folder has it refused.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cnm.launcher.rootfs import Rootfs


def _failing(verb: str, original: Callable[[Rootfs], Any]) -> Callable[[Rootfs], Any]:
    def act(own: Rootfs) -> Any:
        if Path(own.path).with_name(f"{verb} fails").exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return original(own)

    return act


setattr(Rootfs, "mount", _failing("mount", Rootfs.mount))  # noqa: B010 - not for mypy
setattr(Rootfs, "remove", _failing("remove", Rootfs.remove))  # noqa: B010
