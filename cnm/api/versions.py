"""Engine API versions: which are served, and how a request says which one it speaks (`/v1.44/networks`)."""

from __future__ import annotations

import re

from cnm.errors import InvalidParameter

Version = tuple[int, int]

NEWEST: Version = (1, 52)
OLDEST: Version = (1, 24)

_PREFIXED = re.compile(r"^/v([0-9]{1,4})(?:\.([0-9]{1,4}))?(/.*)$", re.DOTALL)


def text(version: Version) -> str:
    """The version as clients write it."""
    return f"{version[0]}.{version[1]}"


def split(path: str) -> tuple[Version, str]:
    """The version that a path asks for (the newest where it names none) and the path without it.

    Raises InvalidParameter with Docker's words for a version that is not served.
    """
    prefixed = _PREFIXED.match(path)
    if not prefixed:
        return NEWEST, path
    version = (int(prefixed[1]), int(prefixed[2] or 0))
    if version > NEWEST:
        raise InvalidParameter(
            f"client version {text(version)} is too new. Maximum supported API version is {text(NEWEST)}"
        )
    if version < OLDEST:
        raise InvalidParameter(
            f"client version {text(version)} is too old. Minimum supported API version is {text(OLDEST)}, "
            "please upgrade your client to a newer version"
        )
    return version, prefixed[3]
