"""`cnmctl build`: make an image of a Dockerfile and the files beside it."""

from __future__ import annotations

import json
import os
import sys

from cnm.cli.amounts import BYTES
from cnm.cli.client import Client, DaemonError
from cnm.cli.flags import BOOLEAN, LABELS, LIST, STRING, Arguments, Command, Flag
from cnm.cli.launcher_client import STANDARD_INPUT, file_pieces, launcher, query_text
from cnm.errors import CnmError, InvalidParameter
from cnm.ignored_files import NAME, IgnoredFiles

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

_DOCKERFILE = "Dockerfile"
_FROM_OUTSIDE = ".dockerfile.cnmctl"
"""What a Dockerfile from elsewhere is called in the context."""
_STREAM = "-"
_ARCHIVES = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ")
_TAR_MAGIC = slice(257, 262)
_PEEKED = 512


def build(client: Client, arguments: Arguments) -> int:
    context = arguments.operands[0]
    if context == _STREAM and arguments["file"] == _STREAM:
        raise InvalidParameter("invalid argument: can't use stdin for both build context and dockerfile")
    if context.startswith(("http://", "https://", "git://", "git@")):
        raise InvalidParameter(f"cannot build from {context}: fetch it first, and build the directory")
    name, pieces = _from_stdin(arguments["file"]) if context == _STREAM else _from_folder(context, arguments)
    path = "/build" + query_text(pair for pair in _pairs(arguments, name) if pair[1])
    with launcher(client).upload("POST", path, pieces) as answer:
        image = _shown(answer, arguments["quiet"])
    if arguments["iidfile"]:
        _write(arguments["iidfile"], image)
    return 0


def _pairs(arguments: Arguments, dockerfile: str) -> Iterator[tuple[str, str]]:
    yield "dockerfile", dockerfile
    yield from (("t", name) for name in arguments["tag"])
    yield "buildargs", json.dumps(dict(_variables(arguments["build-arg"])))
    yield "labels", json.dumps(arguments["label"]) if arguments["label"] else ""
    yield from (("extrahosts", each) for each in arguments["add-host"])
    for parameter, flag in (("target", "target"), ("networkmode", "network"), ("platform", "platform")):
        yield parameter, arguments[flag]
    for parameter, flag in (("nocache", "no-cache"), ("pull", "pull"), ("squash", "squash")):
        yield parameter, "1" if arguments[flag] else ""
    for parameter, flag in (("memory", "memory"), ("shmsize", "shm-size")):
        yield parameter, str(arguments[flag] or "")
    yield "cpusetcpus", arguments["cpuset-cpus"]


def _variables(given: Iterable[str]) -> Iterator[tuple[str, str]]:
    """A NAME alone takes the value that it has here, and is left out where it has none."""
    for text in given:
        name, equals, value = text.partition("=")
        if equals or name in os.environ:
            yield name, value if equals else os.environ[name]


def _shown(answer: Iterable[bytes], quiet: bool) -> str:
    """What is told, as it comes; the image's id. Raises DaemonError with a RUN step's exit code."""
    image, kept = "", []
    for message in _messages(answer):
        image = message.get("aux", {}).get("ID", image)
        text = message.get("stream", "")
        if quiet:
            kept.append(text)
        else:
            print(text, end="", flush=True)
        if "error" in message:
            print("".join(kept), end="", file=sys.stderr)
            raise _failed(message)
    if quiet:
        print(image)
    return image


