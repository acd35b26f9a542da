"""`cnmctl cp`: copy files between a container and this host."""

from __future__ import annotations

import os
import stat
import sys

from cnm.cli.client import Client
from cnm.cli.container_files import DEVICE, DIRECTORY, IRREGULAR, SYMLINK, ContainerFiles
from cnm.cli.copy_rules import (
    Source,
    Target,
    arrange,
    base,
    clean,
    followed,
    joined_link,
    keep_ending,
    split,
    split_argument,
)
from cnm.cli.flags import BOOLEAN, Arguments, Command, Flag
from cnm.cli.launcher_client import STANDARD_INPUT, STANDARD_OUTPUT, file_pieces, launcher
from cnm.cli.output import write_bytes
from cnm.cli.quantities import decimal_size
from cnm.errors import CnmError, InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

STREAM = "-"
"""In place of a path of this host: standard input or output, as a tar archive."""
_LINKS_FOLLOWED = 10


def cp(client: Client, arguments: Arguments) -> int:
    source, target = arguments.operands
    if not source or not target:
        raise InvalidParameter(f"{'destination' if source else 'source'} can not be empty")
    (container, inside), (other, outside) = split_argument(source), split_argument(target)
    if container and other:
        raise InvalidParameter("copying between containers is not supported")
    if not container and not other:
        raise InvalidParameter("must specify at least one container source")
    files = ContainerFiles(launcher(client), container or other)
    if container:
        size = _copy_out(files, inside, outside, arguments["follow-link"])
        told = _local(outside)
    else:
        size, told = _copy_in(files, inside, outside, arguments)
    is_quiet = arguments["quiet"] if "quiet" in arguments.given else not os.isatty(STANDARD_OUTPUT)
    if not is_quiet and outside != STREAM:
        print(f"Successfully copied {decimal_size(size, 3)} to {told}", file=sys.stderr)
    return 0


class _Counted:
    """Pieces as they pass, and their length."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = pieces
        self.size = 0

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            self.size += len(piece)
            yield piece


# Out of a container


def _copy_out(files: ContainerFiles, path: str, destination: str, follow: bool) -> int:
    """Bytes of the archive that came."""
    if destination != STREAM:
        destination = _local(destination)
        _check_output(destination)
    name = ""
    if follow:
        path, name = _followed_inside(files, path)
    status, answer = files.read(path)
    pieces = _Counted(answer)
    if destination == STREAM:
        for piece in pieces:
            write_bytes(sys.stdout, piece)
        return pieces.size
    from cnm.cli.local_archive import unpack

    target = _local_target(destination)
    folder, new = arrange(Source(path, bool(status["mode"] & DIRECTORY), name), target)
    old = split(path)[1]
    unpack(pieces, folder, lambda entry: _renamed(entry, old, new))
    return pieces.size


def _followed_inside(files: ContainerFiles, path: str) -> tuple[str, str]:
    status = files.status(path)
    if status is None or not status["mode"] & SYMLINK:
        return path, ""
    return followed(path, joined_link(path, status["linkTarget"]))


def _renamed(entry: str, old: str, new: str) -> str:
    """An entry's name with `new` in place of the `old` first part."""
    if old == "/":
        return entry if new == "/" else f"{new}/{entry}"
    return entry.replace(old, new, 1)


def _check_output(path: str) -> None:
    parent = os.path.dirname(clean(path))
    if not os.path.exists(parent):
        raise InvalidParameter(f'invalid output path: directory "{parent}" does not exist')
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise CnmError(f"stat {path}: {(error.strerror or str(error)).lower()}") from None
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        raise InvalidParameter(
            f'invalid output path: "{path}" must be a directory or a regular file: got a device'
        )


def _local_target(path: str) -> Target:
    for _ in range(_LINKS_FOLLOWED):
        if not os.path.islink(path):
            break
        path = joined_link(path, os.readlink(path))
    else:
        raise CnmError(f"too many symlinks in {path}")
    if os.path.lexists(path):
        return Target(path, exists=True, is_directory=os.path.isdir(path))
    parent = split(path)[0]
    if not os.path.isdir(parent):
        raise CnmError(
            "not a directory" if os.path.exists(parent) else f"{parent}: no such file or directory"
        )
    return Target(path)


def _local(path: str) -> str:
    """The path from the root on; what it ends in stays."""
    return path if path == STREAM else keep_ending(clean(os.path.join(os.getcwd(), path)), path)


# Into a container


def _copy_in(files: ContainerFiles, source: str, path: str, arguments: Arguments) -> tuple[int, str]:
    """Bytes of the archive that was sent, and where to."""
    target = _target_inside(files, path)
    if source == STREAM:
        if not target.is_directory:
            raise InvalidParameter(f'destination "{files.container}:{path}" must be a directory')
        pieces, folder = _Counted(file_pieces(STANDARD_INPUT)), target.path
    else:
        from cnm.cli.local_archive import packed

        found = _local_source(_local(source), arguments["follow-link"])
        folder, name = arrange(found, target)
        pieces = _Counted(packed(found.path, "." if name == "/" else name))
    files.write(folder, pieces, arguments["archive"])
    return pieces.size, f"{files.container}:{target.path}"


def _target_inside(files: ContainerFiles, path: str) -> Target:
    """What is not there may come to be: its directory is looked for when the archive is unpacked."""
    status, place = files.status(path), path
    if status is not None and status["mode"] & SYMLINK:
        place = joined_link(path, status["linkTarget"])
        status = files.status(place)
    if status is None:
        return Target(place)
    for bit, word in ((DEVICE, "device"), (IRREGULAR, "irregular file")):
        if status["mode"] & bit:
            complaint = f'destination "{files.container}:{path}" must be a directory or a regular file'
            raise InvalidParameter(f"{complaint}: got a{'n' * (word[0] == 'i')} {word}")
    return Target(place, exists=True, is_directory=bool(status["mode"] & DIRECTORY))


def _local_source(path: str, follow: bool) -> Source:
    """Raises CnmError where it is not there, in the words of Docker."""
    try:
        if follow:
            real, name = followed(path, os.path.realpath(path, strict=True))
        else:
            parent, slash, last = path.rpartition("/")
            real = f"{os.path.realpath(parent or '/', strict=True).rstrip('/')}{slash}{last}"
            name = base(path) if path.endswith("/") and base(path) != base(real) else ""
        mode = os.lstat(real).st_mode
    except NotADirectoryError:
        raise CnmError("not a directory") from None
    except OSError as error:
        raise CnmError(f"lstat {error.filename or path}: {(error.strerror or str(error)).lower()}") from None
    return Source(real, stat.S_ISDIR(mode), name)


CP = Command(
    "cp",
    "Copy files between a container and this host: of the two paths one is CONTAINER:PATH, and the other may be '-', "
    "a tar archive on standard input or output",
    cp,
    "SOURCE DESTINATION",
    (
        Flag("archive", BOOLEAN, "Keep the numbers of users and groups", "a"),
        Flag("follow-link", BOOLEAN, "Copy what a symbolic link leads to", "L"),
        Flag("quiet", BOOLEAN, "Do not say what was copied; without a terminal nothing is said anyway", "q"),
    ),
)
