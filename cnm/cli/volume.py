"""`cnmctl volume`: Docker's volume commands, and `df`: what each volume takes, and who has it."""

from __future__ import annotations

import sys

from cnm.cli.client import Client, filters, quote
from cnm.cli.confirmation import confirmed
from cnm.cli.flags import BOOLEAN, FILTER, LABELS, MAP, STRING, Arguments, Command, Flag, Group
from cnm.cli.launcher_client import launcher
from cnm.cli.output import FORMAT_HELP, LIST_FORMAT, Listing, label_text, natural, show_inspected
from cnm.cli.quantities import decimal_size
from cnm.cli.report import for_each
from cnm.cli.transfer_display import show
from cnm.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_LISTING = Listing(
    "*formatter.volumeContext",
    ("Driver", "Name"),
    {
        "Driver": "DRIVER",
        "Labels": "LABELS",
        "Links": "LINKS",
        "Mountpoint": "MOUNTPOINT",
        "Name": "VOLUME NAME",
        "Scope": "SCOPE",
        "Size": "SIZE",
    },
    "Name",
)
_SPACE = Listing(
    "*volume.space",
    ("Name", "Driver", "UsedBy", "LastUsed", "Size", "Reclaimable"),
    {
        "Name": "VOLUME NAME",
        "Driver": "DRIVER",
        "UsedBy": "USED BY",
        "LastUsed": "LAST USED",
        "Size": "SIZE",
        "Reclaimable": "RECLAIMABLE",
    },
    "Name",
)
_UNKNOWN = "N/A"
_FILTER = Flag("filter", FILTER, "Show only what matches NAME=VALUE; may be repeated", "f")

PRUNE_WARNING = "WARNING! This will remove {} local volumes not used by at least one container."


def _path(name: str) -> str:
    return f"/volumes/{quote(name)}"


def create(client: Client, arguments: Arguments) -> int:
    name = (*arguments.operands, "")[0]
    if name and arguments["name"]:
        raise InvalidParameter(
            "conflicting options: either specify --name or provide positional arg, not both"
        )
    body = {
        "Name": name or arguments["name"],
        "Driver": arguments["driver"],
        "DriverOpts": arguments["opt"],
        "Labels": arguments["label"],
    }
    print(launcher(client).post("/volumes/create", body)["Name"])
    return 0


def ls(client: Client, arguments: Arguments) -> int:
    found = _found(client, filters(arguments["filter"]))
    found.sort(key=lambda volume: natural(volume["Name"]))
    return _LISTING.show(
        [_row(volume) for volume in found], arguments, [volume.get("Labels") or {} for volume in found]
    )


def _found(client: Client, query: dict[str, str]) -> list[dict[str, Any]]:
    """What drivers do not tell is said beside."""
    answer = launcher(client).get("/volumes", query)
    for warning in answer["Warnings"] or ():
        print(f"WARNING: {warning}", file=sys.stderr)
    return answer["Volumes"] or []


def _row(volume: dict[str, Any]) -> dict[str, str]:
    return {
        "Driver": volume["Driver"],
        "Labels": label_text(volume.get("Labels") or {}),
        "Links": _UNKNOWN,
        "Mountpoint": volume["Mountpoint"],
        "Name": volume["Name"],
        "Scope": volume["Scope"],
        "Size": _UNKNOWN,
    }


def inspect(client: Client, arguments: Arguments) -> int:
    daemon = launcher(client)
    return show_inspected(
        arguments.operands,
        lambda name: daemon.get(_path(name), {"size": "1"}),
        arguments["format"],
        lambda volume: volume,
    )


def rm(client: Client, arguments: Arguments) -> int:
    daemon = launcher(client)
    query = {"force": "1"} if arguments["force"] else None
    return for_each(arguments.operands, lambda name: daemon.delete(_path(name), query=query))


def prune(client: Client, arguments: Arguments) -> int:
    which = "all" if arguments["all"] else "anonymous"
    if not arguments["force"] and not confirmed(PRUNE_WARNING.format(which)):
        return 0
    wanted = {**arguments["filter"], **({"all": ["true"]} if arguments["all"] else {})}
    answer = launcher(client).post("/volumes/prune", query=filters(wanted))
    if deleted := answer["VolumesDeleted"] or []:
        print("Deleted Volumes:", *deleted, "", sep="\n")
    print(f"Total reclaimed space: {decimal_size(answer['SpaceReclaimed'])}")
    return 0


