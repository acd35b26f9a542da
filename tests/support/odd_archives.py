"""Archives of a Dockerfile, and of a file whose header says what no file can have."""

from __future__ import annotations

import tarfile

from tests.support.image_store import Member, entry, tar, text

_NAME = "odd"
_FIRST = text("Dockerfile", "FROM busybox\n")
"""The docker CLI looks at the first header itself."""


def _odd(**headers: str) -> bytes:
    return tar(_FIRST, _member(**headers))


def _member(**headers: str) -> Member:
    """By extended headers, which say any number and any text; dots are written as double underscores."""
    info, content = text(_NAME, "content")
    info.pax_headers = {key.replace("__", "."): value for key, value in headers.items()}
    return info, content


def _odd_directory(mtime: str) -> bytes:
    info = entry(_NAME, kind=tarfile.DIRTYPE, mode=0o755)
    info.pax_headers = {"mtime": mtime}
    return tar(_FIRST, (info, b""))


def _gnu(member: Member, **fields: int) -> bytes:
    """GNU's headers have numbers of any size, too."""
    info, content = member
    info.size = len(content)
    for name, value in fields.items():
        setattr(info, name, value)
    first = _FIRST[0].tobuf(tarfile.GNU_FORMAT) + _FIRST[1].ljust(tarfile.BLOCKSIZE, b"\0")
    block = info.tobuf(tarfile.GNU_FORMAT) + content
    return first + block + bytes(-len(block) % tarfile.BLOCKSIZE + 2 * tarfile.BLOCKSIZE)


_HOLES = _member(GNU__sparse__map="1,x", GNU__sparse__size="5", GNU__sparse__name=_NAME)
HOLES = tar(_HOLES)
"""Holes that are no numbers, in the first header."""

NO_HEADERS = {
    "a time that no clock tells": _odd(mtime="1e30"),
    "an endless time": _odd(mtime="inf"),
    "a time that is no number": _odd(mtime="nan"),
    "a directory's time that no clock tells": _odd_directory("1e30"),
    "a name with a NUL": _odd(path="a\0b"),
    "an attribute with a NUL": _odd(**{"SCHILY__xattr__user__a\0b": "1"}),
    "holes that are no numbers": tar(_FIRST, _HOLES),
}
"""What is no header for Docker either."""

NO_FILES = {
    "a user beyond all": _odd(uid=str(1 << 33)),
    "a user below all": _odd(uid="-2"),
    "a group beyond all": _odd(gid=str(1 << 40)),
    "a device beyond all": _gnu((entry(_NAME, kind=tarfile.CHRTYPE), b""), devmajor=1 << 40),
}
"""What Docker's library reads; it has the kernel cut the numbers of owners off, so that they are others."""

OUTSIDE = _odd(path="../\udcff")
"""By a name that is no text."""
