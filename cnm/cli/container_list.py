"""`cnmctl ps`: list containers, as `docker ps` does."""

from __future__ import annotations

import re
import sys

from cnm.cli.client import Client, filters
from cnm.cli.flags import BOOLEAN, INTEGER, Arguments, Command, Flag
from cnm.cli.launcher_client import launcher
from cnm.cli.output import LIST_FLAGS, Listing, label_text
from cnm.cli.published_ports import ports_text
from cnm.cli.quantities import age, decimal_size, ellipsis, local_time, quoted
from cnm.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

LISTED = "*formatter.ContainerContext"
"""What the errors of templates call an item."""
COLUMNS = ("ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names")
_HEADINGS = {
    "Command": "COMMAND",
    "CreatedAt": "CREATED AT",
    "ID": "CONTAINER ID",
    "Image": "IMAGE",
    "Labels": "LABELS",
    "LocalVolumes": "LOCAL VOLUMES",
    "Mounts": "MOUNTS",
    "Names": "NAMES",
    "Networks": "NETWORKS",
    "Platform": "PLATFORM",
    "Ports": "PORTS",
    "RunningFor": "CREATED",
    "Size": "SIZE",
    "State": "STATE",
    "Status": "STATUS",
}


def ps(client: Client, arguments: Arguments) -> int:
    quiet, form = arguments["quiet"], arguments["format"]
    if quiet and form:
        print("WARNING: Ignoring custom format, because both --format and --quiet are set.", file=sys.stderr)
    query = filters(arguments["filter"])
    if arguments["all"]:
        query["all"] = "1"
    last = arguments["last"]
    if arguments["latest"] and last == -1:
        last = 1
    if last != -1:
        query["limit"] = str(last)
    with_size = arguments["size"] or (not quiet and bool(form) and _asks_for_size(form))
    if with_size:
        query["size"] = "1"
    return _show(launcher(client).get("/containers/json", query) or [], arguments)


class _Asked(dict[str, str]):
    """Fields of a container that does not exist, and whether its size is asked for."""

    size = False

    def __getitem__(self, name: str) -> str:
        self.size = self.size or name == "Size"
        return super().__getitem__(name)


def _asks_for_size(form: str) -> bool:
    """Sizes are looked for only where they are shown, since each takes the daemon a walk over all files.

    Raises InvalidParameter for a template that does not work, before the daemon is asked.
    """
    from cnm.cli.template import Struct, Template, TemplateError

    fields = _Asked((name, "") for name in _HEADINGS)
    record = Struct(LISTED, fields)
    record.methods["Label"] = lambda _: ""
    step = "parse"
    try:
        template = Template(form)
        step = "execute"
        template.execute(record)
    except TemplateError as error:
        reason = str(error).removeprefix("template parsing error: ")
        raise InvalidParameter(f"failed to {step} template: {reason}") from None
    return fields.size or "json ." in form


def _show(containers: list[dict[str, Any]], arguments: Arguments) -> int:
    columns = (*COLUMNS, "Size") if arguments["size"] else COLUMNS
    listing = Listing(LISTED, columns, _HEADINGS)
    if arguments["quiet"]:
        arguments.values["format"] = ""
    is_plain = arguments["format"] in ("", "table")
    wanted = (("ID",) if arguments["quiet"] else columns) if is_plain else tuple(_HEADINGS)
    truncated = not arguments["no-trunc"]
    rows = [{name: _FIELDS[name](each, truncated) for name in wanted} for each in containers]
    return listing.show(rows, arguments, [each.get("Labels") or {} for each in containers])


def _id(container: dict[str, Any], truncated: bool) -> str:
    return str(container["Id"][:12] if truncated else container["Id"])


def _image(container: dict[str, Any], truncated: bool) -> str:
    """Without the digest, and as short as a user writes it, where the list is truncated."""
    image = container.get("Image") or ""
    if not image:
        return "<no image>"
    if not truncated:
        return str(image)
    short = _short_digest(container.get("ImageID") or "")
    if short == _short_digest(image):
        return short
    if re.fullmatch(r"[0-9a-f]{64}", image):
        return str(image)
    name = image.partition("@")[0]
    return str(name.removeprefix("docker.io/").removeprefix("library/"))


def _short_digest(text: str) -> str:
    return text.partition(":")[2][:12] if ":" in text else text[:12]


def _command(container: dict[str, Any], truncated: bool) -> str:
    command = container.get("Command") or ""
    return quoted(ellipsis(command, 20) if truncated else command)


def _names(container: dict[str, Any], truncated: bool) -> str:
    """The container's own name; names that links gave it have a slash within and are for the long list."""
    names = [name.removeprefix("/") for name in container.get("Names") or ()]
    return next((name for name in names if "/" not in name), "") if truncated else ",".join(names)


def _mounts(container: dict[str, Any], truncated: bool) -> str:
    names = [mount.get("Name") or mount.get("Source") or "" for mount in container.get("Mounts") or ()]
    return ",".join(ellipsis(name, 15) if truncated else name for name in names)


def _local_volumes(container: dict[str, Any], _: bool) -> str:
    return str(sum(mount.get("Driver") == "local" for mount in container.get("Mounts") or ()))


def _networks(container: dict[str, Any], _: bool) -> str:
    return ",".join(sorted((container.get("NetworkSettings") or {}).get("Networks") or ()))


def _size(container: dict[str, Any], _: bool) -> str:
    written = decimal_size(container.get("SizeRw") or 0, 3)
    whole = container.get("SizeRootFs") or 0
    return f"{written} (virtual {decimal_size(whole, 3)})" if whole > 0 else written


def _platform(container: dict[str, Any], _: bool) -> str | None:
    platform = (container.get("ImageManifestDescriptor") or {}).get("platform")
    if not platform:
        return None
    parts = (platform.get("os"), platform.get("architecture"), platform.get("variant"))
    return "/".join(part for part in parts if part)


_FIELDS: dict[str, Callable[[dict[str, Any], bool], str | None]] = {
    "Command": _command,
    "CreatedAt": lambda container, _: local_time(container["Created"]),
    "ID": _id,
    "Image": _image,
    "Labels": lambda container, _: label_text(container.get("Labels") or {}),
    "LocalVolumes": _local_volumes,
    "Mounts": _mounts,
    "Names": _names,
    "Networks": _networks,
    "Platform": _platform,
    "Ports": lambda container, _: ports_text(container.get("Ports") or ()),
    "RunningFor": lambda container, _: age(container["Created"]),
    "Size": _size,
    "State": lambda container, _: container.get("State") or "",
    "Status": lambda container, _: container.get("Status") or "",
}
"""Each field of a container as text, None for none; the second argument is whether long texts are shortened."""

PS = Command(
    "ps",
    "List containers",
    ps,
    "",
    (
        Flag("all", BOOLEAN, "Show those that do not run, too", "a"),
        *LIST_FLAGS,
        Flag("last", INTEGER, "Show the N that were created last, whether they run or not", "n", -1),
        Flag("latest", BOOLEAN, "Show the one that was created last", "l"),
        Flag("size", BOOLEAN, "Show how much they have written, and their whole size", "s"),
    ),
)
