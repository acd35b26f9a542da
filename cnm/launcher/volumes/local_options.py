"""Options of the driver `local`: what is mounted as a volume, in the words of mount(8).

Source: moby's volume/local (options type, o, device) and its sys/mount (flags).
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping
from typing import NamedTuple

from cnm.errors import CnmError, InvalidParameter, NotBuilt

_KNOWN = ("type", "o", "device", "size")
BIND = 0x1000
READ_ONLY = 0x1
_RECURSIVE = 0x4000
_SET: Mapping[str, int] = {
    "ro": READ_ONLY,
    "nosuid": 0x2,
    "nodev": 0x4,
    "noexec": 0x8,
    "sync": 0x10,
    "mand": 0x40,
    "dirsync": 0x80,
    "noatime": 0x400,
    "nodiratime": 0x800,
    "bind": BIND,
    "rbind": BIND | _RECURSIVE,
    "relatime": 1 << 21,
    "strictatime": 1 << 24,
}
"""linux/mount.h."""
_CLEARED = {
    **{name: _SET[f"no{name}"] for name in ("suid", "dev", "exec", "atime", "diratime")},
    **{"rw": READ_ONLY, "async": _SET["sync"], "nomand": _SET["mand"], "defaults": 0},
    **{"norelatime": _SET["relatime"], "nostrictatime": _SET["strictatime"]},
}


class Device(NamedTuple):
    """What is to be mounted: arguments of mount(2)."""

    source: str
    kind: str
    flags: int
    data: str


def check(options: Mapping[str, str]) -> None:
    """Raises InvalidParameter in Docker's words, NotBuilt for a size that the file system would have to keep."""
    for name in options:
        if name not in _KNOWN:
            raise InvalidParameter(f'invalid option: "{name}"')
    if options.get("size"):
        raise NotBuilt("quota size requested but no quota support")
    if any(options.get(name) for name in ("type", "o", "device")):
        for name in ("device", "type"):
            if not options.get(name):
                raise InvalidParameter(f'missing required option: "{name}"')


def device(options: Mapping[str, str]) -> Device | None:
    """None for a volume that is a directory of its own. Raises CnmError for a host name that nobody knows."""
    if not options.get("device"):
        return None
    flags, data = 0, []
    for word in filter(None, options.get("o", "").split(",")):
        if word in _SET:
            flags |= _SET[word]
        elif word in _CLEARED:
            flags &= ~_CLEARED[word]
        else:
            data.append(_with_address(word))
    return Device(options["device"], options["type"], flags, ",".join(data))


def _with_address(word: str) -> str:
    """`addr=HOST` with its address: mount(2) resolves no names."""
    name, _, host = word.partition("=")
    if name != "addr" or not host or _is_address(host):
        return word
    try:
        return f"addr={socket.gethostbyname(host)}"
    except OSError as error:
        raise CnmError(
            f"error resolving passed in network volume address: {host}: {error.strerror}"
        ) from None


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
