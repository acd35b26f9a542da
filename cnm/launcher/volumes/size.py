"""How much of this host's disk a volume takes."""

from __future__ import annotations

import logging
import math
import os
import time

from cnm.errors import CnmError
from cnm.launcher.changes import written
from cnm.launcher.volumes.volume import Volume

log = logging.getLogger("cnm.launcher")

UNKNOWN_SIZE = -1
"""Docker's word for a size that is not told."""


def size_of(volume: Volume, path: str, seconds: float = math.inf) -> int:
    """Bytes of the files in `path`, where its content is; what is not there takes none.

    UNKNOWN_SIZE where they are not this host's own, and where looking at them takes longer than `seconds`.
    """
    if not volume.is_own:
        return UNKNOWN_SIZE
    try:
        return written(path, time.monotonic() + seconds) if os.path.isdir(path) else 0
    except (OSError, CnmError) as error:
        log.info("the size of volume %s is not told: %s", volume.name, error)
        return UNKNOWN_SIZE
