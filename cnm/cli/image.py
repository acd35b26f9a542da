"""`cnmctl image`: the commands about images under their noun, and `prune`."""

from __future__ import annotations

from cnm.cli.client import Client, filters
from cnm.cli.confirmation import confirmed
from cnm.cli.flags import BOOLEAN, FILTER, Arguments, Command, Flag, Group
from cnm.cli.images import IMAGES, RMI
from cnm.cli.inspection import IMAGE_INSPECT
from cnm.cli.launcher_client import launcher
from cnm.cli.main import command
from cnm.cli.quantities import decimal_size

VERBS = ("history", "import", "load", "pull", "push", "save", "tag")
"""Commands that are there without the noun too, under the same name."""


def prune(client: Client, arguments: Arguments) -> int:
    everything = arguments["all"]
    what = "images without at least one container associated to them" if everything else "dangling images"
    if not arguments["force"] and not confirmed(f"WARNING! This will remove all {what}."):
        return 0
    wanted = {**arguments["filter"], "dangling": ["false" if everything else "true"]}
    answer = launcher(client).post("/images/prune", query=filters(wanted))
    if deleted := answer.get("ImagesDeleted"):
        print("Deleted Images:")
        for each in deleted:
            print(f"untagged: {each['Untagged']}" if each.get("Untagged") else f"deleted: {each['Deleted']}")
        print()
    print(f"Total reclaimed space: {decimal_size(answer.get('SpaceReclaimed') or 0)}")
    return 0


PRUNE = Command(
    "prune",
    "Remove images without a name that no container is made from",
    prune,
    "",
    (
        Flag("all", BOOLEAN, "Those with a name too", "a"),
        Flag("filter", FILTER, 'Prune only what matches NAME=VALUE (e.g. "until=24h")'),
        Flag("force", BOOLEAN, "Do not ask", "f"),
    ),
)


def _commands() -> list[Command]:
    listing = Command("ls", IMAGES.summary, IMAGES.run, IMAGES.operands, IMAGES.flags, ("list",))
    removing = Command("rm", RMI.summary, RMI.run, RMI.operands, RMI.flags, ("remove",))
    found = [*map(command, VERBS), listing, removing, IMAGE_INSPECT, PRUNE]
    return sorted(found, key=lambda each: each.name)


GROUP = Group("image", "Manage images", _commands())
