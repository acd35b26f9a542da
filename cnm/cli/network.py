"""`cnmctl network`: Docker's network commands, a sandbox standing where Docker has a container."""

from __future__ import annotations

import sys

from cnm.cli.client import Client, filters, quote
from cnm.cli.confirmation import confirmed
from cnm.cli.endpoint_config import ENDPOINT_FLAGS, endpoint_config
from cnm.cli.flags import BOOLEAN, FILTER, LABELS, MAP, STRING, STRINGS, Arguments, Command, Flag, Group
from cnm.cli.output import (
    FORMAT_HELP,
    LIST_FLAGS,
    Listing,
    created_text,
    label_text,
    natural,
    short_id,
    show_inspected,
)
from cnm.cli.peers import PEERS
from cnm.cli.report import for_each

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cnm.cli.template import Struct

LISTING = Listing(
    "*network.networkContext",
    ("ID", "Name", "Driver", "Scope"),
    {
        "ID": "NETWORK ID",
        "Name": "NAME",
        "Driver": "DRIVER",
        "Scope": "SCOPE",
        "IPv4": "IPV4",
        "IPv6": "IPV6",
        "Internal": "INTERNAL",
        "Labels": "LABELS",
        "CreatedAt": "CREATED AT",
    },
)

_SHOWN_TO_DOCKER = "cnm.docker"

PRUNE_WARNING = "WARNING! This will remove all custom networks not used by at least one container."


def _path(reference: str, *rest: str) -> str:
    return "/".join(("/networks", quote(reference), *rest))


def create(client: Client, arguments: Arguments) -> int:
    from cnm.cli.ipam_options import ipam_configs

    configs = ipam_configs(
        arguments["subnet"], arguments["ip-range"], arguments["gateway"], arguments["aux-address"]
    )
    body: dict[str, Any] = {
        "Name": arguments.operands[0],
        "Driver": arguments["driver"],
        "Scope": arguments["scope"],
        "IPAM": {"Driver": arguments["ipam-driver"], "Options": arguments["ipam-opt"], "Config": configs},
        "Internal": arguments["internal"],
        "Attachable": arguments["attachable"],
        "Ingress": arguments["ingress"],
        "ConfigOnly": arguments["config-only"],
        "Options": arguments["opt"] | ({_SHOWN_TO_DOCKER: "true"} if arguments["docker"] else {}),
        "Labels": arguments["label"],
    }
    if arguments["config-from"]:
        body["ConfigFrom"] = {"Network": arguments["config-from"]}
    for family in ("ipv4", "ipv6"):
        if family in arguments.given:
            body[f"EnableIP{family[2:]}"] = arguments[family]
    answer = client.post("/networks/create", body)
    if answer.get("Warning"):
        print(f"WARNING: {answer['Warning']}", file=sys.stderr)
    print(answer["Id"])
    return 0


def ls(client: Client, arguments: Arguments) -> int:
    networks = sorted(
        client.get("/networks", filters(arguments["filter"])), key=lambda network: natural(network["Name"])
    )
    rows = [_row(network, arguments) for network in networks]
    return LISTING.show(rows, arguments, [network.get("Labels") or {} for network in networks])


def _row(network: dict[str, Any], arguments: Arguments) -> dict[str, str]:
    return {
        "ID": short_id(network["Id"], arguments),
        "Name": network["Name"],
        "Driver": network["Driver"],
        "Scope": network["Scope"],
        "IPv4": _boolean_text(network.get("EnableIPv4")),
        "IPv6": _boolean_text(network.get("EnableIPv6")),
        "Internal": _boolean_text(network.get("Internal")),
        "Labels": label_text(network.get("Labels") or {}),
        "CreatedAt": created_text(network.get("Created", ""), arguments),
    }


def _boolean_text(value: object) -> str:
    return "true" if value else "false"


def inspect(client: Client, arguments: Arguments) -> int:
    query = {"verbose": "true"} if arguments["verbose"] else None
    return show_inspected(
        arguments.operands, lambda name: client.get(_path(name), query), arguments["format"], _struct
    )