def _messages(pieces: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        yield from (json.loads(line) for line in lines if line.strip())


def _failed(message: dict[str, Any]) -> DaemonError:
    error = DaemonError(message["error"], 500)
    error.exit_code = message.get("errorDetail", {}).get("code") or CnmError.exit_code
    return error


def _write(path: str, text: str) -> None:
    try:
        with open(path, "w", encoding="ascii") as file:
            file.write(text)
    except OSError as error:
        raise CnmError(f"cannot write {path}: {(error.strerror or str(error)).lower()}") from None


# The context


def _from_stdin(dockerfile: str) -> tuple[str, Iterator[bytes]]:
    """A tar, compressed or not, or else a Dockerfile without any other file."""
    pieces = file_pieces(STANDARD_INPUT)
    beginning = b""
    while len(beginning) < _PEEKED and (piece := next(pieces, b"")):
        beginning += piece
    if beginning.startswith(_ARCHIVES) or beginning[_TAR_MAGIC] == b"ustar":
        return dockerfile or _DOCKERFILE, _joined(beginning, pieces)
    return _DOCKERFILE, _archive_of({_DOCKERFILE: b"".join(_joined(beginning, pieces))})


def _joined(beginning: bytes, pieces: Iterator[bytes]) -> Iterator[bytes]:
    yield beginning
    yield from pieces


def _from_folder(folder: str, arguments: Arguments) -> tuple[str, Iterator[bytes]]:
    """The Dockerfile's name in the context, and the context."""
    if not os.path.isdir(folder):
        raise InvalidParameter(f'unable to prepare context: path "{folder}" not found')
    given = arguments["file"]
    if given == _STREAM:
        text = b"".join(file_pieces(STANDARD_INPUT))
        return _FROM_OUTSIDE, _packed(folder, (), {_FROM_OUTSIDE: text})
    path = given or os.path.join(folder, _DOCKERFILE)
    inside = os.path.relpath(os.path.realpath(path), os.path.realpath(folder))
    if not os.path.isfile(path):
        raise InvalidParameter(
            "unable to prepare context: unable to evaluate symlinks in Dockerfile path: "
            f"lstat {path}: no such file or directory"
        )
    if inside.startswith("../"):
        return _FROM_OUTSIDE, _packed(folder, (), {_FROM_OUTSIDE: _read(path)})
    return inside, _packed(folder, (inside,), {})


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise CnmError(f"open {path}: {(error.strerror or str(error)).lower()}") from None


def _packed(folder: str, sent: Iterable[str], more: dict[str, bytes]) -> Iterator[bytes]:
    """The files of a folder but for those that are ignored, and `more`, as a tar."""
    from cnm.cli.local_archive import packed_tree

    path = os.path.join(folder, NAME)
    lines = _read(path).decode("utf-8-sig", "surrogateescape").splitlines() if os.path.isfile(path) else []
    ignored = IgnoredFiles(lines, (NAME, *sent, *more))
    yield from packed_tree(folder, ignored.holds, ignored.prunes)
    yield from _archive_of(more)


def _archive_of(files: dict[str, bytes]) -> Iterator[bytes]:
    """To its end, so that it can stand behind the entries of another."""
    import tarfile

    for name, content in files.items():
        info = tarfile.TarInfo(name)
        info.size = len(content)
        yield info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
        yield content + bytes(-len(content) % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)


BUILD = Command(
    "build",
    "Make an image of a Dockerfile; PATH is the directory of its files, '-' standard input",
    build,
    "PATH",
    (
        Flag("add-host", LIST, "Another name that RUN knows: NAME:ADDRESS"),
        Flag("build-arg", LIST, "Value of an ARG: NAME=VALUE, or NAME for this environment's"),
        Flag("cpuset-cpus", STRING, "CPUs that RUN may use: 0-1"),
        Flag(
            "file",
            STRING,
            "The Dockerfile, '-' for standard input; PATH/Dockerfile where it is not given",
            "f",
        ),
        Flag("iidfile", STRING, "Write the image's ID to this file"),
        Flag("label", LABELS, "Label of the image"),
        Flag("memory", BYTES, "Memory that RUN may use", "m"),
        Flag("network", STRING, "Network of RUN: default, none, host, or a network's name"),
        Flag("no-cache", BOOLEAN, "Do every step again"),
        Flag("platform", STRING, "Platform of the image, as in linux/arm64"),
        Flag("pull", BOOLEAN, "Ask the registry for newer images"),
        Flag("quiet", BOOLEAN, "Show nothing but the image's ID", "q"),
        Flag("shm-size", BYTES, "Size of /dev/shm in RUN"),
        Flag("squash", BOOLEAN, "Make one layer of all steps"),
        Flag("tag", LIST, "Name of the image: NAME[:TAG]; may be repeated", "t"),
        Flag("target", STRING, "The last stage to build"),
    ),
)
