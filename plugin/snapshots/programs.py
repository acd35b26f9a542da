"""Trees of files copied and archived by cp, sync and tar: owners, links, holes and attributes included."""

from __future__ import annotations

import os
import subprocess
from typing import IO

from cnm.errors import CnmError

_WHOLE = ("--xattrs", "--xattrs-include=*", "--acls", "--numeric-owner")
_CHANGED = 1
"""tar's exit code where a file changed while it was read (GNU tar, "Return Values")."""


def copy_tree(source: str, target: str, about: str) -> None:
    """`target`, which is not there yet, becomes a copy of the folder `source`, and is on the disk.

    File systems that can share content (btrfs, xfs) do. Raises CnmError with what cp says.
    """
    _run(["cp", "--archive", "--reflink=auto", "--no-target-directory", source, target], about)
    flush_tree(target, about)


def flush_tree(path: str, about: str) -> None:
    """All of the path's file system is on the disk."""
    _run(["sync", "--file-system", path], about)


def pack(folder: str, target: str, output: IO[bytes] | None, about: str, *, live: bool) -> None:
    """What is in the folder as a tar archive, at the path `target` (compressed as its ending says) or in `output`.

    Where it is `live`, files may change while they are read. Raises CnmError with what tar says.
    """
    command = ["tar", "--create", "--sparse", *_WHOLE, "--directory", folder, "--file"]
    command += ["-", "."] if output else [target, "--auto-compress", "."]
    _run(command, about, output=output, fine=(0, _CHANGED) if live else (0,))


def unpack(source: str, stream: IO[bytes] | None, folder: str, about: str) -> None:
    """The archive at the path `source`, or in `stream`, into the folder. Raises CnmError with what tar says.

    Compression is recognized, of a stream it is not: tar cannot look at it twice.
    """
    command = ["tar", "--extract", "--preserve-permissions", *_WHOLE, "--directory", folder]
    _run([*command, "--file", "-" if stream else source], about, stream=stream)
    flush_tree(folder, about)


def _run(
    command: list[str],
    about: str,
    *,
    stream: IO[bytes] | None = None,
    output: IO[bytes] | None = None,
    fine: tuple[int, ...] = (0,),
) -> None:
    try:
        done = subprocess.run(
            command,
            stdin=stream or subprocess.DEVNULL,
            stdout=output or subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, "LC_ALL": "C"},
        )
    except OSError as error:
        raise CnmError(f"{about}: cannot run {command[0]}: {error.strerror}") from None
    if done.returncode not in fine:
        raise CnmError(f"{about}: {_first_line(done.stderr) or f'{command[0]} failed'}")


def _first_line(said: bytes) -> str:
    lines = said.decode(errors="replace").strip().splitlines()
    return lines[0] if lines else ""


def size_of(folder: str) -> int:
    """Bytes that the tree takes on the disk; a file of several names counts once, one that goes meanwhile does not."""
    seen: set[tuple[int, int]] = set()
    total = 0
    for parent, folders, files in os.walk(folder):
        for path in (parent, *(os.path.join(parent, name) for name in (*folders, *files))):
            try:
                found = os.lstat(path)
            except FileNotFoundError:
                continue
            if (found.st_dev, found.st_ino) not in seen:
                seen.add((found.st_dev, found.st_ino))
                total += found.st_blocks * 512
    return total
