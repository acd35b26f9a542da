"""`cnmctl images`, `rmi`, `load` and `import`: the images that containers are made from."""

from __future__ import annotations

import os

from cnm.cli.client import Client, DaemonError, filters, quote
from cnm.cli.flags import BOOLEAN, LIST, STRING, Arguments, Command, Flag
from cnm.cli.launcher_client import STANDARD_INPUT, file_pieces, launcher, messages, query_text
from cnm.cli.output import LIST_FLAGS, Listing
from cnm.cli.quantities import age, decimal_size, local_time
from cnm.cli.report import report
from cnm.cli.transfer_display import show
from cnm.errors import CnmError, InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

NONE = "<none>"
_HEADINGS = {
    "Containers": "CONTAINERS",
    "CreatedAt": "CREATED AT",
    "CreatedSince": "CREATED",
    "Digest": "DIGEST",
    "ID": "IMAGE ID",
    "Repository": "REPOSITORY",
    "SharedSize": "SHARED SIZE",
    "Size": "SIZE",
    "Tag": "TAG",
    "UniqueSize": "UNIQUE SIZE",
    "VirtualSize": "SIZE",
}


def images(client: Client, arguments: Arguments) -> int:
    wanted = arguments["filter"]
    if arguments.operands:
        wanted = {**wanted, "reference": [*wanted.get("reference", []), arguments.operands[0]]}
    query = filters(wanted)
    if arguments["all"]:
        query["all"] = "1"
    found = launcher(client).get("/images/json", query) or []
    with_digest = arguments["digests"]
    columns = ("Repository", "Tag", *(("Digest",) * with_digest), "ID", "CreatedSince", "Size")
    shows_digest = with_digest or "{{.Digest}}" in arguments["format"]
    rows = [
        _row(image, name, arguments["no-trunc"])
        for image in found
        for name in _names(image, shows_digest, with_digest)
    ]
    return Listing("*formatter.imageContext", columns, _HEADINGS).show(rows, arguments)


def _names(image: dict[str, Any], shows_digest: bool, each_digest: bool) -> Iterator[tuple[str, str, str]]:
    """(repository, tag, digest) of each line of an image; names by digest alone come last."""
    tags = _grouped(image.get("RepoTags") or (), ":")
    digests = _grouped(image.get("RepoDigests") or (), "@")
    if not tags and not digests:
        yield NONE, NONE, NONE
    for repository, own in tags.items():
        own_digests = digests.pop(repository, []) if shows_digest else digests.pop(repository, [])[:0]
        for tag in own:
            for digest in own_digests or [NONE]:
                yield repository, tag, digest
    for repository, own in digests.items():
        for digest in own if each_digest else [""]:
            yield repository, NONE, digest


def _grouped(references: list[str] | tuple[str, ...], separator: str) -> dict[str, list[str]]:
    """Tags or digests by repository, without those that stand for "no name"."""
    found: dict[str, list[str]] = {}
    for reference in references:
        repository, _, rest = reference.rpartition(separator)
        if repository != NONE:
            short = repository.removeprefix("docker.io/").removeprefix("library/")
            found.setdefault(short, []).append(rest)
    return found


def _row(image: dict[str, Any], name: tuple[str, str, str], whole: bool) -> dict[str, str]:
    size, shared, containers = image["Size"], image.get("SharedSize", -1), image.get("Containers", -1)
    identifier = image["Id"]
    return {
        "Containers": "N/A" if containers == -1 else str(containers),
        "CreatedAt": local_time(image["Created"]),
        "CreatedSince": age(image["Created"]),
        "Digest": name[2],
        "ID": identifier if whole else identifier.rpartition(":")[2][:12],
        "Repository": name[0],
        "SharedSize": "N/A" if shared == -1 else decimal_size(shared),
        "Size": decimal_size(size, 3),
        "Tag": name[1],
        "UniqueSize": "N/A" if shared == -1 else decimal_size(size - shared),
        "VirtualSize": decimal_size(size),
    }