def _struct(network: dict[str, Any]) -> Struct:
    from cnm.cli.network_record import network_record

    return network_record(network)


def connect(client: Client, arguments: Arguments) -> int:
    network, sandbox = arguments.operands
    client.post(
        _path(network, "connect"), {"Container": sandbox, "EndpointConfig": endpoint_config(arguments)}
    )
    return 0


def disconnect(client: Client, arguments: Arguments) -> int:
    network, sandbox = arguments.operands
    client.post(_path(network, "disconnect"), {"Container": sandbox, "Force": arguments["force"]})
    return 0


def rm(client: Client, arguments: Arguments) -> int:
    return for_each(
        arguments.operands, lambda name: client.delete(_path(name)), missing_ok=arguments["force"]
    )


def prune(client: Client, arguments: Arguments) -> int:
    if not arguments["force"] and not confirmed(PRUNE_WARNING):
        return 0
    deleted = client.post("/networks/prune", query=filters(arguments["filter"]))["NetworksDeleted"] or []
    if deleted:
        print("Deleted Networks:", *deleted, "", sep="\n")
    return 0


GROUP = Group(
    "network",
    "Manage networks",
    (
        Command(
            "connect",
            "Connect a sandbox to a network",
            connect,
            "NETWORK SANDBOX",
            ENDPOINT_FLAGS,
        ),
        Command(
            "create",
            "Create a network",
            create,
            "NAME",
            (
                Flag("attachable", BOOLEAN, "Let standalone sandboxes join a global network"),
                Flag("aux-address", MAP, "Address that the driver must not give out, NAME=ADDRESS"),
                Flag("config-from", STRING, "Network whose configuration this one takes"),
                Flag("config-only", BOOLEAN, "Create a configuration that other networks can take"),
                Flag("docker", BOOLEAN, "Let the network of driver overlay appear in every host's Docker"),
                Flag("driver", STRING, "Driver of the network", "d", "bridge"),
                Flag("gateway", STRINGS, "Gateway of a subnet, an IPv4 or IPv6 address"),
                Flag("ingress", BOOLEAN, "Create the network of the routing mesh"),
                Flag("internal", BOOLEAN, "Keep traffic from and to the outside away"),
                Flag("ip-range", STRINGS, "Part of a subnet from which addresses are given out"),
                Flag("ipam-driver", STRING, "Driver that manages the addresses", "", "default"),
                Flag("ipam-opt", MAP, "Option for the IPAM driver, KEY=VALUE"),
                Flag("ipv4", BOOLEAN, "Give out IPv4 addresses", "", True),
                Flag("ipv6", BOOLEAN, "Give out IPv6 addresses"),
                Flag("label", LABELS, "Label of the network, KEY[=VALUE]"),
                Flag("opt", MAP, "Option for the driver, KEY=VALUE", "o"),
                Flag("scope", STRING, "Where the network is known: local or global"),
                Flag("subnet", STRINGS, "Subnet in CIDR form"),
            ),
        ),
        Command(
            "disconnect",
            "Disconnect a sandbox from a network",
            disconnect,
            "NETWORK SANDBOX",
            (Flag("force", BOOLEAN, "Disconnect even where the driver cannot be reached", "f"),),
        ),
        Command(
            "inspect",
            "Show networks in full",
            inspect,
            "NETWORK [NETWORK...]",
            (
                Flag("format", STRING, FORMAT_HELP, "f"),
                Flag("verbose", BOOLEAN, "Add what helps to find faults", "v"),
            ),
        ),
        Command("ls", "List networks", ls, "", LIST_FLAGS, ("list",)),
        PEERS,
        Command(
            "prune",
            "Remove all networks that nothing uses",
            prune,
            "",
            (
                Flag("filter", FILTER, 'Prune only what matches NAME=VALUE (e.g. "until=24h")'),
                Flag("force", BOOLEAN, "Do not ask", "f"),
            ),
        ),
        Command(
            "rm",
            "Remove networks",
            rm,
            "NETWORK [NETWORK...]",
            (Flag("force", BOOLEAN, "Be silent about networks that do not exist", "f"),),
            ("remove",),
        ),
    ),
)
