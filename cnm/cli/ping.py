"""`cnmctl cluster ping`: whether other nodes answer, over the path that networks use, and what is wrong where not."""

from __future__ import annotations

from cnm.cli.client import Client
from cnm.cli.flags import BOOLEAN, Arguments, Command, Flag
from cnm.cli.output import LIST_FORMAT, Listing, natural

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LISTING = Listing(
    "*cluster.pingContext",
    ("Name", "Address", "RTT", "MTU", "State"),
    {
        "Name": "NODE",
        "Address": "ADDRESS",
        "RTT": "RTT",
        "UnderlayRTT": "UNDERLAY RTT",
        "MTU": "MTU",
        "WantedMTU": "WANTED MTU",
        "State": "STATE",
        "Detail": "DETAIL",
    },
    quiet="Name",
)


def ping(client: Client, arguments: Arguments) -> int:
    found = client.post("/cnm/v1/cluster/ping", {"Nodes": arguments.operands})
    if not arguments.operands:
        found = sorted(found, key=lambda each: natural(each["Name"]))
    plain = arguments["format"] in ("", "table")
    LISTING.show([_row(each, plain) for each in found], arguments)
    return 0 if all(each["State"] == "ok" for each in found) else 1


def _row(node: dict[str, Any], plain: bool) -> dict[str, str]:
    """The plain table says in one column what is wrong."""
    return {
        "Name": node["Name"],
        "Address": node["Address"] or "-",
        "RTT": _time(node["Rtt"]),
        "UnderlayRTT": _time(node["UnderlayRtt"]),
        "MTU": str(node["Mtu"] or "-"),
        "WantedMTU": str(node["WantedMtu"] or "-"),
        "State": node["Detail"] or node["State"] if plain else node["State"],
        "Detail": node["Detail"],
    }


def _time(milliseconds: float) -> str:
    return f"{milliseconds:.3g} ms" if milliseconds else "-"


PING = Command(
    "ping",
    "Ask nodes of the cluster for a sign of life, over the path that networks use",
    ping,
    "[NODE...]",
    (
        LIST_FORMAT,
        Flag("quiet", BOOLEAN, "Show the nodes' names only", "q"),
    ),
)
