"""`cnmctl diff`, `commit` and `export`: what a container changed, and its files as an image or an archive."""

from __future__ import annotations

import os
import sys

from cnm.cli.client import Client, quote
from cnm.cli.flags import BOOLEAN, LIST, STRING, Arguments, Command, Flag
from cnm.cli.launcher_client import STANDARD_OUTPUT, launcher, query_text
from cnm.cli.output import write_bytes
from cnm.errors import CnmError, InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_KINDS = "CAD"
"""Changed, added, deleted: the Engine API's kinds 0, 1, 2."""


def diff(client: Client, arguments: Arguments) -> int:
    changes = launcher(client).get(f"/containers/{quote(arguments.operands[0])}/changes") or ()
    for change in changes:
        print(_KINDS[change["Kind"]], change["Path"])
    return 0


def commit(client: Client, arguments: Arguments) -> int:
    container, reference = (*arguments.operands, "")[:2]
    repository, tag = _repository(reference)
    pairs = [
        ("container", container),
        ("repo", repository),
        ("tag", tag),
        ("comment", arguments["message"]),
        ("author", arguments["author"]),
        *(("changes", change) for change in arguments["change"]),
    ]
    if not arguments["pause"]:
        pairs.append(("pause", "0"))
    print(launcher(client).post("/commit" + query_text(pairs), {})["Id"])
    return 0


def _repository(reference: str) -> tuple[str, str]:
    """(name, tag) of an image's name; the tag is "latest" where it has none."""
    if "@" in reference:
        raise InvalidParameter("cannot commit to digest reference")
    name, colon, tag = reference.rpartition(":")
    if not colon or "/" in tag:
        return reference, "latest" if reference else ""
    return name, tag


def export(client: Client, arguments: Arguments) -> int:
    output = arguments["output"]
    if not output and os.isatty(STANDARD_OUTPUT):
        raise InvalidParameter("cowardly refusing to save to a terminal. Use the -o flag or redirect")
    if output:
        check_file(output, "failed to export container")
    with launcher(client).download(f"/containers/{quote(arguments.operands[0])}/export") as answer:
        if output:
            write_file(answer, output)
        else:
            for piece in answer:
                write_bytes(sys.stdout, piece)
    return 0


def check_file(path: str, what_fails: str) -> None:
    """Before the daemon is asked. Raises InvalidParameter for a path that no file can be written at."""
    folder = os.path.dirname(os.path.normpath(path))
    if folder and not os.path.isdir(folder):
        raise InvalidParameter(f"{what_fails}: invalid output path: stat {folder}: no such file or directory")
    if os.path.isdir(path):
        raise InvalidParameter(f"{what_fails}: {path} is a directory")


def write_file(pieces: Iterable[bytes], path: str) -> None:
    """All of it or nothing: what is at `path` is replaced when the last piece has come."""
    from tempfile import NamedTemporaryFile

    try:
        with NamedTemporaryFile(dir=os.path.dirname(path) or ".", prefix=".cnmctl-", delete=False) as file:
            try:
                for piece in pieces:
                    file.write(piece)
                file.flush()
                os.replace(file.name, path)
            except BaseException:
                os.unlink(file.name)
                raise
    except OSError as error:
        raise CnmError(f"cannot write {path}: {(error.strerror or str(error)).lower()}") from None


DIFF = Command(
    "diff", "Show which files of a container were added (A), changed (C) and deleted (D)", diff, "CONTAINER"
)
COMMIT = Command(
    "commit",
    "Make an image of a container's changes",
    commit,
    "CONTAINER [REPOSITORY[:TAG]]",
    (
        Flag("author", STRING, 'Author, as in "Jo Doe <jo@example.com>"', "a"),
        Flag("change", LIST, "Instruction of a Dockerfile to apply; may be repeated", "c"),
        Flag("message", STRING, "Message of the commit", "m"),
        Flag("pause", BOOLEAN, "Let the container pause meanwhile", "p", True),
    ),
)
EXPORT = Command(
    "export",
    "Write all files of a container as a tar archive",
    export,
    "CONTAINER",
    (Flag("output", STRING, "File to write to, instead of standard output", "o"),),
)
