"""`cnmctl network peers`: which hosts have endpoints in a network of the cluster, and which."""

from __future__ import annotations

from cnm.cli.client import Client, quote
from cnm.cli.flags import BOOLEAN, Arguments, Command, Flag
from cnm.cli.output import LIST_FORMAT, Listing, natural, short_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HOSTS = Listing(
    "*network.peerContext",
    ("Node", "Address", "Endpoints", "Status"),
    {"Node": "NODE", "Address": "ADDRESS", "Endpoints": "ENDPOINTS", "Status": "STATUS"},
    quiet="Node",
)
ENDPOINTS = Listing(
    "*network.peerEndpointContext",
    ("ID", "Node", "IPv4", "IPv6", "MAC", "Names"),
    {
        "ID": "ENDPOINT ID",
        "Node": "NODE",
        "IPv4": "IPV4",
        "IPv6": "IPV6",
        "MAC": "MAC",
        "Names": "NAMES",
    },
)


def peers(client: Client, arguments: Arguments) -> int:
    wanted = arguments["endpoints"]
    found = client.get(
        f"/cnm/v1/networks/{quote(arguments.operands[0])}/peers", {"endpoints": "1"} if wanted else None
    )
    if wanted:
        rows = sorted((_endpoint(each, arguments) for each in found["Endpoints"]), key=_place)
        return ENDPOINTS.show(rows, arguments)
    hosts = sorted(found["Peers"], key=lambda each: natural(each["Name"]))
    return HOSTS.show([_host(each) for each in hosts], arguments)


def _host(peer: dict[str, Any]) -> dict[str, str]:
    return {
        "Node": peer["Name"],
        "Address": peer["Address"] or "-",
        "Endpoints": str(peer["Endpoints"]),
        "Status": ("alive" if peer["Alive"] else "away") + (" (this host)" if peer["Local"] else ""),
    }


def _endpoint(endpoint: dict[str, Any], arguments: Arguments) -> dict[str, str]:
    return {
        "ID": short_id(endpoint["Id"], arguments),
        "Node": endpoint["Node"],
        "IPv4": endpoint["IPv4Address"] or "-",
        "IPv6": endpoint["IPv6Address"] or "-",
        "MAC": endpoint["MacAddress"],
        "Names": ",".join(endpoint["Names"]),
    }


def _place(row: dict[str, str]) -> tuple[list[str | int], list[str | int]]:
    return natural(row["Node"]), natural(row["Names"])


PEERS = Command(
    "peers",
    "List the hosts that have endpoints in a network of the cluster",
    peers,
    "NETWORK",
    (
        Flag("endpoints", BOOLEAN, "List the endpoints, with the hosts that they are on"),
        LIST_FORMAT,
        Flag("no-trunc", BOOLEAN, "Do not shorten the output"),
        Flag("quiet", BOOLEAN, "Show names of hosts, or IDs of endpoints, only", "q"),
    ),
)