def df(client: Client, arguments: Arguments) -> int:
    found = _found(client, {**filters(arguments["filter"]), "size": "1"})
    found.sort(key=lambda volume: max(volume["UsageData"]["Size"], 0), reverse=True)
    _SPACE.show([_space(volume) for volume in found], arguments)
    if arguments["format"] in ("", "table"):
        total, unused = (sum(map(each, found)) for each in (_size, _reclaimable))
        print(f"\n{decimal_size(total)} in {len(found)} volumes, {decimal_size(unused)} of it reclaimable")
    return 0


def move(client: Client, arguments: Arguments) -> int:
    name, host = arguments.operands
    body = {"Host": host, "Force": arguments["force"]}
    told = launcher(client).stream(f"/cnm/v1{_path(name)}/move", method="POST", body=body)
    show(told, quiet=arguments["quiet"])
    return 0


def keep(client: Client, arguments: Arguments) -> int:
    daemon = launcher(client)
    return for_each(arguments.operands, lambda name: daemon.post(f"/cnm/v1{_path(name)}/keep"))


def _space(volume: dict[str, Any]) -> dict[str, str]:
    status = volume["Status"]
    known = volume["UsageData"]["Size"] >= 0
    return {
        "Name": volume["Name"],
        "Driver": volume["Driver"],
        "UsedBy": ",".join(status["UsedBy"]) or "nobody",
        "LastUsed": "now" if status["MountedBy"] else status["LastUsedAt"].partition(".")[0] or "never",
        "Size": decimal_size(_size(volume)) if known else _UNKNOWN,
        "Reclaimable": decimal_size(_reclaimable(volume)) if known else _UNKNOWN,
    }


def _size(volume: dict[str, Any]) -> int:
    return max(int(volume["UsageData"]["Size"]), 0)


def _reclaimable(volume: dict[str, Any]) -> int:
    return 0 if volume["UsageData"]["RefCount"] else _size(volume)


GROUP = Group(
    "volume",
    "Manage volumes",
    (
        Command(
            "create",
            "Create a volume",
            create,
            "[VOLUME]",
            (
                Flag("driver", STRING, "Driver of the volume", "d", "local"),
                Flag("label", LABELS, "Label of the volume, KEY[=VALUE]"),
                Flag("name", STRING, "Name of the volume"),
                Flag("opt", MAP, "Option for the driver, KEY=VALUE", "o"),
            ),
        ),
        Command(
            "df",
            "Show what volumes take of the disk, who has them, and what can be got back",
            df,
            "",
            (_FILTER, LIST_FORMAT),
        ),
        Command(
            "inspect",
            "Show volumes in full, with sizes and users",
            inspect,
            "VOLUME [VOLUME...]",
            (Flag("format", STRING, FORMAT_HELP, "f"),),
        ),
        Command(
            "keep",
            "Have volumes again of which nobody can say whether they have come to another host",
            keep,
            "VOLUME [VOLUME...]",
        ),
        Command(
            "ls",
            "List volumes",
            ls,
            "",
            (_FILTER, LIST_FORMAT, Flag("quiet", BOOLEAN, "Show names only", "q")),
            ("list",),
        ),
        Command(
            "move",
            "Take a volume with its data to another host of the cluster",
            move,
            "VOLUME HOST",
            (
                Flag("force", BOOLEAN, "Also where containers have it that do not run", "f"),
                Flag("quiet", BOOLEAN, "Do not show how far it is", "q"),
            ),
        ),
        Command(
            "prune",
            "Remove volumes that no container has",
            prune,
            "",
            (
                Flag("all", BOOLEAN, "Remove those with names, too", "a"),
                Flag("filter", FILTER, 'Prune only what matches NAME=VALUE (e.g. "label=KEY")'),
                Flag("force", BOOLEAN, "Do not ask", "f"),
            ),
        ),
        Command(
            "rm",
            "Remove volumes and everything in them",
            rm,
            "VOLUME [VOLUME...]",
            (Flag("force", BOOLEAN, "Also damaged ones; silent about what is not there", "f"),),
            ("remove",),
        ),
    ),
)
