"""`cnmctl dns`: names of a network beside those of its sandboxes."""

from __future__ import annotations

from cnm.cli.client import Client, quote
from cnm.cli.flags import BOOLEAN, Arguments, Command, Flag, Group
from cnm.cli.output import natural, table


def _path(network: str, name: str = "") -> str:
    whole = f"/cnm/v1/networks/{quote(network)}/dns"
    return f"{whole}/{quote(name)}" if name else whole


def add(client: Client, arguments: Arguments) -> int:
    network, name, value = arguments.operands
    print(client.post(_path(network), {"Name": name, "Value": value})["Name"])
    return 0


def ls(client: Client, arguments: Arguments) -> int:
    records = sorted(client.get(_path(arguments.operands[0])), key=lambda record: natural(record["Name"]))
    if arguments["quiet"]:
        for name in dict.fromkeys(record["Name"] for record in records):
            print(name)
        return 0
    rows = [(record["Name"], record["Type"], record["Value"]) for record in records]
    print(table([("NAME", "TYPE", "VALUE"), *rows]))
    return 0


def rm(client: Client, arguments: Arguments) -> int:
    network, name, *value = arguments.operands
    client.delete(_path(network, name), query={"value": value[0]} if value else {})
    print(name)
    return 0


GROUP = Group(
    "dns",
    "Manage names of networks beside those of sandboxes",
    (
        Command(
            "add",
            "Add a name for an address, or for another name; *.NAME stands for everything below NAME",
            add,
            "NETWORK NAME ADDRESS|NAME",
        ),
        Command(
            "ls",
            "List the names that were added to a network",
            ls,
            "NETWORK",
            (Flag("quiet", BOOLEAN, "Only display names", "q"),),
            ("list",),
        ),
        Command(
            "rm",
            "Remove a name from a network, with this value or whatever it stands for",
            rm,
            "NETWORK NAME [ADDRESS|NAME]",
            (),
            ("remove",),
        ),
    ),
)
