"""Whether a path of the host can propagate mounts to a container and back (mount_namespaces(7))."""

from __future__ import annotations

import os

from cnm.errors import InvalidParameter


def check_propagation(source: str, propagation: str) -> None:
    """Raises InvalidParameter, in Docker's words, where the mount that holds `source` is not shared as asked."""
    needed = {"shared": ("shared:",), "slave": ("shared:", "master:")}.get(propagation.removeprefix("r"))
    if needed is None:
        return
    where, options = _mount_of(os.path.realpath(source))
    if not any(option.startswith(needed) for option in options):
        noun = "shared mount" if len(needed) == 1 else "shared or slave mount"
        raise InvalidParameter(f"path {source} is mounted on {where} but it is not a {noun}")


def _mount_of(path: str) -> tuple[str, list[str]]:
    """(mount point, optional fields of its line in mountinfo): of several in one place, the last is on top."""
    found: tuple[str, list[str]] = ("/", [])
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            fields = line.split()
            where = _unescaped(fields[4])
            if len(where) >= len(found[0]) and (path == where or path.startswith(where.rstrip("/") + "/")):
                found = (where, fields[6 : fields.index("-")])
    return found


def _unescaped(field: str) -> str:
    """The kernel writes blanks and backslashes as octal numbers."""
    for written, meant in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(written, meant)
    return field
