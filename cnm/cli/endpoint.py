"""`cnmctl endpoint`: the attachment points of networks, one step at a time."""

from __future__ import annotations

from cnm.cli.client import Client, quote
from cnm.cli.endpoint_config import ENDPOINT_FLAGS, endpoint_config
from cnm.cli.flags import BOOLEAN, STRING, Arguments, Command, Flag, Group
from cnm.cli.output import FORMAT_HELP, LIST_FLAGS, Listing, matching, natural, short_id, show_inspected
from cnm.cli.publish import summary
from cnm.cli.report import for_each

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cnm.cli.template import Struct

LISTING = Listing(
    "*endpoint.endpointContext",
    ("ID", "Network", "Name", "Sandbox", "IfName", "IPv4", "IPv6", "MAC"),
    {
        "ID": "ENDPOINT ID",
        "Network": "NETWORK",
        "Name": "NAME",
        "Sandbox": "SANDBOX",
        "IfName": "IFNAME",
        "IPv4": "IPV4",
        "IPv6": "IPV6",
        "MAC": "MAC",
        "State": "STATE",
        "Ports": "PORTS",
    },
)

FILTERS = {
    "id": lambda endpoint, text: endpoint["Id"].startswith(text),
    "name": lambda endpoint, text: text in endpoint["Name"],
    "network": lambda endpoint, text: endpoint["Network"] == text or endpoint["NetworkId"].startswith(text),
    "sandbox": lambda endpoint, text: (
        bool(endpoint["SandboxId"])
        and (endpoint["Sandbox"] == text or endpoint["SandboxId"].startswith(text))
    ),
}


def path(reference: str, *rest: str) -> str:
    """Where the API keeps the endpoint, by its id or `NETWORK/NAME`."""
    return "/".join(("/cnm/v1/endpoints", quote(reference), *rest))


def create(client: Client, arguments: Arguments) -> int:
    network, name = arguments.operands
    body = {"Network": network, "Name": name, "EndpointConfig": endpoint_config(arguments)}
    print(client.post("/cnm/v1/endpoints", body)["Id"])
    return 0


def join(client: Client, arguments: Arguments) -> int:
    endpoint, sandbox = arguments.operands
    client.post(path(endpoint, "join"), {"Sandbox": sandbox})
    return 0


def leave(client: Client, arguments: Arguments) -> int:
    client.post(path(arguments.operands[0], "leave"), {"Wait": arguments["wait"]})
    return 0


def ls(client: Client, arguments: Arguments) -> int:
    endpoints = matching(client.get("/cnm/v1/endpoints"), arguments["filter"], FILTERS)
    endpoints.sort(key=lambda endpoint: (natural(endpoint["Network"]), natural(endpoint["Name"])))
    return LISTING.show([_row(endpoint, arguments) for endpoint in endpoints], arguments)


def _row(endpoint: dict[str, Any], arguments: Arguments) -> dict[str, str]:
    return {
        "ID": short_id(endpoint["Id"], arguments),
        "Network": endpoint["Network"],
        "Name": endpoint["Name"],
        "Sandbox": endpoint["Sandbox"],
        "IfName": endpoint["IfName"],
        "IPv4": endpoint["IPv4Address"],
        "IPv6": endpoint["IPv6Address"],
        "MAC": endpoint["MacAddress"],
        "State": endpoint["State"],
        "Ports": ", ".join(map(summary, endpoint["Ports"])),
    }


def inspect(client: Client, arguments: Arguments) -> int:
    return show_inspected(
        arguments.operands, lambda name: client.get(path(name)), arguments["format"], _struct
    )


def _struct(endpoint: dict[str, Any]) -> Struct:
    from cnm.cli.template import Struct

    fields = {"ID" if key == "Id" else key: endpoint[key] for key in endpoint}
    return Struct("endpoint.Inspect", fields, json=endpoint)


def rm(client: Client, arguments: Arguments) -> int:
    query = {"force": "1" if arguments["force"] else "0"}
    return for_each(arguments.operands, lambda name: client.delete(path(name), query=query))


GROUP = Group(
    "endpoint",
    "Manage endpoints: the attachment points of networks",
    (
        Command("create", "Create an endpoint on a network", create, "NETWORK NAME", ENDPOINT_FLAGS),
        Command(
            "inspect",
            "Show endpoints in full",
            inspect,
            "NETWORK/NAME [NETWORK/NAME...]",
            (Flag("format", STRING, FORMAT_HELP, "f"),),
        ),
        Command("join", "Put an endpoint into a sandbox", join, "NETWORK/NAME SANDBOX"),
        Command(
            "leave",
            "Take an endpoint out of its sandbox",
            leave,
            "NETWORK/NAME",
            (Flag("wait", BOOLEAN, "Return only when the kernel has removed everything"),),
        ),
        Command("ls", "List endpoints", ls, "", LIST_FLAGS, ("list",)),
        Command(
            "rm",
            "Remove endpoints",
            rm,
            "NETWORK/NAME [NETWORK/NAME...]",
            (Flag("force", BOOLEAN, "Take it out of its sandbox first", "f"),),
            ("remove",),
        ),
    ),
)