def rmi(client: Client, arguments: Arguments) -> int:
    daemon, code = launcher(client), 0
    query = {"force": "1"} if arguments["force"] else {}
    if arguments["no-prune"]:
        query["noprune"] = "1"
    for name in arguments.operands:
        try:
            for each in daemon.delete(f"/images/{quote(name)}", query=query) or ():
                print(
                    f"Deleted: {each['Deleted']}" if each.get("Deleted") else f"Untagged: {each['Untagged']}"
                )
        except CnmError as error:
            report(error)
            if not (arguments["force"] and isinstance(error, DaemonError) and error.status == 404):
                code = error.exit_code
    return code


def tag(client: Client, arguments: Arguments) -> int:
    image, name = arguments.operands
    repository, word = split_tag(name)
    launcher(client).post(f"/images/{quote(image)}/tag", query={"repo": repository, "tag": word})
    return 0


def split_tag(name: str) -> tuple[str, str]:
    """(repository, tag) of an image's name; the tag, or the digest, is "" where there is none."""
    if "@" in name:
        repository, _, digest = name.partition("@")
        return repository, digest
    repository, colon, word = name.rpartition(":")
    return (repository, word) if colon and "/" not in word else (name, "")


def load(client: Client, arguments: Arguments) -> int:
    if not arguments["input"] and os.isatty(STANDARD_INPUT):
        raise InvalidParameter("requested load from stdin, but stdin is empty")
    with launcher(client).upload(
        "POST", "/images/load?quiet=1", _archive(arguments["input"] or "-")
    ) as answer:
        for message in messages(answer):
            print(message.get("stream") or message.get("status", ""), end="")
    return 0


def import_(client: Client, arguments: Arguments) -> int:
    source, reference = (*arguments.operands, "")[:2]
    is_url = source.startswith(("http://", "https://"))
    pairs = [
        ("fromSrc", source if is_url else "-"),
        ("repo", reference),
        ("message", arguments["message"]),
        ("platform", arguments["platform"]),
        *(("changes", change) for change in arguments["change"]),
    ]
    path = "/images/create" + query_text(pair for pair in pairs if pair[1])
    if is_url:
        show(launcher(client).stream(path, method="POST"))
        return 0
    with launcher(client).upload("POST", path, _archive(source)) as answer:
        for message in messages(answer):
            if message.get("status") and not message.get("progressDetail"):
                print(message["status"])
    return 0


def _archive(path: str) -> Iterator[bytes]:
    """The file in pieces; "-" is standard input. Raises CnmError at once where it cannot be opened."""
    if path == "-":
        return file_pieces(STANDARD_INPUT)
    try:
        return file_pieces(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        raise CnmError(f"open {path}: {(error.strerror or str(error)).lower()}") from None


IMAGES = Command(
    "images",
    "List images",
    images,
    "[REPOSITORY[:TAG]]",
    (
        Flag("all", BOOLEAN, "Show those that only serve others, too", "a"),
        Flag("digests", BOOLEAN, "Show digests"),
        *LIST_FLAGS,
    ),
)
RMI = Command(
    "rmi",
    "Remove images",
    rmi,
    "IMAGE [IMAGE...]",
    (
        Flag("force", BOOLEAN, "Remove all its names, and be silent about images that do not exist", "f"),
        Flag("no-prune", BOOLEAN, "Keep parents that have no name"),
    ),
)
TAG = Command("tag", "Give an image one more name", tag, "IMAGE NAME[:TAG]")
LOAD = Command(
    "load",
    "Load images from an archive that save made",
    load,
    "",
    (
        Flag("input", STRING, "File to read, instead of standard input", "i"),
        Flag("quiet", BOOLEAN, "Do not show progress; none is shown anyway", "q"),
    ),
)
IMPORT = Command(
    "import",
    "Make an image of a tar archive of files, a URL or '-' for standard input",
    import_,
    "FILE|URL|- [REPOSITORY[:TAG]]",
    (
        Flag("change", LIST, "Instruction of a Dockerfile to apply; may be repeated", "c"),
        Flag("message", STRING, "Message of the image's history", "m"),
        Flag("platform", STRING, "Platform of the image, as in linux/arm64"),
    ),
)
