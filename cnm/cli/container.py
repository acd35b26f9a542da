"""`cnmctl container`: the commands about containers under their noun, and `container prune`."""

from __future__ import annotations

from cnm.cli.client import Client, filters
from cnm.cli.confirmation import confirmed
from cnm.cli.container_list import PS
from cnm.cli.flags import BOOLEAN, FILTER, Arguments, Command, Flag, Group
from cnm.cli.inspection import CONTAINER_INSPECT
from cnm.cli.launcher_client import launcher
from cnm.cli.main import command
from cnm.cli.quantities import decimal_size

VERBS = (
    *(
        "attach",
        "commit",
        "cp",
        "create",
        "diff",
        "exec",
        "export",
        "kill",
        "logs",
        "pause",
        "rename",
        "restart",
    ),
    *("rm", "run", "start", "stats", "stop", "top", "unpause", "update", "wait"),
)
"""Commands that are there without the noun too, under the same name."""


def prune(client: Client, arguments: Arguments) -> int:
    if not arguments["force"] and not confirmed("WARNING! This will remove all stopped containers."):
        return 0
    answer = launcher(client).post("/containers/prune", query=filters(arguments["filter"]))
    if deleted := answer.get("ContainersDeleted"):
        print("Deleted Containers:", *deleted, "", sep="\n")
    print(f"Total reclaimed space: {decimal_size(answer.get('SpaceReclaimed') or 0)}")
    return 0


PRUNE = Command(
    "prune",
    "Remove all containers that do not run",
    prune,
    "",
    (
        Flag("filter", FILTER, 'Prune only what matches NAME=VALUE (e.g. "until=24h")'),
        Flag("force", BOOLEAN, "Do not ask", "f"),
    ),
)


def _commands() -> list[Command]:
    listing = Command("ls", PS.summary, PS.run, PS.operands, PS.flags, ("list", "ps"))
    found = [*map(command, VERBS), listing, CONTAINER_INSPECT, PRUNE]
    return sorted(found, key=lambda each: each.name)


GROUP = Group("container", "Manage containers", _commands())
